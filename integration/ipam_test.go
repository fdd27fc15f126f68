// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/ipamcni"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/spool"
)

// TestIPAMChained gives pods their addresses by multihome-ipam under each of its names, in
// macvlan and with coordinator behind it.
func TestIPAMChained(t *testing.T) {
	for _, name := range ipamcni.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := fixture.NewLab(t, lab.Ens192())
			lan := l.LANs[0]
			fixture.AgentReady(t, l)
			conflist := fixture.WithIPAM(t, lan.Conflist(fixture.Chained), fixture.Keys{"type": name, "default_ipv4_ippool": []string{"lan"}})
			network, err := l.Network(conflist, fixture.CNIPath()...)
			if err != nil {
				t.Fatal(err)
			}
			for i, name := range []string{"web", "app"} { // the pods of a scene
				fixture.InSpool(t, l, func(d *spool.Directory) error {
					return spool.PutPod(d, spool.Pod{
						Namespace: "default", Name: name, UID: lab.PodUID(name), NICs: []spool.NIC{fixture.SpoolNIC(lan, lab.NIC, "macvlan-ens192", i)},
					})
				})
			}
			s, err := l.NewScene(t.Context(), network)
			if err != nil {
				t.Fatal(err)
			}
			fixture.Holds(t, s)
			for i, pod := range s.Pods() {
				var want []netip.Prefix
				for _, a := range fixture.SpoolNIC(lan, lab.NIC, "macvlan-ens192", i).Addresses {
					want = append(want, a.Address)
				}
				if got := pod.Addrs(lab.NIC); !slices.Equal(got, want) {
					t.Errorf("%s has %v, want %v", pod.Name(), got, want)
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
			fixture.InSpool(t, l, func(d *spool.Directory) error {
				all, err := spool.Sandboxes(d)
				if len(all) != 2 || all[0].Pod != "web" || !all[0].Gone || all[1].Pod != "app" || all[1].Gone {
					t.Errorf("%+v, want web gone, and app", all)
				}
				return err
			})
		})
	}
}

// ipamCall returns a call of multihome-ipam for the first pod of a stage, whose macvlan is there.
// The pod's addresses are those that the stage gave it.
func ipamCall(s *fixture.Stage, verb string, over ...fixture.Keys) fixture.Call {
	c := s.WebNIC.Call(verb, append([]fixture.Keys{{"type": "macvlan", "serviceCIDR": nil, "ipam": fixture.Keys{"type": "multihome-ipam"}}}, over...)...)
	c.Plugin = "multihome-ipam"
	c.Env["CNI_ARGS"] = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=" + s.Web.UID()
	return c
}

// claim is what the agent has for the first pod of a stage.
func claim(s *fixture.Stage) spool.Pod {
	return spool.Pod{Namespace: "default", Name: "web", UID: s.Web.UID(), NICs: []spool.NIC{fixture.SpoolNIC(s.LANs[0], lab.NIC, "lan", 0)}}
}

func putClaim(t *testing.T, s *fixture.Stage, p spool.Pod) {
	t.Helper()
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error { return spool.PutPod(d, p) })
}

