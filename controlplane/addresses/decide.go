// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// grace is how long a node's agent may take to withdraw what a pod had before it is asked,
// and before the claim says what it waits for.
const grace = 10 * time.Second

// NotWithdrawn is the reason of a claim whose pod is gone and whose node hasn't said that its
// addresses aren't in use there.
const NotWithdrawn = "NotWithdrawn"

// Observed is what is known about one name of a pod.
type Observed struct {
	Key   types.NamespacedName
	Pod   *corev1.Pod             // nil: there is none
	Claim *v2beta1.SpiderEndpoint // nil: there is none
	// Addresses are those that pods of this name hold, or that the claim or a node names as
	// theirs, by name.
	Addresses map[string]*v1alpha1.IPAddress
	// Migrates has those whose holder lives, and is a pod of the same instance of a virtual machine.
	Migrates map[string]bool
	// Lost are IPAddresses that somebody deleted who had no right to.
	Lost []*v1alpha1.IPAddress
	// Nodes are those of the pod, of the claim and of the holders.
	Nodes map[string]Node
	// Sandboxes are those that nodes report for pods of this name, without a claim that
	// names their addresses.
	Sandboxes []Sandbox
	// Reported are addresses of pods of this name that other machines have, by the nodes.
	Reported []Reported
	// Crowded are the pools that have as many addresses in quarantine as they may.
	Crowded map[string]bool
	// Wanted are the NICs that want addresses by the pod's annotations, Late those for which
	// a plugin waits on the node.
	Wanted, Late []v2beta1.EndpointNIC
	// Identity is the pod's fixed one, for its claim; nil: it has none.
	Identity *v1alpha1.Owner
	// Unclear says why Wanted isn't known (yet), Hopeless whether it takes another pod to
	// mend that.
	Unclear  string
	Hopeless bool
	// Waited is how long the claim has been waiting for its node to withdraw.
	Waited time.Duration
}

// Node is what is known about a node.
type Node struct {
	Gone      bool // there is no Node of that name
	Fenced    bool // it carries the taint node.kubernetes.io/out-of-service
	MachineID string
	Spool     *v1alpha1.NodeSpool // nil: there is none
}

// Sandbox is a sandbox that a node reports.
type Sandbox struct {
	Node, MachineID string
	v1alpha1.Sandbox
}

// Kind is a kind of step.
type Kind int

// Kinds of steps.
const (
	Nothing Kind = iota
	Wait         // look again after a while
	CreateClaim
	UpdateClaim   // its spec
	MarkReleasing // so that no late "Ready" comes
	DeleteClaim
	Allocate
	CreateAddress
	UpdateAddress
	GiveBack   // an address of a pod
	Quarantine // an address that another machine has
	Ask        // a node to withdraw what a pod had
	Tell       // say in the claim's condition what it waits for
)

// Step is the next thing to do.
type Step struct {
	Kind    Kind
	Claim   *v2beta1.SpiderEndpoint // as it is to be
	Address *v1alpha1.IPAddress     // as it is to be, or the one to give back
	Node    string                  // to ask
	UID     string                  // of the pod about which it is asked, or that gives back
	MAC     string                  // of the machine that has the address
	Reason  string                  // of the condition or event
	Message string
}

// Decide returns the next step for a name. It expects that everything observed is from the
// API server if the step is to be taken; by a cache it only says whether one may be due.
func Decide(o Observed) Step {
	for _, next := range []func() Step{o.orphans, o.lost, o.sandboxes, o.adopted} {
		if s := next(); s.Kind != Nothing {
			return s
		}
	}
	c := o.Claim
	switch alive := Alive(o.Pod); {
	case c == nil && !alive:
		return Step{}
	case c == nil:
		return o.claim()
	case !alive || pods.UID(o.Pod) != c.Spec.PodUID || c.Status.Withdrawn != nil || c.Status.Phase == v2beta1.Releasing:
		return o.release()
	default:
		return o.keep()
	}
}

// Alive reports whether a pod is bound to a node and may run there.
func Alive(p *corev1.Pod) bool {
	return p != nil && p.Spec.NodeName != "" && !pods.Finished(p)
}

// settled reports whether nothing of a pod can be in use on a node any more: the node says so
// in its NodeSpool, or it can't run anything.
func (o Observed) settled(node, machine, uid string) bool {
	n := o.Nodes[node]
	return n.stopped(machine) || n.Spool != nil && slices.Contains(n.Spool.Status.Withdrawn, uid) && same(n.Spool.Status.MachineID, machine)
}

