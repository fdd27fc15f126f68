// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/integration/fixture"
)

// TestIndexOfHostEnd has a prevResult that gives the NIC's address to the node's end of the NIC, as plugins do that
// put this end first and leave the index as it was (ovs-cni#133). The address counts, and so does its gateway.
func TestIndexOfHostEnd(t *testing.T) {
	for name, call := range map[string]func(a *fixture.Attachment, verb string) fixture.Call{
		"coordinator": func(a *fixture.Attachment, verb string) fixture.Call { return a.Call(verb) },
		"route":       func(a *fixture.Attachment, verb string) fixture.Call { return a.Route(verb, fixture.Keys{"sbr": true, "master": nil, "bridge": nil}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["v4"], fixture.Chained)
			s.Plug(t, 0, "eth0")
			net1 := s.ByHand(t, 1, "net1", []netip.Prefix{netip.MustParsePrefix("10.7.168.201/16")}, netip.MustParseAddr("10.7.0.1"))
			net1.Prev.Interfaces = append([]*types100.Interface{{Name: "vethovs1"}}, net1.Prev.Interfaces...)
			call(net1, "ADD").Fine(t)
			call(net1, "CHECK").Fine(t)
			if got := fixture.Sh(t, s.Web.Netns, "ip route get 8.8.8.8 from 10.7.168.201"); !strings.Contains(got, "via 10.7.0.1 dev net1") {
				t.Errorf("packets from the address leave by %s", got)
			}
			call(net1, "DEL").Fine(t)
		})
	}
}