// TestIPAMInEveryVersion runs all verbs in all versions of CNI that have them.
func TestIPAMInEveryVersion(t *testing.T) {
	s := fixture.NewStage(t, lab.Ens192())
	fixture.AgentReady(t, s.Lab)
	p := claim(s)
	nic := &p.NICs[0]
	nic.Routes = []spool.Route{{Dst: netip.MustParsePrefix("10.20.0.0/16"), Gw: netip.MustParseAddr("10.6.0.9")}}
	nic.Addresses[1].Gateway = netip.Addr{} // as with clean_gateway
	putClaim(t, s, p)
	dns := types.DNS{Nameservers: []string{"10.6.0.53"}, Search: []string{"lan"}}
	ip := func(cidr, gateway string) *types100.IPConfig {
		n, err := types.ParseCIDR(cidr)
		if err != nil {
			t.Fatal(err)
		}
		out := &types100.IPConfig{Address: *n}
		if gateway != "" {
			out.Gateway = netip.MustParseAddr(gateway).AsSlice()
		}
		return out
	}
	want := &types100.Result{
		CNIVersion: "1.1.0",
		IPs:        []*types100.IPConfig{ip(nic.Addresses[0].Address.String(), "10.6.0.1"), ip(nic.Addresses[1].Address.String(), "")},
		Routes: []*types.Route{
			{Dst: ip("0.0.0.0/0", "").Address, GW: netip.MustParseAddr("10.6.0.1").AsSlice()},
			{Dst: ip("10.20.0.0/16", "").Address, GW: netip.MustParseAddr("10.6.0.9").AsSlice()},
		},
		DNS: dns,
	}
	for _, v := range versions {
		over := fixture.Keys{"cniVersion": v, "dns": dns, "prevResult": nil}
		out := ipamCall(s, "ADD", over).Fine(t)
		var said struct{ CNIVersion string }
		if err := json.Unmarshal([]byte(out), &said); err != nil || said.CNIVersion != v {
			t.Errorf("%s: result of version %q, %v", v, said.CNIVersion, err)
		}
		if strings.Contains(out, `"interface"`) {
			t.Errorf("%s: the result names an interface: %s", v, out)
		}
		result, err := version.NewResult(v, []byte(out))
		if err != nil {
			t.Fatal(err)
		}
		got, err := types100.NewResultFromResult(result)
		if err != nil {
			t.Fatal(err)
		}
		got.CNIVersion = "1.1.0"
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", v, diff)
		}
		if v >= "0.4.0" {
			prev, err := s.WebNIC.Prev.GetAsVersion(v)
			if err != nil {
				t.Fatal(err)
			}
			ipamCall(s, "CHECK", over, fixture.Keys{"prevResult": prev}).Fine(t)
		}
		if v >= "1.1.0" {
			ipamCall(s, "STATUS", over).Fine(t)
			ipamCall(s, "GC", over, fixture.Keys{"cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: s.Web.ContainerID, IfName: lab.NIC}}}).Fine(t)
			ipamCall(s, "CHECK", over, fixture.Keys{"prevResult": s.WebNIC.Prev}).Fine(t)
			ipamCall(s, "GC", over, fixture.Keys{"cni.dev/valid-attachments": nil, "cni.dev/attachments": []string{}}).Fine(t)
			if e := ipamCall(s, "CHECK", over, fixture.Keys{"prevResult": s.WebNIC.Prev}).Fails(t); !strings.Contains(e.Msg, "no addresses in the spool") {
				t.Errorf("CHECK after GC: %v", e)
			}
		}
		ipamCall(s, "DEL", over).Fine(t)
	}
	c := ipamCall(s, "VERSION")
	c.Stdin = nil
	var spoken struct{ SupportedVersions []string }
	if err := json.Unmarshal([]byte(c.Fine(t)), &spoken); err != nil || !slices.Equal(spoken.SupportedVersions, versions) {
		t.Errorf("%v, %v, want %v", spoken, err, versions)
	}
}

// TestIPAMErrors wants the code and a helpful text for each cause of an error.
func TestIPAMErrors(t *testing.T) {
	s := fixture.NewStage(t, lab.Ens192())
	notReady := "multihome-ipam: the agent was not ready in this boot"
	wants := func(c fixture.Call, code uint, text string) {
		t.Helper()
		if e := c.Fails(t); e.Code != code || !strings.Contains(e.Msg, text) {
			t.Errorf("%s: code %d, %s; want code %d and %q", c.Verb, e.Code, e.Msg, code, text)
		}
	}
	none := func() {
		t.Helper()
		if err := s.Node.Run(func() error { _, err := os.Lstat(spool.Dir); return err }); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%v, want no spool", err)
		}
	}
	// No agent was there yet: X25, X27.
	wants(ipamCall(s, "ADD"), types.ErrTryAgainLater, notReady)
	wants(ipamCall(s, "STATUS"), types.ErrPluginNotAvailable, notReady)
	for range 2 {
		ipamCall(s, "DEL").Fine(t)
	}
	ipamCall(s, "GC", fixture.Keys{"cni.dev/valid-attachments": []string{}}).Fine(t)
	none()

	// The agent was ready once, and isn't there any more.
	fixture.AgentReady(t, s.Lab)
	ipamCall(s, "STATUS").Fine(t)
	wants(ipamCall(s, "ADD").With("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web"), types.ErrInvalidEnvironmentVariables, "K8S_POD_UID")
	ipamCall(s, "DEL").With("CNI_ARGS", "").Fine(t)
	ipamCall(s, "DEL").With("CNI_ARGS", "nonsense").Fine(t)
	wants(ipamCall(s, "ADD").With("CNI_ARGS", "nonsense"), types.ErrInvalidEnvironmentVariables, "CNI_ARGS")
	wants(ipamCall(s, "ADD").With("CNI_ARGS", "K8S_POD_UID=../ready"), types.ErrInvalidEnvironmentVariables, "../ready")
	wants(ipamCall(s, "ADD").With("CNI_NETNS", "/run/netns/nobody"), types.ErrInvalidNetNS, "/run/netns/nobody")
	wants(ipamCall(s, "ADD", fixture.Keys{"ipam": fixture.Keys{"type": "multihome-ipam", "default_ipv4_ipool": "x"}}), types.ErrInvalidNetworkConfig, "default_ipv4_ippool")
	ipamCall(s, "DEL", fixture.Keys{"ipam": "nonsense"}).Fine(t)
	wants(ipamCall(s, "GC"), types.ErrInvalidNetworkConfig, "cni.dev/valid-attachments")
	wants(ipamCall(s, "ADD"), types.ErrTryAgainLater, "NIC eth0 of network lan: no addresses: none came within 5s: the node's agent has nothing about the pod")

	p := claim(s)
	putClaim(t, s, spool.Pod{UID: p.UID, Reason: "pool lan has 0 of 10 addresses free"})
	wants(ipamCall(s, "ADD"), types.ErrTryAgainLater, "none came within 5s: pool lan has 0 of 10 addresses free")
	putClaim(t, s, p)
	wants(ipamCall(s, "ADD", fixture.Keys{"name": "lan2"}), types.ErrTryAgainLater, "NIC eth0 of network lan2")

	// CHECK compares the spool with the result and with the interface.
	ipamCall(s, "ADD").Fine(t)
	ipamCall(s, "CHECK").Fine(t)
	wants(ipamCall(s, "CHECK").With("CNI_ARGS", "K8S_POD_UID=another"), types.ErrInternal, "pod UID "+p.UID)
	wants(ipamCall(s, "CHECK", fixture.Keys{"prevResult": fixture.Keys{"cniVersion": "1.1.0"}}), types.ErrInternal, "prevResult has []")
	address := p.NICs[0].Addresses[0].Address.String()
	fixture.Sh(t, s.Web.Netns, "ip addr del "+address+" dev eth0")
	wants(ipamCall(s, "CHECK"), types.ErrInternal, "the spool has "+address+", the interface has")
}

