// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

var (
	early = metav1.NewTime(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	late  = metav1.NewTime(early.Add(time.Minute))
)

// seen is an observation of pod ns/p on node1, changed by functions.
type seen = addresses.Observed

func observed(change ...func(*seen)) seen {
	o := seen{
		Key:       types.NamespacedName{Namespace: "ns", Name: "p"},
		Addresses: map[string]*v1alpha1.IPAddress{},
		Nodes:     map[string]addresses.Node{"node1": {MachineID: "m1"}},
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// pod is there, bound to node1.
func pod(uid string, change ...func(*corev1.Pod)) func(*seen) {
	return func(o *seen) {
		o.Pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: types.UID(uid), CreationTimestamp: early}, Spec: corev1.PodSpec{NodeName: "node1"}}
		for _, f := range change {
			f(o.Pod)
		}
	}
}

// claim is there, with one NIC.
func claim(uid string, change ...func(*v2beta1.SpiderEndpoint)) func(*seen) {
	return func(o *seen) {
		o.Claim = &v2beta1.SpiderEndpoint{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "claim", CreationTimestamp: early},
			Spec:       v2beta1.SpiderEndpointSpec{PodUID: uid, NodeName: "node1", MachineID: "m1", Since: early, NICs: []v2beta1.EndpointNIC{{Interface: "net1", IPv4Pools: []string{"a"}}}},
		}
		for _, f := range change {
			f(o.Claim)
		}
	}
}

// has makes the claim Ready, with an address.
func has(addr string) func(*v2beta1.SpiderEndpoint) {
	return func(c *v2beta1.SpiderEndpoint) {
		c.Status.Phase = v2beta1.Allocated
		c.Status.Current = &v2beta1.PodCurrent{UID: c.Spec.PodUID, IPs: []v2beta1.NICAddresses{{Interface: "net1", IPv4: addr + "/16", IPv4Pool: "a"}}}
	}
}

func withdrawnBy(machine string) func(*v2beta1.SpiderEndpoint) {
	return func(c *v2beta1.SpiderEndpoint) { c.Status.Withdrawn = &v2beta1.Withdrawn{MachineID: machine} }
}

func releasing(c *v2beta1.SpiderEndpoint) { c.Status.Phase = v2beta1.Releasing }

func address(addr, name, uid string) *v1alpha1.IPAddress {
	a := addresses.Address(ipam.Key{Addr: netip.MustParseAddr(addr)}, "a", v1alpha1.Holder{
		Namespace: "ns", Pod: name, PodUID: uid, Interface: "net1", Node: "node1", MachineID: "m1",
	})
	a.CreationTimestamp = late
	return a
}

// held is an address of pod ns/p.
func held(addr, uid string) func(*seen) {
	return func(o *seen) { a := address(addr, "p", uid); o.Addresses[a.Name] = a }
}

func heldEarly(addr, uid string) func(*seen) {
	return func(o *seen) { held(addr, uid)(o); o.Addresses[addr].CreationTimestamp = early }
}

// heldFor is an address of an application's pool, taken for a claim of a UID.
func heldFor(addr, uid, claim string) func(*seen) {
	return func(o *seen) {
		held(addr, uid)(o)
		o.Addresses[addr].CreationTimestamp = early
		o.Addresses[addr].Spec.Application = &v1alpha1.Owner{Kind: "Deployment", Namespace: "ns", Name: "app"}
		o.Addresses[addr].Spec.Holders[0].Claim = claim
	}
}

// of gives a claim an identity.
func of(kind string) func(*v2beta1.SpiderEndpoint) {
	return func(c *v2beta1.SpiderEndpoint) {
		c.Spec.Identity = &v1alpha1.Owner{Kind: kind, Namespace: "ns", Name: "x"}
	}
}

// spare is an address of an application's pool, which nobody has.
func spare(addr string) func(*seen) {
	return func(o *seen) {
		heldFor(addr, "1", "claim")(o)
		o.Addresses[addr].Spec.State, o.Addresses[addr].Spec.Holders = v1alpha1.Reserved, nil
	}
}

