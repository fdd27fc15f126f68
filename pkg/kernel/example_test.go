// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"log"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// What ADD would have to do for a rule of the pod's: reads without a lock, and changes
// nothing. Apply would.
func Example() {
	k, err := kernel.Look("/run/netns/pod")
	if err != nil {
		log.Fatal(err)
	}
	defer k.Close()
	snap := netstate.NewSnapshot()
	if err := k.ReadPod(snap); err != nil {
		log.Fatal(err)
	}
	var plan netstate.Plan
	plan.Want(netstate.Pod, "an example", netstate.Rule{Family: netstate.IPv4, Priority: 2000, Table: netstate.TableMain})
	ops, err := netstate.Diff(plan, snap)
	fmt.Println(ops, err)
}
