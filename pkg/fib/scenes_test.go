// SPDX-License-Identifier: Apache-2.0

package fib_test

import (
	"testing"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/lab"
)

// TestAgreesInEveryScenario compares in the node and in a pod of each scenario that
// this kernel can do; the user-mode Linux one can all.
func TestAgreesInEveryScenario(t *testing.T) {
	for _, scenario := range lab.Scenarios() {
		if scenario.Possible() != nil {
			continue
		}
		t.Run(scenario.Name, func(t *testing.T) {
			s, err := scenario.Up(t.Context(), "../../bin", "../../bin/cni")
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			seen := outcomes{}
			err = s.Node.Do(func() error {
				k, err := kernel.Look(s.Pods()[0].Path())
				if err != nil {
					return err
				}
				defer k.Close()
				seen.add(compare(t, k.Host, 1))
				seen.add(compare(t, k.Pod, 2))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			seen.want(t, 30, "IPv4 output: unicast", "IPv4 output: local", "IPv4 output: multicast",
				"IPv6 output: unicast", "IPv6 output: local", "IPv6 output: multicast",
				"IPv4 input: unicast", "IPv4 input: local", "IPv6 input: unicast", "IPv6 input: local",
				"IPv4 output: network is unreachable", "IPv4 input: invalid argument", "IPv4 input: no route to host",
				"IPv4 table 254", "IPv6 table 254", "IPv6 table 255")
			t.Logf("%d tuples: %v", seen["tuples"], seen)
		})
	}
}
