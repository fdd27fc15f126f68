// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// with returns coordinator's entry of a conflist, with more keys.
func with(more string) string {
	return strings.TrimSuffix(fixture.Chained, "}") + ", " + more + "}"
}

// routing returns everything that decides where a pod sends its packets, except the
// routes that the kernel makes for addresses with a delay.
func routing(t *testing.T, pod *lab.Pod) string {
	t.Helper()
	fixture.Settle(t, pod.Netns)
	var out []string
	for l := range strings.Lines(fixture.Sh(t, pod.Netns, "ip rule; ip -6 rule; ip route show table all; ip -6 route show table all; nft list ruleset")) {
		if !strings.Contains(l, "fe80:") && !strings.Contains(l, "table local") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "")
}

// TestDefaultRouteNIC sets podDefaultRouteNIC to net1: traffic that no other rule
// decides leaves by net1, the node and Services stay reachable, and DEL of net1
// restores eth0's default.
func TestDefaultRouteNIC(t *testing.T) {
	for name, lans := range fixture.TwoLANs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, lans, fixture.Chained)
			s.Plug(t, 0, "eth0")
			before := routing(t, s.Web)
			s.Plug(t, 1, "net1", with(`"podDefaultRouteNIC": "net1"`))
			s.Serve(t)
			s.Verify(t, append(s.Checks(), s.Unbound("net1")...)...)
			s.Check(t)
			s.Unplug(t, "net1")
			if after := routing(t, s.Web); after != before {
				t.Errorf("state after net1 was removed:\n%s\nstate before it was added:\n%s", after, before)
			}
			s.Check(t)

			s.Plug(t, 1, "net1") // the control
			s.Refute(t, s.Unbound("net1")...)
			s.Verify(t, s.Unbound("eth0")...)
		})
	}
}

// TestDefaultRouteNICThatIsNotThere expects an error before anything is changed.
func TestDefaultRouteNICThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Plug(t, 0, "eth0")
	net1 := s.ByHand(t, 1, "net1", fixture.PrefixesOf("10.7.168.201/16"), netip.MustParseAddr("10.7.0.1"))
	before := s.State(t)
	e := net1.Call("ADD", fixture.Keys{"podDefaultRouteNIC": "net9"}).Fails(t)
	if want := "coordinator: podDefaultRouteNIC: net9: no such link in the pod"; e.Code != 7 || e.Msg != want {
		t.Errorf("ADD says %d, %q, want 7, %q", e.Code, e.Msg, want)
	}
	fixture.Same(t, "ADD that was refused", before, s.State(t))
}

// TestDefaultRouteNICOfPod: the annotation of a pod that has its addresses from the spool names
// the NIC with its default routes. It may be one that is added last. repair, CHECK and show go
// by the same.
func TestDefaultRouteNICOfPod(t *testing.T) {
	for name, overlay := range map[string]string{"underlay": "", "overlay": "calico"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
			plug := func(i int, annotation string) { s.PlugServed(t, i, fixture.NICName(i), annotation) }
			first := func(annotation string) {
				if overlay != "" {
					s.Overlay(t, overlay)
				} else {
					plug(0, annotation)
				}
				s.Serve(t)
			}
			first("net2")
			plug(1, "net2")
			if main := fixture.Sh(t, s.Web.Netns, "ip route show default"); !strings.Contains(main, "dev eth0") {
				t.Errorf("before the NIC is there, the default is %q, want that of eth0", main)
			}
			s.Check(t)
			before := routing(t, s.Web)
			plug(2, "net2")
			byNet2 := s.Unbound("net2")
			s.Verify(t, byNet2...)
			s.Check(t)
			dir := t.TempDir()
			s.Healthy(t, dir)
			fixture.Sh(t, s.Web.Netns, "ip route flush default; ip -6 route flush default")
			s.Refute(t, byNet2...)
			s.Repair(t, dir)
			s.Verify(t, byNet2...)
			if out, errs, status := s.Multihome(t, "show", s.Web.Netns.Path()); status != 0 || !strings.Contains(out, `pod: podDefaultRouteNIC "net2"`) {
				t.Errorf("show says %d, %s, and\n%s", status, errs, out)
			}
			s.Unplug(t, "net2")
			if after := routing(t, s.Web); after != before {
				t.Errorf("state after net2 was removed:\n%s\nstate before it was added:\n%s", after, before)
			}
			plug(2, "") // the control: the other NICs' annotation is that of the same pod
			s.Verify(t, byNet2...)
			for _, n := range slices.Backward(slices.Clone(s.NICs)) {
				s.Unplug(t, n.Name)
			}
			for i := range 3 {
				if i > 0 || overlay == "" {
					plug(i, "")
				}
			}
			s.Refute(t, byNet2...)
		})
	}
}

// TestDefaultRouteNICOfPodUnreadable: what the spool says of the pod can't be read. repair says so;
// it and the ADD of a further NIC leave the default route where it is.
func TestDefaultRouteNICOfPodUnreadable(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
	s.PlugServed(t, 0, "eth0", "net1")
	s.PlugServed(t, 1, "net1", "net1")
	s.Serve(t)
	s.Verify(t, s.Unbound("net1")...)
	s.OnNode(t, "for f in /run/multihome/ipam/sandboxes/*; do echo '{' >$f; done")
	before := s.State(t)
	if _, errs, status := s.Multihome(t, "repair", "--conf-dir", t.TempDir()); status == 0 || !strings.Contains(errs, "the pod's annotations: /run/multihome/ipam: sandboxes/") {
		t.Errorf("repair says %d, %s", status, errs)
	}
	fixture.Same(t, "repair", before, s.State(t))
	s.Plug(t, 2, "net2")
	s.Verify(t, s.Unbound("net1")...)
}
