// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nodeconf"
)

// defaults are the CIDRs of the cluster, as the agent writes them.
const defaults = `{"serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "overlayPodCIDR": ["10.244.0.0/16"], "mend": true}`

// withDefaults gives a node a file of defaults.
func withDefaults(t *testing.T, l *lab.Lab, text string) {
	t.Helper()
	fixture.OwnEtcCNI(t, l)
	(&fixture.Site{Lab: l}).OnNode(t, "mkdir -p /etc/cni/multihome; cat >"+nodeconf.Path+" <<'.'\n"+text+"\n.")
}

// failing returns the names of the checks that fail.
func failing(s *lab.Scene) (names []string) {
	for _, r := range lab.RunAll(s.Checks("tcp")) {
		if r.Err != nil {
			names = append(names, r.Name)
		}
	}
	return names
}

// TestNodeDefaults chains a plugin without any key: the node's file is all that it needs. The
// control is a node without the file, where exactly the way to ClusterIPs fails.
func TestNodeDefaults(t *testing.T) {
	for _, plugin := range []string{"coordinator", "veth"} {
		t.Run(plugin, func(t *testing.T) {
			t.Parallel()
			chained := `{"type": "` + plugin + `"}`
			l := fixture.NewLab(t, lab.Ens192())
			withDefaults(t, l, defaults)
			s, err := l.NewScene(t.Context(), fixture.NewNetwork(t, l, chained))
			if err != nil {
				t.Fatal(err)
			}
			fixture.Holds(t, s)
			if err := s.Network.Check(t.Context(), s.Web, lab.NIC); err != nil {
				t.Error(err)
			}

			bare := fixture.NewScene(t, lab.Ens192(), chained)
			names := failing(bare)
			if len(names) == 0 {
				t.Error("without the file no check fails")
			}
			for _, name := range names {
				if !strings.HasPrefix(name, "pod to ClusterIP") {
					t.Errorf("without the file %s fails", name)
				}
			}
		})
	}
}

// TestNodeDefaultsChange gives the node another Service CIDR, and then takes a CIDR away: repair
// brings both to a living pod, and explain and show say where its CIDRs are from.
func TestNodeDefaultsChange(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, []lab.LAN{lab.Ens192()}, `{"type": "coordinator", "overlayPodCIDR": ["10.245.0.0/16"]}`)
	withDefaults(t, s.Lab, defaults)
	s.Plug(t, 0, lab.NIC)
	s.Check(t)
	routes := func() string { return fixture.Sh(t, s.Web.Netns, "ip -4 route show dev veth0") }
	if got := routes(); !strings.Contains(got, "10.96.0.0/12 ") || !strings.Contains(got, "10.245.0.0/16 ") || strings.Contains(got, "10.244.0.0/16 ") {
		t.Errorf("a pod has the routes\n%s", got)
	}

	withDefaults(t, s.Lab, `{"serviceCIDR": ["10.96.0.0/12", "172.30.0.0/16"]}`)
	if err := s.NICs[0].Network.Check(t.Context(), s.Web, lab.NIC); err == nil || !strings.Contains(err.Error(), "172.30.0.0/16") {
		t.Errorf("CHECK: %v, want it to miss the new CIDR", err)
	}
	if out := s.Repair(t, "/none", s.Web.ContainerID); !strings.Contains(out, "172.30.0.0/16") {
		t.Errorf("repair did\n%s", out)
	}
	s.Check(t)
	if got := routes(); !strings.Contains(got, "10.96.0.0/12 ") || !strings.Contains(got, "172.30.0.0/16 ") {
		t.Errorf("after repair the pod has the routes\n%s", got)
	}
	for _, args := range [][]string{{"show", s.Web.ContainerID}, {"explain", "-", "--netns", s.Web.ContainerID}} {
		out := fixture.RunOnNode(t, s.Lab, []byte(s.LANs[0].Conflist(s.Chained...)), args...)
		for _, want := range []string{
			`chain: overlayPodCIDR ["10.245.0.0/16"]`,
			"node file, " + nodeconf.Path + `: serviceCIDR ["10.96.0.0/12","172.30.0.0/16"]`,
			`built in: mode "auto"`,
		} {
			if !strings.Contains(out, want) {
				t.Errorf("%s doesn't say %s:\n%s", args[0], want, out)
			}
		}
	}

	withDefaults(t, s.Lab, `{"serviceCIDR": ["172.30.0.0/16"]}`)
	s.Repair(t, "/none", s.Web.ContainerID)
	if got := routes(); strings.Contains(got, "10.96.0.0/12 ") || !strings.Contains(got, "172.30.0.0/16 ") {
		t.Errorf("after the end of a CIDR the pod has the routes\n%s", got)
	}
	s.Check(t)

	// Damage takes nothing away from a living pod.
	before := s.State(t)
	withDefaults(t, s.Lab, `{"serviceCIDR": ["172.30`)
	if _, stderr, status := s.Multihome(t, "repair", "--conf-dir", "/none", s.Web.ContainerID); status == 0 || !strings.Contains(stderr, nodeconf.Path) {
		t.Errorf("repair: status %d, %s", status, stderr)
	}
	fixture.Same(t, "repair with damaged defaults", before, s.State(t))
}

