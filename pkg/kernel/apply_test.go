// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestApplyTogether does operations that are sent at once, in a pod with two links
// and a route of somebody else. Of a list in which one fails, nothing may be left,
// neither of what was sent before it nor behind it, and nothing else may be gone.
func TestApplyTogether(t *testing.T) {
	const others = "pod: route 10.77.0.0/16 dev veth0 proto multihome scope link"
	for name, c := range map[string]struct {
		ops  []string
		fail string // what the error says
	}{
		"in order": {ops: []string{
			"pod: route 10.66.0.0/16 dev veth0 table 100 proto multihome scope link",
			"pod: route 10.9.0.0/24 dev veth0 proto multihome scope link",
			"pod: route default via 10.9.0.1 dev veth0 table 100 proto multihome",
			"pod: rule pref 32763 from all fwmark 0x40/0x40 lookup 100 proto multihome",
			"pod: neigh 10.9.0.1 dev veth0 lladdr 02:00:00:00:00:01 nud permanent",
			"host: rule pref 1000 from all lookup 500 proto multihome",
		}},
		"a rule is there already": {ops: []string{
			"pod: route 10.66.0.0/16 dev veth0 proto multihome scope link",
			"pod: rule pref 32764 from all lookup 99 proto multihome",
			"pod: route 10.67.0.0/16 dev veth0 proto multihome scope link",
		}},
		"one is refused by the kernel": {ops: []string{
			"pod: route 10.66.0.0/16 dev veth0 proto multihome scope link",
			"pod: route 10.67.0.0/16 via 10.250.0.1 dev veth0 proto multihome",
			"pod: route 10.68.0.0/16 dev veth0 proto multihome scope link",
			"pod: rule pref 32763 from all fwmark 0x40/0x40 lookup 100 proto multihome",
		}, fail: "pod: add route 10.67.0.0/16 via 10.250.0.1 dev veth0 proto multihome: network is unreachable"},
		"one is on no link": {ops: []string{
			"pod: route 10.66.0.0/16 dev veth0 proto multihome scope link",
			"pod: route 10.67.0.0/16 dev gone proto multihome scope link",
			"pod: route 10.68.0.0/16 dev veth0 proto multihome scope link",
		}, fail: "pod: add route 10.67.0.0/16 dev gone proto multihome scope link: no such device"},
		"one is somebody else's": {ops: []string{
			"pod: route 10.66.0.0/16 dev veth0 proto multihome scope link",
			"pod: route 10.77.0.0/16 dev veth0 proto multihome scope link",
			"pod: route 10.68.0.0/16 dev veth0 proto multihome scope link",
			"host: rule pref 1000 from all lookup 500 proto multihome",
		}, fail: "pod: add route 10.77.0.0/16 dev veth0 proto multihome scope link: file exists"},
		"more than are sent at once": {ops: manyRoutes(350)},
		"one of more than are sent at once": {
			ops:  append(manyRoutes(150), "pod: route 10.77.0.0/16 dev veth0 proto multihome scope link"),
			fail: "file exists",
		},
	} {
		t.Run(name, func(t *testing.T) {
			withPair(t, func(k *kernel.Namespaces) {
				apply(t, k, others, "pod: rule pref 32764 from all lookup 99 proto multihome")
				before := podState(t, k)
				ops := additions(t, c.ops...)
				err := k.Apply(ops)
				if c.fail != "" {
					if err == nil || !strings.Contains(err.Error(), c.fail) {
						t.Errorf("got error %v, want one with %q", err, c.fail)
					}
					if d := cmp.Diff(before, podState(t, k)); d != "" {
						t.Errorf("after a failure (-before +after):\n%s", d)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				have := strings.Join(podState(t, k), "\n")
				for _, line := range c.ops {
					if strings.HasPrefix(line, "pod: ro") && !strings.Contains(have, line) {
						t.Errorf("not there: %s", line)
					}
				}
				// What is gone by then is no error, and keeps nothing else from going.
				deletions := netstate.Undo(ops)
				if err := k.Remove(deletions[1:2]); err != nil {
					t.Error(err)
				}
				if err := k.Remove(deletions); err != nil {
					t.Error(err)
				}
				want := slices.DeleteFunc(before, func(line string) bool { return slices.Contains(c.ops, line) })
				if d := cmp.Diff(want, podState(t, k)); d != "" {
					t.Errorf("after the removal (-want +got):\n%s", d)
				}
			})
		})
	}
}

func manyRoutes(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("pod: route 10.%d.%d.0/24 dev veth0 proto multihome scope link", 100+i>>8, i&255))
	}
	return out
}

// withPair runs f with a kernel of two namespaces and a veth between them.
func withPair(t *testing.T, f func(k *kernel.Namespaces)) {
	t.Helper()
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	err = node.Do(func() error {
		k, err := kernel.Open(pod.Path())
		if err != nil {
			return err
		}
		defer k.Close()
		apply(t, k, "host: link vetha address 02:00:00:00:00:01 up type veth peer name veth0 netns pod address 02:00:00:00:00:02")
		err = k.Apply([]netstate.Op{{NS: netstate.Pod, Before: netstate.Link{Name: "veth0"}, After: netstate.Link{Name: "veth0", Up: true}}})
		f(k)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func additions(t *testing.T, lines ...string) []netstate.Op {
	t.Helper()
	var ops []netstate.Op
	for _, line := range lines {
		ns, o, err := netstate.Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		ops = append(ops, netstate.Op{NS: ns, After: o})
	}
	return ops
}

func apply(t *testing.T, k *kernel.Namespaces, lines ...string) {
	t.Helper()
	if err := k.Apply(additions(t, lines...)); err != nil {
		t.Fatal(err)
	}
}

func podState(t *testing.T, k *kernel.Namespaces) []string {
	t.Helper()
	snap := netstate.NewSnapshot()
	if err := k.ReadPod(snap); err != nil {
		t.Fatal(err)
	}
	// What the kernel makes of an IPv6 link comes when it likes.
	return slices.DeleteFunc(snap.Lines(), func(line string) bool { return strings.Contains(line, "fe80:") })
}