// said reports whether the claim is of a pod of this UID, and its node has withdrawn it.
func (o Observed) said(uid string) bool {
	c := o.Claim
	return c != nil && c.Spec.PodUID == uid && c.Status.Withdrawn != nil && same(c.Status.Withdrawn.MachineID, c.Spec.MachineID)
}

// stopped reports whether the machine on which a pod was can't run it any more: its Node is
// deleted or marked out of service, which nobody may do to a machine that still runs
// (kubernetes.io/docs/concepts/cluster-administration/node-shutdown, "Non-graceful node
// shutdown handling"), or another machine has its name.
func (n Node) stopped(machine string) bool {
	return n.Gone || n.Fenced || !same(n.MachineID, machine)
}

// same reports whether two machine IDs can be of one machine: one that isn't known can be any.
func same(a, b string) bool { return a == "" || b == "" || a == b }

// orphans gives back the addresses of former pods of the name that have no claim.
func (o Observed) orphans() Step {
	for _, a := range o.sorted() {
		for _, h := range a.Spec.Holders {
			if !o.isOf(h) || o.Claim != nil && h.PodUID == o.Claim.Spec.PodUID || Alive(o.Pod) && h.PodUID == pods.UID(o.Pod) {
				continue
			}
			if o.settled(h.Node, h.MachineID, h.PodUID) {
				return Step{Kind: GiveBack, Address: a, UID: h.PodUID}
			}
			if s := o.ask(h.Node, h.PodUID); s.Kind != Nothing {
				return s
			}
		}
	}
	return Step{}
}

func (o Observed) isOf(h v1alpha1.Holder) bool {
	return h.Namespace == o.Key.Namespace && h.Pod == o.Key.Name
}

// ask asks a node to withdraw what a pod had, if it isn't asked yet.
func (o Observed) ask(node, uid string) Step {
	if s := o.Nodes[node].Spool; s != nil && slices.Contains(s.Spec.Ask, uid) {
		return Step{}
	}
	return Step{Kind: Ask, Node: node, UID: uid}
}

// lost makes again the IPAddresses that somebody deleted while their pod may use them.
func (o Observed) lost() Step {
	for _, a := range o.Lost {
		if o.missed(a) {
			return Step{Kind: CreateAddress, Address: a}
		}
	}
	return Step{}
}

// missed reports whether a lost IPAddress is to be made again. Where the pod has a claim, that
// says which addresses it has; but not which one, in quarantine, it had.
func (o Observed) missed(a *v1alpha1.IPAddress) bool {
	h := a.Spec.Holders[0]
	claims := o.Claim != nil && o.Claim.Spec.PodUID == h.PodUID && (a.Spec.State != v1alpha1.Quarantined || Named(o.Claim)[a.Name] != nil)
	return o.Addresses[a.Name] == nil && !claims && !o.settled(h.Node, h.MachineID, h.PodUID)
}

// sandboxes makes again the IPAddresses of sandboxes that a node reports. A report about a pod
// that is withdrawn is from before that.
func (o Observed) sandboxes() Step {
	for _, s := range o.Sandboxes {
		if o.settled(s.Node, s.MachineID, s.PodUID) || o.said(s.PodUID) {
			continue
		}
		for _, held := range s.Addresses {
			addr, err := netip.ParseAddr(held.Address)
			if err != nil {
				continue
			}
			a := Address(ipam.Key{Space: held.Network, Addr: addr}, held.Pool, v1alpha1.Holder{
				Namespace: s.Namespace, Pod: s.Pod, PodUID: s.PodUID, Interface: s.Interface, Node: s.Node, MachineID: s.MachineID,
			})
			if o.Addresses[a.Name] == nil {
				return Step{Kind: CreateAddress, Address: a}
			}
		}
	}
	return Step{}
}

// holders says whose an address is.
func holders(a *v1alpha1.IPAddress) string {
	if len(a.Spec.Holders) == 0 {
		return "nobody"
	}
	h := a.Spec.Holders[0]
	return fmt.Sprintf("pod %s/%s of UID %s on node %s", h.Namespace, h.Pod, h.PodUID, h.Node)
}

// Address returns the IPAddress of an address that a pod holds.
func Address(k ipam.Key, pool string, h v1alpha1.Holder) *v1alpha1.IPAddress {
	return &v1alpha1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: k.String()},
		Spec:       v1alpha1.IPAddressSpec{Address: k.Addr.String(), Network: k.Space, Pool: pool, State: v1alpha1.Allocated, Holders: []v1alpha1.Holder{h}},
	}
}