// identical is an address of that identity, with a number of holders.
func identical(addr, kind string, holders int) func(*seen) {
	return func(o *seen) {
		a := address(addr, "other", "another")
		a.Spec.Identity = &v1alpha1.Owner{Kind: kind, Namespace: "ns", Name: "x", Interface: "net1"}
		h := a.Spec.Holders[0]
		a.Spec.Holders = slices.Repeat([]v1alpha1.Holder{h}, holders)
		if holders == 0 {
			a.Spec.State = v1alpha1.Reserved
		}
		o.Addresses[addr] = a
	}
}

// migrating says that the address's holder is of the pod's instance.
func migrating(addr string) func(*seen) {
	return func(o *seen) { o.Migrates = map[string]bool{addr: true} }
}

func others(addr string) func(*seen) {
	return func(o *seen) { o.Addresses[addr] = address(addr, "other", "another") }
}

func node(f func(*addresses.Node)) func(*seen) {
	return func(o *seen) { n := o.Nodes["node1"]; f(&n); o.Nodes["node1"] = n }
}

func gone(n *addresses.Node)    { *n = addresses.Node{Gone: true, Spool: n.Spool} }
func fenced(n *addresses.Node)  { n.Fenced = true }
func another(n *addresses.Node) { n.MachineID = "m2" }

func says(machine string, asked, withdrawn []string) func(*addresses.Node) {
	return func(n *addresses.Node) {
		n.Spool = &v1alpha1.NodeSpool{Spec: v1alpha1.NodeSpoolSpec{Ask: asked}, Status: v1alpha1.NodeSpoolStatus{MachineID: machine, Withdrawn: withdrawn}}
	}
}

func wanted(nics ...string) func(*seen) {
	return func(o *seen) {
		for _, n := range nics {
			o.Wanted = append(o.Wanted, v2beta1.EndpointNIC{Interface: n})
		}
	}
}

func sandbox(uid, addr string) func(*seen) {
	return func(o *seen) {
		o.Sandboxes = append(o.Sandboxes, addresses.Sandbox{Node: "node1", MachineID: "m1", Sandbox: v1alpha1.Sandbox{
			Namespace: "ns", Pod: "p", PodUID: uid, Interface: "net1", Addresses: []v1alpha1.Held{{Address: addr, Pool: "a"}},
		}})
	}
}

func unclear(hopeless bool) func(*seen) {
	return func(o *seen) { o.Unclear, o.Hopeless = "no network", hopeless }
}

func waiting(o *seen) { o.Waited = time.Minute }

var names = map[addresses.Kind]string{
	addresses.Nothing: "nothing", addresses.Wait: "wait", addresses.CreateClaim: "create claim", addresses.UpdateClaim: "update claim",
	addresses.MarkReleasing: "mark releasing", addresses.DeleteClaim: "delete claim", addresses.Allocate: "allocate",
	addresses.CreateAddress: "create address", addresses.UpdateAddress: "update address", addresses.GiveBack: "give back",
	addresses.Ask: "ask", addresses.Tell: "tell",
}

func describe(s addresses.Step) string {
	out := names[s.Kind]
	if s.Address != nil {
		out += " " + s.Address.Name
	}
	if s.Kind == addresses.Ask {
		out += " " + s.Node + " about " + s.UID
	}
	if s.Kind == addresses.Tell {
		out += " " + s.Reason
	}
	return out
}

