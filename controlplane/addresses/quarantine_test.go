// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

const foreign = "02:00:00:00:00:09"

// conflict is a report of a node about an address of a pod.
func conflict(node, machine, uid, addr string, withdrawn bool) func(*seen) {
	return func(o *seen) {
		o.Reported = append(o.Reported, addresses.Reported{Node: node, MachineID: machine, Conflict: v1alpha1.Conflict{
			Namespace: "ns", Pod: "p", PodUID: uid, Interface: "net1", Address: addr, MAC: foreign, Withdrawn: withdrawn,
		}})
	}
}

// confined puts an address into quarantine.
func confined(addr string) func(*seen) {
	return func(o *seen) { o.Addresses[addr].Spec.State = v1alpha1.Quarantined }
}

// TestDecideConflict: an address that another machine has is put into quarantine, replaced, and
// given back when the node says that nothing there has it; only if it is the reported pod's, on
// the node that reports, and the pod can have another one.
func TestDecideConflict(t *testing.T) {
	names[addresses.Quarantine] = "quarantine"
	const a, b = "10.1.0.5", "10.1.0.6"
	mine := func(more ...func(*seen)) seen {
		return observed(slices.Concat([]func(*seen){pod("1"), claim("1", has(a)), held(a, "1")}, more)...)
	}
	nics := func(s ipam.StaticNIC) func(*seen) {
		return func(o *seen) { o.Claim.Spec.NICs[0].Static = &s }
	}
	for _, x := range []struct {
		name, want string
		stays      string // what the pod is told
		o          seen
	}{
		{"reported", "quarantine " + a, "", mine(conflict("node1", "m1", "1", a, false))},
		{"by another node", "nothing", "", mine(conflict("node2", "m1", "1", a, false))},
		{"by another machine", "nothing", "", mine(conflict("node1", "m2", "1", a, false))},
		{"of a former pod", "nothing", "", mine(conflict("node1", "m1", "0", a, false))},
		{"an address that the pod hasn't got", "nothing", "", mine(conflict("node1", "m1", "1", b, false))},
		{"an address of another pod", "nothing", "", mine(conflict("node1", "m1", "1", b, false), others(b))},
		{"not an address", "nothing", "", mine(conflict("node1", "m1", "1", "ten", false))},
		{"of a StatefulSet's pod", "nothing", "it is fixed", mine(conflict("node1", "m1", "1", a, false), func(o *seen) { of("StatefulSet")(o.Claim) })},
		{"that the pod names", "nothing", "the pod names it", mine(conflict("node1", "m1", "1", a, false), nics(ipam.StaticNIC{IPs: []string{a}}))},
		{"of static-ip: auto", "quarantine " + a, "", mine(conflict("node1", "m1", "1", a, false), nics(ipam.StaticNIC{}))},
		{"when many are in quarantine", "nothing", "proxy ARP", mine(conflict("node1", "m1", "1", a, false), func(o *seen) { o.Crowded = map[string]bool{"a": true} })},
		{"in quarantine", "allocate", "", mine(conflict("node1", "m1", "1", a, false), confined(a))},
		{"and there is no report", "allocate", "", mine(confined(a))},
		{"and the node reports no conflict any more", "update address " + a, "", mine(confined(a), node(says("m1", nil, nil)))},
		{"replaced, but not yet withdrawn", "nothing", "", observed(pod("1"), claim("1", has(b)), held(a, "1"), held(b, "1"), confined(a), conflict("node1", "m1", "1", a, false))},
		{"replaced, and withdrawn", "give back " + a, "", observed(pod("1"), claim("1", has(b)), held(a, "1"), held(b, "1"), confined(a), conflict("node1", "m1", "1", a, true))},
		{"withdrawn on another machine", "nothing", "", observed(pod("1"), claim("1", has(b)), held(a, "1"), held(b, "1"), confined(a), conflict("node1", "m2", "1", a, true))},
		{"the pod is gone", "give back " + a, "", observed(claim("1", has(b), withdrawnBy("m1")), held(a, "1"), confined(a), conflict("node1", "m1", "1", a, false))},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := describe(addresses.Decide(x.o)); got != x.want {
				t.Errorf("it decides to %s, want %s", got, x.want)
			}
			got := ""
			for _, s := range x.o.Stays() {
				got += s.Message
			}
			if (got == "") != (x.stays == "") || !strings.Contains(got, x.stays) {
				t.Errorf("the pod is told %q, want %q", got, x.stays)
			}
		})
	}
	kept := addresses.Decide(mine(confined(a), node(says("m1", nil, nil)))).Address
	if kept == nil || kept.Spec.State != v1alpha1.Allocated || kept.Spec.Quarantine != nil || !kept.HeldBy("1") {
		t.Errorf("kept, it is %+v", kept)
	}
	back := addresses.Returned(&v1alpha1.IPAddress{Spec: v1alpha1.IPAddressSpec{
		State: v1alpha1.Quarantined, Quarantine: &v1alpha1.Quarantine{Since: early}, Holders: []v1alpha1.Holder{{PodUID: "1"}},
	}}, "1", late)
	if back == nil || back.Spec.State != v1alpha1.Quarantined || len(back.Spec.Holders) > 0 || back.Spec.Quarantine == nil {
		t.Errorf("given back, it is %+v", back)
	}
}