// claim returns the step for a pod without a claim. One whose networks aren't clear gets a
// claim without NICs, which says why.
func (o Observed) claim() Step {
	nics := o.nics()
	if !o.Pod.DeletionTimestamp.IsZero() || len(nics) == 0 && o.Unclear == "" {
		return Step{}
	}
	return Step{Kind: CreateClaim, Claim: &v2beta1.SpiderEndpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Key.Namespace, Name: o.Key.Name},
		Spec: v2beta1.SpiderEndpointSpec{
			PodUID: pods.UID(o.Pod), NodeName: o.Pod.Spec.NodeName, MachineID: o.Nodes[o.Pod.Spec.NodeName].MachineID,
			Since: o.Pod.CreationTimestamp, Identity: o.Identity, NICs: nics,
		},
	}}
}

// nics returns the NICs that the claim is to have: those that it has, and those for which a
// plugin waits. As long as nobody was told an address, what the pod's annotations and networks
// say now of a NIC counts instead of what they said before.
func (o Observed) nics() []v2beta1.EndpointNIC {
	var out []v2beta1.EndpointNIC
	if o.Claim != nil {
		out = slices.Clone(o.Claim.Spec.NICs)
	}
	if len(out) == 0 && o.Unclear != "" { // a plugin waits for one NIC; the pod gets all of them at once
		return nil
	}
	if o.Unclear == "" && !o.decided() {
		for _, n := range o.Wanted {
			if i := slices.IndexFunc(out, func(former v2beta1.EndpointNIC) bool { return former.Interface == n.Interface }); i >= 0 {
				out[i] = n
			} else {
				out = append(out, n)
			}
		}
	}
	for _, late := range o.Late {
		i := slices.IndexFunc(out, func(n v2beta1.EndpointNIC) bool { return n.Interface == late.Interface })
		switch {
		case i < 0:
			out = append(out, late)
		case samePools(out[i], late): // its configuration may have got another name since the pod started
			out[i].Network = late.Network
		}
	}
	return out
}

// samePools reports whether two NICs get their addresses from the same pools.
func samePools(a, b v2beta1.EndpointNIC) bool {
	return a.Static == nil && b.Static == nil && a.Subnets == b.Subnets && a.DefaultPools == b.DefaultPools &&
		slices.Equal(a.IPv4Pools, b.IPv4Pools) && slices.Equal(a.IPv6Pools, b.IPv6Pools)
}

// decided reports whether the claim's NICs stay as they are: the pod may have been told their
// addresses.
func (o Observed) decided() bool {
	return o.Claim != nil && len(o.Claim.Spec.NICs) > 0 && o.told()
}

// release returns the next step on an address's way back: all of the claim's addresses, and
// then the claim.
func (o Observed) release() Step {
	c := o.Claim
	said := o.said(c.Spec.PodUID)
	switch {
	// Without a word of the node, only what nobody was told yet can be given back.
	case !said && o.told() && !o.settled(c.Spec.NodeName, c.Spec.MachineID, c.Spec.PodUID):
		if o.Waited < grace {
			return Step{Kind: Wait}
		}
		if s := o.ask(c.Spec.NodeName, c.Spec.PodUID); s.Kind != Nothing {
			return s
		}
		return o.tell(NotWithdrawn, fmt.Sprintf("the pod of UID %s is gone; its addresses are kept until node %s says that they aren't in use there, is deleted, or gets the taint node.kubernetes.io/out-of-service",
			c.Spec.PodUID, c.Spec.NodeName))
	case !said && c.Status.Phase != v2beta1.Releasing:
		next := c.DeepCopy()
		next.Status.Phase = v2beta1.Releasing
		return Step{Kind: MarkReleasing, Claim: next}
	}
	for _, a := range o.sorted() {
		if a.HeldBy(c.Spec.PodUID) {
			return Step{Kind: GiveBack, Address: o.taken(a), UID: c.Spec.PodUID}
		}
	}
	return Step{Kind: DeleteClaim, Claim: c}
}

// told reports whether the pod may have been told its addresses: by this claim, or by a former
// one that somebody deleted, if a node reports a sandbox or an address isn't younger than this
// claim.
func (o Observed) told() bool {
	uid := o.Claim.Spec.PodUID
	if o.Claim.Status.Current != nil || slices.ContainsFunc(o.Sandboxes, func(s Sandbox) bool { return s.PodUID == uid }) {
		return true
	}
	return slices.ContainsFunc(o.sorted(), func(a *v1alpha1.IPAddress) bool {
		return a.HeldBy(uid) && o.age(a) <= 0
	})
}

