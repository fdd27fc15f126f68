// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/spool"
)

// staticMAC returns the MAC that a pod of a scene names.
func staticMAC(i int) string { return fmt.Sprintf("0a:00:27:00:00:%02x", i) }

// staticNIC returns what the agent has for a NIC on a VLANSubnet without a VLAN.
func staticNIC(lan *lab.LAN, network string, i int) spool.NIC {
	nic := fixture.SpoolNIC(lan, lab.NIC, network, i)
	nic.MAC = staticMAC(i)
	nic.Link = &spool.Link{Name: "mv1", Master: lan.NIC, Mode: "bridge"}
	return nic
}

// staticConflist returns a conflist whose first plugin is static-macvlan-cni.
func staticConflist(t *testing.T, conflist, version string, keys fixture.Keys) string {
	t.Helper()
	var list map[string]any
	if err := json.Unmarshal([]byte(conflist), &list); err != nil {
		t.Fatal(err)
	}
	first := fixture.Keys{"type": "static-macvlan-cni"}
	for k, v := range keys {
		first[k] = v
	}
	list["cniVersion"] = version
	list["plugins"].([]any)[0] = first
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestS4StaticMacvlan: pods on a VLANSubnet have just the addresses and MACs of the spool, in
// every version of CNI, and reach whom pods of macvlan reach. DEL leaves nothing, and so does
// GC. What the network says of master, mode and MAC doesn't count.
func TestS4StaticMacvlan(t *testing.T) {
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			l := fixture.NewLab(t, lab.Ens192())
			lan := l.LANs[0]
			fixture.AgentReady(t, l)
			keys := fixture.Keys{"ipam": fixture.Keys{"type": "static-ipam"}, "master": "eth9", "mode": "l2", "mac": "02:00:00:00:00:99"}
			if version == "0.3.1" {
				keys = nil // as in the seed's time, without ipam
			}
			network, err := l.Network(staticConflist(t, lan.Conflist(fixture.Chained), version, keys), fixture.CNIPath()...)
			if err != nil {
				t.Fatal(err)
			}
			for i, name := range []string{"web", "app"} {
				fixture.InSpool(t, l, func(d *spool.Directory) error {
					return spool.PutPod(d, spool.Pod{Namespace: "default", Name: name, UID: lab.PodUID(name), NICs: []spool.NIC{staticNIC(lan, "macvlan-ens192", i)}})
				})
			}
			s, err := l.NewScene(t.Context(), network)
			if err != nil {
				t.Fatal(err)
			}
			fixture.Holds(t, s)
			if link := fixture.Sh(t, l.Node.Netns, "ip -d link show mv1"); !strings.Contains(link, "mv1@"+lan.NIC) || !strings.Contains(link, ",UP") || !strings.Contains(link, "macvlan mode bridge") {
				t.Errorf("the node has %s", link)
			}
			for i, pod := range s.Pods() {
				var want []string
				for _, a := range staticNIC(lan, "macvlan-ens192", i).Addresses {
					want = append(want, a.Address.String())
				}
				if got := fmt.Sprint(pod.Addrs(lab.NIC)); got != fmt.Sprint(want) {
					t.Errorf("%s has %s, want %s", pod.Name(), got, want)
				}
				if link := fixture.Sh(t, pod.Netns, "ip -d link show "+lab.NIC); !strings.Contains(link, staticMAC(i)) || !strings.Contains(link, "macvlan mode bridge") {
					t.Errorf("%s: %s", pod.Name(), link)
				}
				if version == "0.3.0" || version == "0.3.1" {
					continue // CHECK is from 0.4.0
				}
				if err := network.Check(t.Context(), pod, lab.NIC); err != nil {
					t.Error(err)
				}
			}
			for range 2 {
				if err := network.Del(t.Context(), s.Web, lab.NIC); err != nil {
					t.Error(err)
				}
			}
			if version == "1.1.0" {
				if err := network.GC(t.Context()); err != nil {
					t.Error(err)
				}
			} else if err := network.Del(t.Context(), s.App, lab.NIC); err != nil {
				t.Error(err)
			}
			fixture.InSpool(t, l, func(d *spool.Directory) error {
				all, err := spool.Sandboxes(d)
				for _, x := range all {
					if !x.Gone {
						t.Errorf("%s is in the spool", x.Pod)
					}
				}
				return err
			})
		})
	}
}

// ownNetns is the namespace of the plugin that opens it.
const ownNetns = "/proc/self/ns/net"