func TestDecide(t *testing.T) {
	finished := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	unbound := func(p *corev1.Pod) { p.Spec.NodeName = "" }
	terminating := func(p *corev1.Pod) { p.DeletionTimestamp = &late }
	for _, x := range []struct {
		name string
		o    seen
		want string
	}{
		{"nothing at all", observed(), "nothing"},
		{"a pod that isn't bound", observed(pod("1", unbound), wanted("net1")), "nothing"},
		{"a pod without NICs of ours", observed(pod("1")), "nothing"},
		{"a pod that wants addresses", observed(pod("1"), wanted("net1")), "create claim"},
		{"one that is on its way out", observed(pod("1", terminating), wanted("net1")), "nothing"},
		{"one whose networks aren't clear", observed(pod("1"), unclear(false)), "create claim"},
		{"one that has finished", observed(pod("1", finished), wanted("net1")), "nothing"},
		{"the claim without addresses", observed(pod("1"), claim("1")), "allocate"},
		{"the claim without addresses, of a pod on its way out", observed(pod("1", terminating), claim("1")), "nothing"},
		{"which took one in vain", observed(pod("1", terminating), claim("1"), held("10.1.0.5", "1")), "give back 10.1.0.5"},
		{"its networks say something else", observed(pod("1"), claim("1"), wanted("net1")), "update claim"},
		{"a sandbox has its address", observed(pod("1"), claim("1"), wanted("net1"), held("10.1.0.5", "1"), sandbox("1", "10.1.0.5")), "allocate"},
		{"it has its address, and its networks say something else", observed(pod("1"), claim("1", has("10.1.0.5")), wanted("net1"), held("10.1.0.5", "1")), "nothing"},
		{"its networks aren't clear", observed(pod("1"), claim("1"), unclear(false)), "tell Waiting"},
		{"they never will be", observed(pod("1"), claim("1"), unclear(true)), "tell Invalid"},
		{"a NIC more", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), func(o *seen) { o.Late = []v2beta1.EndpointNIC{{Interface: "net2"}} }), "update claim"},
		{"all is well", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1")), "nothing"},
		{"its IPAddress is missing", observed(pod("1"), claim("1", has("10.1.0.5"))), "create address 10.1.0.5"},
		{"its IPAddress was made anew for its application's pool", observed(pod("1"), claim("1", has("10.1.0.5")), spare("10.1.0.5")), "update address 10.1.0.5"},
		{"its address is another pod's", observed(pod("1"), claim("1", has("10.1.0.5")), others("10.1.0.5")), "tell Conflict"},
		{"it is the other pod's of its virtual machine", observed(pod("1"), claim("1", has("10.1.0.5"), of("VirtualMachine")), identical("10.1.0.5", "VirtualMachine", 1), migrating("10.1.0.5")), "update address 10.1.0.5"},
		{"it is that of a pod of another instance of its virtual machine", observed(pod("1"), claim("1", has("10.1.0.5"), of("VirtualMachine")), identical("10.1.0.5", "VirtualMachine", 1)), "tell Conflict"},
		{"two other pods of its virtual machine have it", observed(pod("1"), claim("1", has("10.1.0.5"), of("VirtualMachine")), identical("10.1.0.5", "VirtualMachine", 2), migrating("10.1.0.5")), "tell Conflict"},
		{"it is another pod's of the ordinal", observed(pod("1"), claim("1", has("10.1.0.5"), of("StatefulSet")), identical("10.1.0.5", "StatefulSet", 1)), "tell Conflict"},
		{"it is a virtual machine's, the pod isn't", observed(pod("1"), claim("1", has("10.1.0.5")), identical("10.1.0.5", "VirtualMachine", 1), migrating("10.1.0.5")), "tell Conflict"},
		{"it is kept for the pod, which has it", observed(pod("1"), claim("1", has("10.1.0.5"), of("StatefulSet")), identical("10.1.0.5", "StatefulSet", 0)), "update address 10.1.0.5"},
		{"an address too many", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), held("10.1.0.6", "1")), "give back 10.1.0.6"},
		{"which a sandbox has", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), held("10.1.0.6", "1"), sandbox("1", "10.1.0.6")), "nothing"},
		{"which is older than the claim", observed(pod("1"), claim("1", func(c *v2beta1.SpiderEndpoint) { c.CreationTimestamp = late }, has("10.1.0.5")),
			held("10.1.0.5", "1"), heldEarly("10.1.0.6", "1")), "nothing"},
		{"an application's, taken for this claim", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), heldFor("10.1.0.6", "1", "claim")), "give back 10.1.0.6"},
		{"an application's, taken for a former claim", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), heldFor("10.1.0.6", "1", "former")), "nothing"},
		{"the node is another machine: the holders first", observed(pod("1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), node(another)), "update address 10.1.0.5"},

		{"the pod is gone, the node hasn't said anything", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1")), "wait"},
		{"the pod has finished", observed(pod("1", finished), claim("1", has("10.1.0.5")), held("10.1.0.5", "1")), "wait"},
		{"another pod has the name", observed(pod("2"), wanted("net1"), claim("1", has("10.1.0.5")), held("10.1.0.5", "1")), "wait"},
		{"for long", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), waiting), "ask node1 about 1"},
		{"it is asked", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), waiting, node(says("m1", []string{"1"}, nil))), "tell NotWithdrawn"},
		{"it answers", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), waiting, node(says("m1", []string{"1"}, []string{"1"}))), "mark releasing"},
		{"another machine answers", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), waiting, node(says("m2", []string{"1"}, []string{"1"}))), "tell NotWithdrawn"},
		{"it is deleted", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), node(gone)), "mark releasing"},
		{"it is out of service", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), node(fenced)), "mark releasing"},
		{"another machine has its name", observed(claim("1", has("10.1.0.5")), held("10.1.0.5", "1"), node(another)), "mark releasing"},
		{"it is marked", observed(claim("1", has("10.1.0.5"), releasing), held("10.1.0.5", "1"), node(gone)), "give back 10.1.0.5"},
		{"it has withdrawn", observed(claim("1", has("10.1.0.5"), withdrawnBy("m1")), held("10.1.0.5", "1")), "give back 10.1.0.5"},
		{"another machine has", observed(claim("1", has("10.1.0.5"), withdrawnBy("m2")), held("10.1.0.5", "1")), "wait"},
		{"it has withdrawn while the pod lives", observed(pod("1"), claim("1", has("10.1.0.5"), withdrawnBy("m1")), held("10.1.0.5", "1")), "give back 10.1.0.5"},
		{"it has withdrawn, and all is given back", observed(claim("1", has("10.1.0.5"), withdrawnBy("m1"))), "delete claim"},
		{"nobody was told", observed(claim("1"), held("10.1.0.5", "1")), "mark releasing"},
		{"nobody was told by this claim, but perhaps by a former one", observed(claim("1"), heldEarly("10.1.0.5", "1")), "wait"},

		{"nobody was told by this claim, but the node reports a sandbox", observed(claim("1", releasing), held("10.1.0.5", "1"), sandbox("1", "10.1.0.5")), "wait"},
		{"it has withdrawn, and its report of the sandbox is older", observed(claim("1", has("10.1.0.5"), withdrawnBy("m1")), sandbox("1", "10.1.0.5")), "delete claim"},

		{"an address without a claim", observed(held("10.1.0.5", "1")), "ask node1 about 1"},
		{"the node is asked", observed(held("10.1.0.5", "1"), node(says("m1", []string{"1"}, nil))), "nothing"},
		{"the node answers", observed(held("10.1.0.5", "1"), node(says("m1", []string{"1"}, []string{"1"}))), "give back 10.1.0.5"},
		{"the node is gone", observed(held("10.1.0.5", "1"), node(gone)), "give back 10.1.0.5"},
		{"an address of a former pod beside a claim", observed(pod("2"), claim("2"), held("10.1.0.5", "1")), "ask node1 about 1"},
		{"a sandbox whose address has no object", observed(sandbox("1", "10.1.0.5")), "create address 10.1.0.5"},
		{"on a machine that is gone", observed(sandbox("1", "10.1.0.5"), node(gone)), "nothing"},
		{"an address that somebody deleted", observed(func(o *seen) { o.Lost = []*v1alpha1.IPAddress{address("10.1.0.5", "p", "1")} }), "create address 10.1.0.5"},
		{"of a pod that was withdrawn", observed(node(says("m1", []string{"1"}, []string{"1"})), func(o *seen) { o.Lost = []*v1alpha1.IPAddress{address("10.1.0.5", "p", "1")} }), "nothing"},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := describe(addresses.Decide(x.o)); got != x.want {
				t.Errorf("it decides to %s, want %s", got, x.want)
			}
		})
	}
}

