// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/spool"
)

// TestKeep: what is said of a note, and how long it stays.
func TestKeep(t *testing.T) {
	for _, x := range []struct {
		name            string
		n               noted
		withdrawn, keep bool
	}{
		{"new", noted{known: true, named: true, served: true, used: true}, false, true},
		{"and its sandbox is gone", noted{known: true, named: true, served: true}, false, true},
		{"a later sandbox works", noted{known: true, named: true, served: true, used: true, works: true}, false, false},
		{"the claim has another address", noted{known: true, held: true, served: true, used: true}, false, true},
		{"which is served", noted{known: true, used: true}, false, true},
		{"a later sandbox has the former one", noted{known: true, used: true, works: true}, false, true},
		{"nothing of the pod has it", noted{known: true, held: true}, true, true},
		{"the controller knows", noted{known: true}, true, false},
		{"the pod is gone", noted{held: true, used: true}, false, false},
	} {
		if withdrawn, keep := x.n.keep(); withdrawn != x.withdrawn || keep != x.keep {
			t.Errorf("%s: withdrawn %t, keep %t, want %t, %t", x.name, withdrawn, keep, x.withdrawn, x.keep)
		}
	}
}

// TestConflict: the agent reports what coordinator notes, serves what the controller gives
// instead, and says that nothing has the address any more when that is so, not before.
func TestConflict(t *testing.T) {
	const mac, other = "02:00:00:00:00:09", "10.6.0.6"
	w := newWorld(t)
	w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	reported := func(when string, want ...bool) {
		t.Helper()
		var list []v1alpha1.Conflict
		for _, withdrawn := range want {
			list = append(list, v1alpha1.Conflict{Namespace: "default", Pod: "web", PodUID: "u", Interface: "eth0", Address: addr, MAC: mac, Withdrawn: withdrawn})
		}
		if got := w.nodeSpool().Status.Conflicts; !reflect.DeepEqual(got, list) {
			t.Errorf("%s: the NodeSpool has %+v, want %+v", when, got, list)
		}
	}
	attempt := func() box {
		t.Helper()
		b := w.box("web", "u")
		nic, err := w.add(b)
		w.ok(err)
		w.set(b, nic)
		w.ok(spool.NoteConflict(w.files, spool.Attachment{ContainerID: b.ContainerID, Interface: "eth0"}, netip.MustParseAddr(addr), mac, time.Time{}))
		return b
	}
	first := attempt()
	w.sync(1)
	reported("after ADD", false)
	w.del(first)
	delete(w.nets, first.inode)
	second := attempt() // the runtime tries again: there is one note
	w.sync(2)
	reported("after the second ADD", false)
	if w.agent.Waits("u") == nil {
		t.Error("nobody watches the claim")
	}

	w.address(other, "u")
	w.change(claim, func(c *v2beta1.SpiderEndpoint) { c.Status.Current.IPs[0].IPv4 = other + "/16" })
	w.sync(1)
	if p := w.served("u"); p.NICs[0].Addresses[0].Address.Addr().String() != other {
		t.Errorf("it serves %+v", p)
	}
	reported("while the sandbox has it", false)
	w.del(second)
	w.sync(1)
	reported("after DEL, the namespace is there", false)
	delete(w.nets, second.inode)
	w.sync(3)
	reported("after its end", true)
	w.sync(3)
	reported("until the controller has heard", true)
	ip := &v1alpha1.IPAddress{}
	w.ok(w.c.Get(t.Context(), client.ObjectKey{Name: addr}, ip))
	ip.Spec.State, ip.Spec.Holders = v1alpha1.Quarantined, nil
	w.ok(w.c.Update(t.Context(), ip))
	w.sync(1)
	reported("at the end")
	third := w.box("web", "u")
	if nic, err := w.add(third); err != nil || nic.Addresses[0].Address.Addr().String() != other {
		t.Errorf("the next ADD has %+v, %v", nic, err)
	}
	w.sync(2)
	if left := w.left(); fmt.Sprint(left) != fmt.Sprint([]string{"pods/u", "sandboxes/" + third.ContainerID + ":eth0:1"}) {
		t.Errorf("left: %v", left)
	}
}

// TestConflictOver: a note goes with its pod, and when a later ADD got through.
func TestConflictOver(t *testing.T) {
	for name, x := range map[string]struct {
		end  func(w *world, p, c client.Object)
		over bool
	}{
		"the pod is gone":   {func(w *world, p, c client.Object) { w.delete(p); w.delete(c) }, true},
		"a later ADD":       {func(w *world, _, _ client.Object) { _, err := w.add(w.box("web", "u")); w.ok(err) }, true},
		"the claim is gone": {func(w *world, _, c client.Object) { w.delete(c) }, false},
		"nothing happens":   {func(*world, client.Object, client.Object) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.pod("web", "u")
			claim := w.claim("web", "u", addr)
			w.sync(1)
			b := w.box("web", "u")
			_, err := w.add(b)
			w.ok(err)
			w.ok(spool.NoteConflict(w.files, spool.Attachment{ContainerID: b.ContainerID, Interface: "eth0"}, netip.MustParseAddr(addr), "02:00:00:00:00:09", time.Time{}))
			w.del(b)
			delete(w.nets, b.inode)
			w.sync(1)
			x.end(w, p, claim)
			w.sync(3)
			notes, err := spool.Conflicts(w.files)
			w.ok(err)
			if (len(notes) == 0) != x.over || len(notes) != len(w.nodeSpool().Status.Conflicts) {
				t.Errorf("notes %+v, NodeSpool %+v", notes, w.nodeSpool().Status.Conflicts)
			}
		})
	}
}

// TestShared: the spool says which address the other pod of a virtual machine has, too.
func TestShared(t *testing.T) {
	w := newWorld(t)
	w.pod("web", "u")
	w.claim("web", "u", addr, "10.6.0.6")
	ip := &v1alpha1.IPAddress{}
	w.ok(w.c.Get(t.Context(), client.ObjectKey{Name: addr}, ip))
	ip.Spec.Holders = append(ip.Spec.Holders, v1alpha1.Holder{PodUID: "source"})
	w.ok(w.c.Update(t.Context(), ip))
	w.sync(1)
	if p := w.served("u"); !p.NICs[0].Addresses[0].Shared || p.NICs[1].Addresses[0].Shared {
		t.Errorf("it serves %+v", p)
	}
}
