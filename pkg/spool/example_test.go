// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"fmt"
	"log"

	"github.com/multihome/multihome/pkg/spool"
)

// Which sandboxes are on this node, with which addresses.
func Example() {
	d, err := spool.OpenDir(spool.Dir)
	if err != nil {
		log.Fatal(err)
	}
	all, err := spool.Sandboxes(d)
	for _, s := range all {
		fmt.Println(s.Namespace, s.Pod, s.Interface, s.Addresses, s.Gone)
	}
	fmt.Println(err) // names the files that can't be read
}