// TestAdopted: a StatefulSet was made again under its name, and has adopted the pod of the former one: the claim
// and the addresses that the pod holds are of its UID from then on.
func TestAdopted(t *testing.T) {
	id := func(uid string, ordinal int32) *v1alpha1.Owner {
		return &v1alpha1.Owner{Group: "apps", Kind: identities.StatefulSet, Namespace: "ns", Name: "web", UID: uid, Ordinal: &ordinal}
	}
	by := func(kind, version, uid string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Name = "web-0"
			if uid != "" {
				p.OwnerReferences = []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: "web", UID: types.UID(uid), Controller: ptr.To(true)}}
			}
		}
	}
	set := func(uid string) func(*corev1.Pod) { return by(identities.StatefulSet, "apps/v1", uid) }
	ending := func(p *corev1.Pod) { set("2")(p); p.DeletionTimestamp = &late }
	ended := func(p *corev1.Pod) { set("2")(p); p.Status.Phase = corev1.PodSucceeded }
	for _, x := range []struct {
		name           string
		pod            string
		change         func(*corev1.Pod)
		claim, address *v1alpha1.Owner
		holder         string
		want           string
	}{
		{"nothing happened", "1", set("1"), id("1", 0), id("1", 0), "1", ""},
		{"it is an orphan", "1", set(""), id("1", 0), id("1", 0), "1", ""},
		{"adopted", "1", set("2"), id("1", 0), id("1", 0), "1", "claim 2"},
		{"the claim says so", "1", set("2"), id("2", 0), id("1", 0), "1", "address 2"},
		{"both say so", "1", set("2"), id("2", 0), id("2", 0), "1", ""},
		{"it ends", "1", ending, id("1", 0), id("1", 0), "1", "claim 2"},
		{"it has ended", "1", ended, id("2", 0), id("1", 0), "1", "address 2"},
		{"the claim is another pod's", "2", set("2"), id("1", 0), id("1", 0), "1", ""},
		{"another pod holds the address", "1", set("2"), id("2", 0), id("1", 0), "2", ""},
		{"the address is of another ordinal", "1", set("2"), id("2", 0), id("1", 1), "1", ""},
		{"it had no identity", "1", set("2"), nil, nil, "1", ""},
		{"another project's StatefulSet has adopted it", "1", by(identities.StatefulSet, "apps.kruise.io/v1", "2"), id("1", 0), id("1", 0), "1", ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := observed(pod(x.pod, x.change), claim("1", has("10.0.0.1")), held("10.0.0.1", x.holder))
			o.Key.Name, o.Claim.Name = "web-0", "web-0"
			o.Claim.Spec.Identity = x.claim
			a := o.Addresses["10.0.0.1"]
			a.Spec.Identity = x.address
			if x.holder == "1" {
				a.Spec.Holders[0].Pod = "web-0"
			}
			got := ""
			switch s := addresses.Decide(o); {
			case s.Kind == addresses.UpdateClaim && s.Claim.Spec.Identity != nil:
				got = "claim " + s.Claim.Spec.Identity.UID
			case s.Kind == addresses.UpdateAddress && s.Address.Spec.Identity != nil:
				got = "address " + s.Address.Spec.Identity.UID
			}
			if got != x.want {
				t.Errorf("got %q, want %q", got, x.want)
			}
		})
	}
}

