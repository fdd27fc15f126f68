// SPDX-License-Identifier: Apache-2.0

package survey_test

import (
	"fmt"
	"log"
	"net/netip"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/survey"
)

// By which way the node would send to a pod, as the kernel says.
func Example() {
	k, err := kernel.OpenHost()
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	answer, err := survey.Decide(k.Host, fib.Flow{Dst: netip.MustParseAddr("10.6.0.5")})
	fmt.Println(answer.Dev, answer.Via, err)
}