// TestStaticMacvlanOwnNamespace: DEL with the node's own namespace leaves the node's links alone,
// and gives the addresses back all the same.
func TestStaticMacvlanOwnNamespace(t *testing.T) {
	s := fixture.NewStage(t, lab.Ens192())
	fixture.AgentReady(t, s.Lab)
	nic := fixture.SpoolNIC(s.LANs[0], "net9", "lan", 5)
	nic.Link = &spool.Link{Name: "mv1", Master: "ens192", Mode: "bridge"}
	putClaim(t, s, spool.Pod{Namespace: "default", Name: "web", UID: s.Web.UID(), NICs: []spool.NIC{nic}})
	call := func(verb string) fixture.Call {
		c := ipamCall(s, verb, fixture.Keys{"type": "static-macvlan-cni", "ipam": fixture.Keys{"type": "static-ipam"}, "prevResult": nil})
		c.Plugin = "static-macvlan-cni"
		return c.With("CNI_IFNAME", "net9")
	}
	call("ADD").Fine(t)
	fixture.Sh(t, s.Node.Netns, "ip link add net9 type bridge")
	call("DEL").With("CNI_NETNS", ownNetns).Fine(t)
	fixture.Sh(t, s.Node.Netns, "ip link show net9")
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		all, err := spool.Sandboxes(d)
		if len(all) != 1 || !all[0].Gone {
			t.Errorf("%+v, want web gone", all)
		}
		return err
	})
	call("DEL").Fine(t)
	if links := fixture.Sh(t, s.Web.Netns, "ip -o link"); strings.Contains(links, "net9") {
		t.Errorf("web still has\n%s", links)
	}
}

// TestStaticMacvlanErrors: what ADD refuses leaves nothing in the pod nor in the spool.
func TestStaticMacvlanErrors(t *testing.T) {
	s := fixture.NewStage(t, lab.Ens192())
	call := func(verb string, over ...fixture.Keys) fixture.Call {
		c := ipamCall(s, verb, append([]fixture.Keys{{"type": "static-macvlan-cni", "ipam": fixture.Keys{"type": "static-ipam"}}}, over...)...)
		c.Plugin = "static-macvlan-cni"
		c.Env["CNI_IFNAME"] = "net9"
		return c
	}
	nic := fixture.SpoolNIC(s.LANs[0], "net9", "lan", 5)
	pod := func(nics ...spool.NIC) spool.Pod {
		return spool.Pod{Namespace: "default", Name: "web", UID: s.Web.UID(), NICs: nics}
	}
	linked := func(l spool.Link) spool.NIC {
		n := nic
		n.Link = &l
		return n
	}
	refused := func(what string, c fixture.Call, code uint, want string) {
		t.Helper()
		before := fixture.SpoolState(t, s.Lab)
		err := c.Fails(t)
		if err.Code != code || !strings.HasPrefix(err.Msg, "static-macvlan-cni: ") || !strings.Contains(err.Msg, want) {
			t.Errorf("%s: %d %s, want %d with %s", what, err.Code, err.Msg, code, want)
		}
		if diff := cmp.Diff(before, fixture.SpoolState(t, s.Lab)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", what, diff)
		}
		if out := fixture.Sh(t, s.Web.Netns, "ip -o link"); strings.Contains(out, "net9") {
			t.Errorf("%s: %s", what, out)
		}
	}
	fixture.AgentReady(t, s.Lab)
	refused("no claim", call("ADD"), types.ErrTryAgainLater, "the node's agent has nothing about the pod")
	putClaim(t, s, pod(nic))
	refused("a pool's NIC", call("ADD"), types.ErrInvalidNetworkConfig, "want the pod's annotation vlan")
	putClaim(t, s, pod(linked(spool.Link{Name: "ens999", Master: "ens999", Mode: "bridge"})))
	refused("no such master", call("ADD"), types.ErrInternal, "ens999")
	putClaim(t, s, pod(linked(spool.Link{Name: "ens192", Master: "ens192", Mode: "bridge"})))
	refused("no such IPAM", call("ADD", fixture.Keys{"ipam": fixture.Keys{"type": "not-there"}}), types.ErrInternal, "not-there")
	putClaim(t, s, pod(linked(spool.Link{Name: "mv1", Master: "ens192", Mode: "bridge"})))
	refused("the node's namespace", call("ADD").With("CNI_NETNS", ownNetns), types.ErrInvalidNetNS, "the plugin's own network namespace")
	refused("ipam without a type", call("ADD", fixture.Keys{"ipam": fixture.Keys{}}), types.ErrInvalidNetworkConfig, "ipam.type: missing")
}