// TestIPAMWaits lets pods wait for the agent: more than there are slots. All get their addresses
// when they come, and an ADD that outlives its caller finds that DEL was called.
func TestIPAMWaits(t *testing.T) {
	s := fixture.NewStage(t, lab.Ens192())
	fixture.AgentReady(t, s.Lab)
	const pods = 12
	outcomes := make(chan error)
	for i := range pods {
		c := ipamCall(s, "ADD")
		c = c.With("CNI_ARGS", fmt.Sprintf("K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_UID=u%d", i)).With("CNI_CONTAINERID", fmt.Sprintf("c%d", i))
		go func() {
			out, err := c.Start(t.Context())
			if err == nil && !out.State.Success() {
				err = errors.New(out.Stdout)
			}
			outcomes <- err
		}()
	}
	waiting := func() (wants []spool.Want) {
		fixture.InSpool(t, s.Lab, func(d *spool.Directory) (err error) { wants, err = spool.Wants(d); return err })
		return wants
	}
	for begun := time.Now(); len(waiting()) < pods; {
		if time.Since(begun) > time.Minute {
			t.Fatalf("%d wait", len(waiting()))
		}
		time.Sleep(time.Millisecond)
	}
	c := ipamCall(s, "DEL").With("CNI_CONTAINERID", "c3")
	c.Fine(t)
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		var errs []error
		for i := range pods {
			errs = append(errs, spool.PutPod(d, spool.Pod{UID: fmt.Sprintf("u%d", i), NICs: []spool.NIC{fixture.SpoolNIC(s.LANs[0], lab.NIC, "lan", i)}}))
		}
		return errors.Join(errs...)
	})
	var failed []error
	for range pods {
		if err := <-outcomes; err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) != 1 || !strings.Contains(failed[0].Error(), "DEL was called while ADD ran") {
		t.Errorf("%v, want that the ADD fails for which DEL was called", failed)
	}
	if w := waiting(); len(w) > 0 {
		t.Errorf("left: %v", w)
	}
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		all, err := spool.Sandboxes(d)
		if len(all) != pods-1 || slices.ContainsFunc(all, func(s spool.Sandbox) bool { return s.ContainerID == "c3" || s.Gone }) {
			t.Errorf("%d sandboxes: %v", len(all), all)
		}
		return err
	})
}
