// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// oddNames are valid names of a link (dev_valid_name of net/core/dev.c) and of a NIC in
// CNI. Some are, or were, names of our files.
var oddNames = []string{
	".net1", "..foo", ".new-x", "x", ".users", ".routes", ".locks", ".half-written-",
	"net.100", "-x", "eth+", `"q"\`, "$HOME", "#*'", "naïve-ß", "fifteen-bytes-x",
}

// shared matches settings of net1 that stay, because NICs in one subnet need them.
var shared = regexp.MustCompile(`conf/net1/arp_\w+:\d`)

// TestOddInterfaceNames gives a pod NICs with such names, all at once: CHECK, repair,
// DEL and GC find the objects of each, and of no other.
func TestOddInterfaceNames(t *testing.T) {
	for name, chain := range map[string]string{
		"coordinator": fixture.Chained,
		"macvlan":     with(`"hostLink": "macvlan"`),
		"veth":        `{"type": "veth", "service_cidr": "10.96.0.0/12"}`,
		"route":       `{"type": "route", "master": "ens224", "bridge": "ens224.host"}`,
		"sbr":         `{"type": "route", "sbr": true}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.TwoLANs["v4"], fixture.Chained)
			first := chain
			if strings.Contains(chain, "route") {
				first = fixture.Chained
			}
			s.Plug(t, 0, lab.NIC, first)
			s.Plug(t, 1, "net1", chain) // what comes with the first NIC stays with the last
			before := s.State(t)
			for _, nic := range oddNames {
				s.Plug(t, 1, nic, chain)
			}
			records := func() string {
				var out string
				err := s.Node.Run(func() (err error) {
					out, err = fixture.Shell("find /run/multihome -type f 2>/dev/null || true")
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			others := slices.Clone(s.NICs)
			if first != chain {
				s.NICs = s.NICs[1:] // another test covers coordinator beside route
			}
			if name != "sbr" { // without a default in main, macvlan's CHECK fails
				s.Check(t)
			}
			s.NICs = others
			if name != "sbr" {
				for _, nic := range oddNames {
					if !strings.Contains(records(), s.Web.ContainerID+"/"+nic+"\n") {
						t.Errorf("there is no record of %s:\n%s", nic, records())
					}
				}
			}
			for i, nic := range oddNames {
				s.Unplug(t, nic)
				last := s.NICs[len(s.NICs)-1]
				if i == len(oddNames)/2 && name != "sbr" {
					if err := last.Network.Check(t.Context(), s.Web, last.Name); err != nil {
						t.Errorf("after DEL of half of them: %v", err)
					}
				}
			}
			fixture.Same(t, "DEL of all", before.Unnumbered().Unlike(shared), s.State(t).Unnumbered().Unlike(shared))

			for _, nic := range oddNames {
				s.Plug(t, 1, nic, chain)
			}
			var valid []types.GCAttachment
			for _, n := range s.NICs {
				if !slices.Contains(oddNames, n.Name) {
					valid = append(valid, types.GCAttachment{ContainerID: s.Web.ContainerID, IfName: n.Name})
				}
			}
			// Otherwise libcni calls DEL for each.
			s.OnNode(t, "cd /var/lib/cni/results; mv *-eth0 *-net1 /run; rm *; mv /run/*-eth0 /run/*-net1 .")
			if err := s.NICs[1].Network.GC(t.Context(), valid...); err != nil {
				t.Error(err)
			}
			for _, nic := range oddNames {
				if strings.Contains(records(), s.Web.ContainerID+"/"+nic+"\n") {
					t.Errorf("GC leaves the record of %s", nic)
				}
			}
			if name != "sbr" && !strings.Contains(records(), "net1") {
				t.Errorf("GC removes the record of net1, which is still alive:\n%s", records())
			}
		})
	}
}

// TestFormerRecords uses records of an earlier version, for links whose names begin
// with a dot, and a file that it left when it was killed while writing.
func TestFormerRecords(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["v4"], fixture.Chained)
	before := s.State(t)
	for _, nic := range []string{".net2", ".new-x"} {
		s.Plug(t, 1, nic)
	}
	// Records keep these names; add files that a killed write left.
	s.OnNode(t, fmt.Sprintf(`cd /run/multihome/%s
		test -f .net2 -a -f .new-x
		cp net1 .new-net1; head -c 20 net1 >.new-net7; : >.new-.net2; cp .new-x .new-.new-x`, s.Web.ContainerID))
	s.Check(t)
	for _, nic := range []string{".net2", ".new-x"} {
		s.Unplug(t, nic)
	}
	s.Check(t)
	if err := s.NICs[1].Network.GC(t.Context(), types.GCAttachment{ContainerID: s.Web.ContainerID, IfName: "net1"}); err != nil {
		t.Error(err)
	}
	fixture.Same(t, "GC", before.Unnumbered().Unlike(shared), s.State(t).Unnumbered().Unlike(shared))
}