// FuzzDecide takes the steps that are decided in a state. It comes to rest, and an address is
// deleted only where its pod is gone, or was never told it, and its node can't have it in use.
func FuzzDecide(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		o := anything(rand.New(rand.NewPCG(seed, 0)))
		var steps []string
		for range 60 {
			s := addresses.Decide(o)
			steps = append(steps, describe(s))
			if s.Kind == addresses.GiveBack {
				mayDelete(t, o, s.Address)
			}
			if taken(&o, s) {
				return
			}
		}
		t.Fatalf("it doesn't come to rest: %v", steps)
	})
}

// anything returns a state by chance.
func anything(r *rand.Rand) seen {
	pick := func(list ...func(*seen)) func(*seen) { return list[r.IntN(len(list))] }
	none := func(*seen) {}
	uid := func() string { return fmt.Sprint(1 + r.IntN(2)) }
	addr := func() string { return fmt.Sprintf("10.1.0.%d", 5+r.IntN(2)) }
	machine := func() string { return []string{"m1", "m2", ""}[r.IntN(3)] }
	status := func(c *v2beta1.SpiderEndpoint) {
		for _, f := range []func(*v2beta1.SpiderEndpoint){has(addr()), withdrawnBy(machine()), releasing, func(c *v2beta1.SpiderEndpoint) { c.CreationTimestamp = late }} {
			if r.IntN(3) == 0 {
				f(c)
			}
		}
	}
	return observed(
		pick(none, pod(uid()), pod(uid(), func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })),
		pick(none, claim(uid(), status)),
		pick(none, held(addr(), uid()), heldEarly(addr(), uid())), pick(none, held(addr(), uid()), others(addr())),
		pick(none, sandbox(uid(), addr())), pick(none, wanted("net1"), wanted("net1", "net2")), pick(none, none, unclear(r.IntN(2) == 0)),
		pick(none, node(gone), node(fenced), node(another)), pick(none, node(says(machine(), nil, []string{uid()})), node(says(machine(), []string{uid()}, nil))),
		pick(none, waiting), pick(none, func(o *seen) { o.Lost = []*v1alpha1.IPAddress{address(addr(), "p", uid())} }),
	)
}