// TestLostInQuarantine: an IPAddress in quarantine that somebody deletes while a pod holds it is made again as it was.
// The claim names another one by then, and the pod's sandbox may still have it.
func TestLostInQuarantine(t *testing.T) {
	const a, b = "10.1.0.5", "10.1.0.6"
	for _, x := range []struct {
		name, want string
		state      string
		o          seen
	}{
		{"in quarantine", "create address " + a, v1alpha1.Quarantined, observed(pod("1"), claim("1", has(b)), held(b, "1"))},
		{"not in quarantine, and the claim names another one", "nothing", v1alpha1.Allocated, observed(pod("1"), claim("1", has(b)), held(b, "1"))},
		{"in quarantine, and the node is off", "nothing", v1alpha1.Quarantined, observed(pod("1"), claim("1", has(b)), held(b, "1"), node(fenced))},
	} {
		t.Run(x.name, func(t *testing.T) {
			lost := address(a, "p", "1")
			lost.Spec.State = x.state
			x.o.Lost = []*v1alpha1.IPAddress{lost}
			x.o.Addresses[a] = nil
			s := addresses.Decide(x.o)
			if got := describe(s); got != x.want {
				t.Errorf("it decides to %s, want %s", got, x.want)
			}
			if s.Kind == addresses.CreateAddress && s.Address.Spec.State != x.state {
				t.Errorf("it is made as %s", s.Address.Spec.State)
			}
		})
	}
}

// report says for the agent of a node that another machine has addresses of a pod.
func (b *bench) report(node string, p *corev1.Pod, withdrawn bool, addrs ...string) {
	b.Helper()
	s := &v1alpha1.NodeSpool{}
	s.Name = node
	if err := b.C.Get(b.Context(), client.ObjectKey{Name: node}, s); err != nil {
		b.Create(s)
	}
	s.Status.MachineID = "machine-of-" + node
	s.Status.Conflicts = nil
	for _, a := range addrs {
		s.Status.Conflicts = append(s.Status.Conflicts, v1alpha1.Conflict{
			Namespace: p.Namespace, Pod: p.Name, PodUID: string(p.UID), Interface: "net1", Address: a, MAC: foreign, Withdrawn: withdrawn,
		})
	}
	if err := b.C.Status().Update(b.Context(), s); err != nil {
		b.Fatal(err)
	}
}