// age compares when an address was taken with when the claim was made: it is 1 if it was taken
// for this claim, -1 if it was taken before, and 0 if that isn't known. The object of an
// address that is kept for an owner is older than both.
func (o Observed) age(a *v1alpha1.IPAddress) int {
	for _, h := range a.Spec.Holders {
		switch {
		case h.PodUID != o.Claim.Spec.PodUID || h.Claim == "":
		case h.Claim == string(o.Claim.UID):
			return 1
		default:
			return -1
		}
	}
	if kept(a) {
		return -1
	}
	return a.CreationTimestamp.Time.Compare(o.Claim.CreationTimestamp.Time)
}

// kept reports whether an address stays somebody's when its pod gives it back.
func kept(a *v1alpha1.IPAddress) bool { return a.Spec.Application != nil || a.Spec.Identity != nil }

// Returned returns an IPAddress as it is when a pod has given it back; nil: deleted.
func Returned(a *v1alpha1.IPAddress, uid string, now metav1.Time) *v1alpha1.IPAddress {
	next := a.DeepCopy()
	next.Spec.Holders = slices.DeleteFunc(next.Spec.Holders, func(h v1alpha1.Holder) bool { return h.PodUID == uid })
	switch {
	case len(next.Spec.Holders) > 0:
		return next
	case a.Spec.State == v1alpha1.Quarantined:
		next.Spec.Holders, next.Spec.ReleasedAt, next.Spec.Attempt = nil, &now, ""
		return next
	case !kept(a):
		return nil
	}
	next.Spec.State, next.Spec.Holders, next.Spec.ReleasedAt, next.Spec.Attempt = v1alpha1.Reserved, nil, &now, ""
	return next
}

// inVain reports whether an attempt took an address for the claim's pod that nobody was told,
// which can be given back.
func (o Observed) inVain(a *v1alpha1.IPAddress) bool {
	return a.HeldBy(o.Claim.Spec.PodUID) && a.Spec.State != v1alpha1.Quarantined && Named(o.Claim)[a.Name] == nil && !o.used(a) && o.age(a) >= 0
}

// taken returns an address that the claim's pod gives back. Of one that a write took which came late,
// after the claim had got another one for the NIC, it isn't kept for the identity: that has the other.
func (o Observed) taken(a *v1alpha1.IPAddress) *v1alpha1.IPAddress {
	named := Named(o.Claim)
	if a.Spec.Identity == nil || named[a.Name] != nil || len(a.Spec.Holders) > 1 {
		return a
	}
	for _, other := range named {
		if ours(other.Spec.Identity, a) && keyOf(other).Addr.Is6() == keyOf(a).Addr.Is6() {
			out := a.DeepCopy()
			out.Spec.Identity = nil
			return out
		}
	}
	return a
}

// tell returns the step that says what the claim waits for, unless it says so already.
func (o Observed) tell(reason, message string) Step {
	for _, c := range o.Claim.Status.Conditions {
		if c.Type == v2beta1.Ready && c.Reason == reason && c.Message == message {
			return Step{Kind: Wait}
		}
	}
	return Step{Kind: Tell, Reason: reason, Message: message}
}

// keep returns the step for a claim whose pod lives.
func (o Observed) keep() Step {
	c := o.Claim
	if now := o.Nodes[c.Spec.NodeName].MachineID; !same(now, c.Spec.MachineID) {
		return o.move(now)
	}
	if nics := o.nics(); !equality.Semantic.DeepEqual(nics, c.Spec.NICs) {
		next := c.DeepCopy()
		next.Spec.NICs = nics
		return Step{Kind: UpdateClaim, Claim: next}
	}
	named := Named(c)
	for _, name := range slices.Sorted(maps.Keys(named)) {
		a := o.Addresses[name]
		if a == nil {
			return Step{Kind: CreateAddress, Address: named[name]}
		}
		if joined := join(c, a, named[name].Spec.Holders[0], o.Migrates[name]); joined != nil {
			return Step{Kind: UpdateAddress, Address: joined}
		}
		if !a.HeldBy(c.Spec.PodUID) {
			return o.tell(v2beta1.Conflict, fmt.Sprintf("address %s belongs to %s: delete one of the two pods", a.Spec.Address, holders(a)))
		}
	}
	if s := o.conflicts(); s.Kind != Nothing {
		return s
	}
	switch {
	case o.Unclear != "" && o.Hopeless:
		return o.tell(v2beta1.Invalid, o.Unclear)
	case o.Unclear != "":
		return o.tell(v2beta1.Waiting, o.Unclear)
	case len(Missing(c)) > 0 && o.Pod.DeletionTimestamp.IsZero():
		return Step{Kind: Allocate}
	}
	for _, a := range o.sorted() {
		if o.inVain(a) {
			return Step{Kind: GiveBack, Address: o.taken(a), UID: c.Spec.PodUID}
		}
	}
	return Step{}
}

