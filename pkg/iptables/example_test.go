// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"fmt"
	"log"

	"github.com/multihome/multihome/pkg/iptables"
	"github.com/multihome/multihome/pkg/netstate"
)

// The rules of table mangle in the namespace of the calling thread.
func Example() {
	program, err := iptables.FirstInPath(iptables.Families[netstate.IPv4].Program)
	if err != nil {
		log.Fatal(err)
	}
	lines, err := iptables.Run("", program, "-t", "mangle", "-S")
	fmt.Println(lines, err)
}