// is waits until an IPAddress is in a state, and a pod its holder ("" for nobody).
func (b *bench) is(addr, state, holder string) {
	b.Helper()
	name := ipam.Key{Addr: netip.MustParseAddr(addr)}.String()
	b.Eventually("IPAddress "+name, func() error {
		a := &v1alpha1.IPAddress{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: name}, a); err != nil {
			return err
		}
		got := ""
		for _, h := range a.Spec.Holders {
			got = h.Pod
		}
		if a.Spec.State != state || got != holder || state == v1alpha1.Quarantined && (a.Spec.Quarantine == nil || a.Spec.Quarantine.MAC != foreign) {
			return fmt.Errorf("%s, held by %q, %+v: want %s, %q", a.Spec.State, got, a.Spec.Quarantine, state, holder)
		}
		return nil
	})
}

// has waits until a pod's claim says that it has these.
func (b *bench) has(name, want string) {
	b.Helper()
	b.Eventually("pod "+name, func() error {
		if got := b.ready(name); got != want {
			return fmt.Errorf("it has %s, want %s", got, want)
		}
		return nil
	})
}

// TestConflict: a pod whose address another machine has gets another one of the family, keeps
// the rest, and is told. Nobody gets the address: not the pod that waits for it, nor anybody
// when the first pod is gone, until an hour has passed.
func TestConflict(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("lan", "10.6.0.0/16", "10.6.168.171-10.6.168.173")
	b.pool("lan6", "fd00:6::/64", "fd00:6::171-fd00:6::180")
	b.Network("lan", `,"default_ipv4_ippool":["lan"],"default_ipv6_ippool":["lan6"]`)
	b.start(nil)
	p := b.pod("first", "node1", networks("lan,lan"))
	b.has("first", "net1 10.6.168.171/16 fd00:6::171/64, net2 10.6.168.172/16 fd00:6::172/64")
	b.report("node1", p, false, "10.6.168.171")
	b.is("10.6.168.171", v1alpha1.Quarantined, "first") // until the node says that it hasn't got it any more
	b.has("first", "net2 10.6.168.172/16 fd00:6::172/64, net1 10.6.168.173/16 fd00:6::171/64")
	b.event("first", "AddressConflict", "address 10.6.168.171 of net1 is in use by another machine, with MAC "+foreign)
	b.report("node1", p, true, "10.6.168.171")
	b.is("10.6.168.171", v1alpha1.Quarantined, "")
	b.is("10.6.168.173", v1alpha1.Allocated, "first")
	b.is("fd00:6::171", v1alpha1.Allocated, "first")
	b.report("node1", p, false)

	b.pod("second", "node1", networks("lan"))
	b.waits("second", "pool lan: 3 of 3 addresses are in use")
	collect := func(age time.Duration) {
		t.Helper()
		a := &v1alpha1.IPAddress{}
		if err := b.C.Get(t.Context(), client.ObjectKey{Name: "10.6.168.171"}, a); err != nil {
			t.Fatal(err)
		}
		a.Spec.Quarantine.Since = metav1.NewTime(time.Now().Add(-age))
		if err := b.C.Update(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		b.Eventually("the cache", func() error {
			now := &v1alpha1.IPAddress{}
			if err := b.ctl.Cache.Get(t.Context(), client.ObjectKeyFromObject(a), now); err != nil || now.ResourceVersion != a.ResourceVersion {
				return errors.Join(err, errors.New("it is late"))
			}
			return nil
		})
		if err := b.ctl.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	collect(59 * time.Minute)
	b.is("10.6.168.171", v1alpha1.Quarantined, "")
	b.waits("second", "pool lan: 3 of 3 addresses are in use")
	collect(61 * time.Minute)
	b.has("second", "net1 10.6.168.171/16 fd00:6::173/64")
}

// TestConflictHeld: what is in quarantine isn't free while the pod that held it may have it,
// nor when that is gone.
func TestConflictHeld(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("lan", "10.6.0.0/16", "10.6.168.171")
	b.Network("lan", `,"default_ipv4_ippool":["lan"]`)
	b.start(nil)
	p := b.pod("first", "node1", networks("lan"))
	b.has("first", "net1 10.6.168.171/16")
	b.report("node1", p, false, "10.6.168.171")
	b.is("10.6.168.171", v1alpha1.Quarantined, "first")
	b.waits("first", "no IPv4 address for net1: pool lan: 1 of 1 addresses are in use")
	b.has("first", "net1 10.6.168.171/16") // it isn't replaced by nothing
	b.pool("more", "10.6.0.0/16", "10.6.168.174")
	b.Delete(p)
	b.withdraw("first")
	b.is("10.6.168.171", v1alpha1.Quarantined, "")
	b.pod("second", "node1", networks("lan"))
	b.waits("second", "pool lan: 1 of 1 addresses are in use")
}

// TestConflictProxy: a machine that answers for all addresses doesn't empty the pool.
func TestConflictProxy(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("lan", "10.6.0.0/16", "10.6.168.171-10.6.168.174")
	b.Network("lan", `,"default_ipv4_ippool":["lan"]`)
	b.start(nil)
	p := b.pod("first", "node1", networks("lan"))
	for _, a := range []string{"10.6.168.171", "10.6.168.172"} {
		b.has("first", "net1 "+a+"/16")
		b.report("node1", p, false, a)
		b.is(a, v1alpha1.Quarantined, "first")
		b.has("first", "net1 "+netip.MustParseAddr(a).Next().String()+"/16")
		b.report("node1", p, true, a)
		b.is(a, v1alpha1.Quarantined, "")
	}
	b.report("node1", p, false, "10.6.168.173")
	b.event("first", "AddressConflict", "pool lan has as many addresses in quarantine as it may")
	b.is("10.6.168.173", v1alpha1.Allocated, "first")
}

// TestConflictFixed: a pod keeps its address where it is the only one that it can have, and is
// told.
func TestConflictFixed(t *testing.T) {
	b := newStatic(t)
	b.statefulSet("web", static("mv1.100", "auto", ""), 0)
	named := b.pod("named", "node1", static("mv1.100", "192.168.1.100", ""))
	b.has("web-0", "net1 192.168.1.2/24")
	b.has("named", "net1 192.168.1.100/24")
	web := &corev1.Pod{}
	if err := b.C.Get(t.Context(), types.NamespacedName{Namespace: b.NS, Name: "web-0"}, web); err != nil {
		t.Fatal(err)
	}
	s := &v1alpha1.NodeSpool{}
	s.Name = "node1"
	b.Create(s)
	for _, x := range []struct {
		p    *corev1.Pod
		addr string
	}{{web, "192.168.1.2"}, {named, "192.168.1.100"}} {
		s.Status.Conflicts = append(s.Status.Conflicts, v1alpha1.Conflict{
			Namespace: b.NS, Pod: x.p.Name, PodUID: string(x.p.UID), Interface: "net1", Address: x.addr, Network: "vlan100", MAC: foreign,
		})
	}
	if err := b.C.Status().Update(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	b.event("web-0", "AddressConflict", "address 192.168.1.2 of net1 is in use by another machine, with MAC "+foreign+". The pod gets no other one: it is fixed")
	b.event("named", "AddressConflict", "The pod gets no other one: the pod names it")
	for _, name := range []string{"192.168.1.2.vlan100", "192.168.1.100.vlan100"} {
		a := &v1alpha1.IPAddress{}
		if err := b.C.Get(t.Context(), client.ObjectKey{Name: name}, a); err != nil || a.Spec.State != v1alpha1.Allocated {
			t.Errorf("%s: %+v, %v", name, a.Spec, err)
		}
	}
	var claims v2beta1.SpiderEndpointList
	if err := b.C.List(t.Context(), &claims, client.InNamespace(b.NS)); err != nil || len(claims.Items) != 2 {
		t.Errorf("%d claims, %v", len(claims.Items), err)
	}
}