// used reports whether a node says that a sandbox has an address.
func (o Observed) used(a *v1alpha1.IPAddress) bool {
	return slices.ContainsFunc(o.Sandboxes, func(s Sandbox) bool {
		return slices.ContainsFunc(s.Addresses, func(h v1alpha1.Held) bool {
			return h.Address == a.Spec.Address && h.Network == a.Spec.Network
		})
	})
}

// Conflicts says which addresses a node reports that belong to other pods.
func (o Observed) Conflicts() []string {
	var out []string
	for _, s := range o.Sandboxes {
		for _, held := range s.Addresses {
			addr, err := netip.ParseAddr(held.Address)
			if err != nil {
				continue
			}
			if now := o.Addresses[ipam.Key{Space: held.Network, Addr: addr}.String()]; now != nil && !now.HeldBy(s.PodUID) {
				out = append(out, fmt.Sprintf("address %s is in use by this pod, of UID %s on node %s, but belongs to %s: delete one of the two pods",
					held.Address, s.PodUID, s.Node, holders(now)))
			}
		}
	}
	return out
}

// move returns the step for a pod whose node is another machine by now, under the same name:
// the holders first, because without a claim they alone say where to ask.
func (o Observed) move(machine string) Step {
	for _, a := range o.sorted() {
		next := a.DeepCopy()
		for i, h := range next.Spec.Holders {
			if o.isOf(h) && h.PodUID == o.Claim.Spec.PodUID {
				next.Spec.Holders[i].MachineID = machine
			}
		}
		if !slices.Equal(next.Spec.Holders, a.Spec.Holders) {
			return Step{Kind: UpdateAddress, Address: next}
		}
	}
	next := o.Claim.DeepCopy()
	next.Spec.MachineID = machine
	return Step{Kind: UpdateClaim, Claim: next}
}

// Missing returns the NICs of a claim that have no addresses yet.
func Missing(c *v2beta1.SpiderEndpoint) []v2beta1.EndpointNIC {
	var out []v2beta1.EndpointNIC
	for _, n := range c.Spec.NICs {
		if c.Status.Current == nil || !slices.ContainsFunc(c.Status.Current.IPs, func(a v2beta1.NICAddresses) bool { return a.Interface == n.Interface }) {
			out = append(out, n)
		}
	}
	return out
}

// Named returns the addresses that a claim says its pod has, as their IPAddresses are to be,
// by name.
func Named(c *v2beta1.SpiderEndpoint) map[string]*v1alpha1.IPAddress {
	out := map[string]*v1alpha1.IPAddress{}
	if c == nil || c.Status.Current == nil {
		return out
	}
	for _, n := range c.Status.Current.IPs {
		for _, x := range []struct{ addr, pool string }{{n.IPv4, n.IPv4Pool}, {n.IPv6, n.IPv6Pool}} {
			p, err := netip.ParsePrefix(x.addr)
			if err != nil {
				continue
			}
			a := Address(ipam.Key{Space: n.AddressSpace, Addr: p.Addr()}, x.pool, holder(c, n.Interface))
			a.Spec.Identity = identity(c, n.Interface)
			out[a.Name] = a
		}
	}
	return out
}

// holder returns the holder of an address of a claim's NIC.
func holder(c *v2beta1.SpiderEndpoint, nic string) v1alpha1.Holder {
	return v1alpha1.Holder{
		Namespace: c.Namespace, Pod: c.Name, PodUID: c.Spec.PodUID, Claim: string(c.UID), Interface: nic, Node: c.Spec.NodeName, MachineID: c.Spec.MachineID,
	}
}

// sorted returns the addresses in the order of their names.
func (o Observed) sorted() []*v1alpha1.IPAddress {
	var out []*v1alpha1.IPAddress
	for _, name := range slices.Sorted(maps.Keys(o.Addresses)) {
		if a := o.Addresses[name]; a != nil {
			out = append(out, a)
		}
	}
	return out
}