// TestNodeDefaultsDamaged damages the file. ADD names it and goes on if the chain suffices. DEL,
// GC and a chain that is switched off don't mind.
func TestNodeDefaultsDamaged(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"half a file":     {`{"serviceCIDR": ["10.96.0.0/12"`, "want a JSON object of coordinator's keys"},
		"a bad value":     {`{"serviceCIDR": ["10.96"]}`, `serviceCIDR: ["10.96"]: want a list of CIDRs or addresses`},
		"another key":     {`{"serviceCIDRs": ["10.96.0.0/12"]}`, `unknown key "serviceCIDRs": the nearest known one is "serviceCIDR"`},
		"a default route": {`{"serviceCIDR": ["0.0.0.0/0"]}`, "is the default route"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			withDefaults(t, s.Lab, c.text)
			empty := s.State(t)
			needy := fixture.Keys{"serviceCIDR": nil}
			e := s.WebNIC.Call("ADD", needy).Fails(t)
			for _, want := range []string{nodeconf.Path, c.want, "name the CIDRs of Services in the network"} {
				if e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, want) {
					t.Errorf("ADD: %d, %s: want it to say %s", e.Code, e.Msg, want)
				}
			}
			fixture.Same(t, "ADD that fails", empty, s.State(t))
			s.WebNIC.Call("ADD", needy, fixture.Keys{"mode": "disabled"}).Fine(t)
			s.WebNIC.Call("DEL", needy).Fine(t)

			for _, verb := range []string{"ADD", "CHECK"} {
				if out := s.WebNIC.Call(verb).Run(t); !out.State.Success() || !strings.Contains(out.Stderr, nodeconf.Path) || !strings.Contains(out.Stderr, c.want) {
					t.Errorf("%s: %v, want it to succeed and to name the file: %s%s", verb, out.State, out.Stdout, out.Stderr)
				}
			}
			s.WebNIC.Call("STATUS", needy).Fine(t)
			gc := s.WebNIC.Call("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": []types.GCAttachment{}}, needy)
			gc.Env = nil
			gc.Fine(t)
			s.WebNIC.Call("DEL", needy).Fine(t)
			fixture.Same(t, "DEL", empty, s.State(t))
		})
	}
}

// TestNodeDefaultsOverlap has a file that leads the node's own subnet through the node: no
// network takes it. The control is a chain with the same key.
func TestNodeDefaultsOverlap(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	withDefaults(t, s.Lab, `{"hijackCIDR": ["10.6.7.0/24"]}`)
	empty := s.State(t)
	e := s.WebNIC.Call("ADD").Fails(t)
	for _, want := range []string{nodeconf.Path + ": hijackCIDR: 10.6.7.0/24: it overlaps 10.6.", "a subnet of the node itself"} {
		if !strings.Contains(e.Msg, want) {
			t.Errorf("ADD: %s: want it to say %s", e.Msg, want)
		}
	}
	fixture.Same(t, "ADD that fails", empty, s.State(t))
	s.WebNIC.Call("ADD", fixture.Keys{"hijackCIDR": []string{"10.6.7.0/24"}}).Fine(t)
	s.WebNIC.Call("DEL").Fine(t)
}