// mayDelete fails the test where an address may not be deleted.
func mayDelete(t *testing.T, o seen, a *v1alpha1.IPAddress) {
	t.Helper()
	for _, h := range a.Spec.Holders {
		n := o.Nodes[h.Node]
		same := func(a, b string) bool { return a == "" || b == "" || a == b }
		can := n.Gone || n.Fenced || !same(n.MachineID, h.MachineID) ||
			n.Spool != nil && slices.Contains(n.Spool.Status.Withdrawn, h.PodUID) && same(n.Spool.Status.MachineID, h.MachineID)
		if c := o.Claim; c != nil && c.Spec.PodUID == h.PodUID {
			told := c.Status.Current != nil || len(o.Sandboxes) > 0 && o.Sandboxes[0].PodUID == h.PodUID || !c.CreationTimestamp.Before(&a.CreationTimestamp)
			_, named := addresses.Named(c)[a.Name]
			can = can || c.Status.Withdrawn != nil && same(c.Status.Withdrawn.MachineID, c.Spec.MachineID) || c.Status.Phase == v2beta1.Releasing && !told
			if addresses.Alive(o.Pod) && pods.UID(o.Pod) == h.PodUID && c.Status.Withdrawn == nil && c.Status.Phase != v2beta1.Releasing {
				can = !named && !a.CreationTimestamp.Before(&c.CreationTimestamp)
			}
		} else if addresses.Alive(o.Pod) && pods.UID(o.Pod) == h.PodUID {
			can = false
		}
		if !can {
			t.Fatalf("%s of UID %s is deleted, with pod %+v, claim %+v, node %+v", a.Name, h.PodUID, o.Pod, o.Claim, n)
		}
	}
}

// taken takes a step, and reports whether there is nothing more to do now.
func taken(o *seen, s addresses.Step) bool {
	switch s.Kind {
	case addresses.CreateClaim:
		o.Claim = s.Claim.DeepCopy()
		o.Claim.CreationTimestamp = late
	case addresses.UpdateClaim, addresses.MarkReleasing:
		o.Claim = s.Claim
	case addresses.DeleteClaim:
		o.Claim = nil
	case addresses.CreateAddress, addresses.UpdateAddress:
		o.Addresses[s.Address.Name] = s.Address
	case addresses.GiveBack:
		delete(o.Addresses, s.Address.Name)
	case addresses.Ask:
		n := o.Nodes[s.Node]
		if n.Spool == nil {
			n.Spool = &v1alpha1.NodeSpool{}
		}
		n.Spool.Spec.Ask = append(n.Spool.Spec.Ask, s.UID)
		o.Nodes[s.Node] = n
	case addresses.Tell:
		o.Claim.Status.Conditions = []metav1.Condition{{Type: v2beta1.Ready, Reason: s.Reason, Message: s.Message}}
	default:
		return true
	}
	return false
}

// TestReturned: what becomes of an address that a pod gives back.
func TestReturned(t *testing.T) {
	owner := &v1alpha1.Owner{Kind: "Deployment", Namespace: "ns", Name: "app"}
	one := []v1alpha1.Holder{{Namespace: "ns", Pod: "p", PodUID: "1"}}
	two := append(slices.Clone(one), v1alpha1.Holder{Namespace: "ns", Pod: "q", PodUID: "2"})
	for _, x := range []struct {
		name string
		spec v1alpha1.IPAddressSpec
		want string
	}{
		{"nobody's", v1alpha1.IPAddressSpec{State: v1alpha1.Allocated, Holders: one}, "deleted"},
		{"an application's", v1alpha1.IPAddressSpec{State: v1alpha1.Allocated, Holders: one, Application: owner, Attempt: "a"}, "Reserved [] true"},
		{"an identity's", v1alpha1.IPAddressSpec{State: v1alpha1.Allocated, Holders: one, Identity: owner}, "Reserved [] true"},
		{"two pods'", v1alpha1.IPAddressSpec{State: v1alpha1.Allocated, Holders: two, Identity: owner}, "Allocated [q] false"},
	} {
		t.Run(x.name, func(t *testing.T) {
			got := "deleted"
			if next := addresses.Returned(&v1alpha1.IPAddress{Spec: x.spec}, "1", late); next != nil {
				var pods []string
				for _, h := range next.Spec.Holders {
					pods = append(pods, h.Pod)
				}
				got = fmt.Sprintf("%s %v %t", next.Spec.State, pods, next.Spec.ReleasedAt != nil)
			}
			if got != x.want {
				t.Errorf("got %s, want %s", got, x.want)
			}
		})
	}
}

// TestTakenLate: a write took an address for a pod of an identity when its claim had got another one
// already. Given back, it isn't kept for the identity. What the claim names is, and what a pod took
// whose claim has nothing yet.
func TestTakenLate(t *testing.T) {
	mine := func(addr string) func(*seen) {
		return func(o *seen) {
			held(addr, "u1")(o)
			o.Addresses[addr].Spec.Identity = &v1alpha1.Owner{Kind: "StatefulSet", Namespace: "ns", Name: "x", Interface: "net1"}
			o.Addresses[addr].Spec.Holders[0].Claim = "claim"
		}
	}
	for name, x := range map[string]struct {
		o    seen
		addr string
		kept bool
	}{
		"its pod lives":             {observed(pod("u1"), claim("u1", of("StatefulSet"), has("10.0.0.1")), mine("10.0.0.1"), mine("10.0.0.2")), "10.0.0.2", false},
		"its pod is gone":           {observed(claim("u1", of("StatefulSet"), has("10.0.0.2"), withdrawnBy("m1")), mine("10.0.0.1"), mine("10.0.0.2")), "10.0.0.1", false},
		"the claim names it":        {observed(claim("u1", of("StatefulSet"), has("10.0.0.1"), withdrawnBy("m1")), mine("10.0.0.1")), "10.0.0.1", true},
		"the claim has nothing yet": {observed(claim("u1", of("StatefulSet"), releasing), mine("10.0.0.1")), "10.0.0.1", true},
	} {
		s := addresses.Decide(x.o)
		if s.Kind != addresses.GiveBack || s.Address.Name != x.addr {
			t.Fatalf("%s: %+v, want %s to be given back", name, s, x.addr)
		}
		if next := addresses.Returned(s.Address, "u1", late); (next != nil && next.Spec.Identity != nil) != x.kept {
			t.Errorf("%s: it is %+v then, kept: want %t", name, next, x.kept)
		}
	}
}
