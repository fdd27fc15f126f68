// SPDX-License-Identifier: Apache-2.0

package pools

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/conditions"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// Finalizer keeps a SpiderIPPool as long as addresses of it are in use.
const Finalizer = "multihome.io/in-use"

// Observed is all that is there.
type Observed struct {
	Pools     []v2beta1.SpiderIPPool
	Subnets   []v2beta1.SpiderSubnet
	Reserved  []v2beta1.SpiderReservedIP
	VLANs     []staticmacvlan.VLANSubnet
	Addresses []v1alpha1.IPAddress
}

// Write is an object that is to be changed: its status, or a pool's finalizers.
type Write struct {
	Now, Next client.Object
	Status    bool // of the two, what is to be written
	// Freed is the name of a pool that loses its finalizer, if the API server, too, has no
	// address of it in use.
	Freed string
}

// use is what is taken of a pool.
type use struct {
	allocated int64
	inUse     []held // kept for an owner or allocated
}

type held struct {
	addr netip.Addr
	by   string
}

// Decide returns what is to be written.
func Decide(o Observed, now metav1.Time) []Write {
	uses := count(o.Addresses)
	var pools []ipam.Pool
	for i := range o.Pools {
		pools = append(pools, o.Pools[i].Pool(uses[o.Pools[i].Name] != nil && len(uses[o.Pools[i].Name].inUse) > 0))
	}
	for i := range o.VLANs {
		v := o.VLANs[i].VLANSubnet()
		pools = append(pools, v.Pool(uses[ipam.VLANSubnetPool(v.Name)] != nil && len(uses[ipam.VLANSubnetPool(v.Name)].inUse) > 0))
	}
	var subnets []ipam.Subnet
	for i := range o.Subnets {
		subnets = append(subnets, o.Subnets[i].Subnet())
	}
	var reserved []ipam.ReservedSpec
	for i := range o.Reserved {
		reserved = append(reserved, o.Reserved[i].Spec)
	}
	var out []Write
	standings := ipam.Usable(pools, subnets, reserved)
	for i := range o.Pools {
		out = append(out, ofPool(&o.Pools[i], standings[o.Pools[i].Name], uses[o.Pools[i].Name], now)...)
	}
	for i := range o.VLANs {
		name := ipam.VLANSubnetPool(o.VLANs[i].Name)
		out = append(out, ofVLANSubnet(&o.VLANs[i], standings[name], uses[name], now)...)
	}
	subnetStandings := ipam.Subnets(subnets, pools)
	for i := range o.Subnets {
		s := &o.Subnets[i]
		out = append(out, ofSubnet(s, subnetStandings[s.Name], uses[ipam.SubnetPool+s.Name], now)...)
	}
	for i := range o.Reserved {
		out = append(out, ofReserved(&o.Reserved[i], now)...)
	}
	return out
}

// count returns what is taken, by pool.
func count(addresses []v1alpha1.IPAddress) map[string]*use {
	out := map[string]*use{}
	for i := range addresses {
		a := &addresses[i]
		u := out[a.Spec.Pool]
		if u == nil {
			u = &use{}
			out[a.Spec.Pool] = u
		}
		if a.Spec.State == v1alpha1.Allocated {
			u.allocated++
		}
		if addr, err := netip.ParseAddr(a.Spec.Address); a.InUse() {
			if err != nil {
				addr = netip.Addr{} // it is in use all the same
			}
			u.inUse = append(u.inUse, held{addr, a.By()})
		}
	}
	return out
}

// ofPool returns what is to be written about a pool.
func ofPool(p *v2beta1.SpiderIPPool, s ipam.Standing, u *use, now metav1.Time) []Write {
	if u == nil {
		u = &use{}
	}
	var out []Write
	finalizer := p.DeepCopy()
	if auto := ipam.AutoPoolOf(p.Annotations) != nil; auto || len(u.inUse) == 0 { // an application's comes again
		if controllerutil.RemoveFinalizer(finalizer, Finalizer) {
			freed := p.Name
			if auto {
				freed = ""
			}
			out = append(out, Write{Now: p, Next: finalizer, Freed: freed})
		}
	} else if p.DeletionTimestamp.IsZero() && controllerutil.AddFinalizer(finalizer, Finalizer) {
		out = append(out, Write{Now: p, Next: finalizer})
	}
	total := p.Spec.Total()
	next := p.DeepCopy()
	next.Status.IPVersion = p.Spec.Version()
	next.Status.TotalIPCount = ptr.To(ipam.Count(total))
	next.Status.AllocatedIPCount = ptr.To(u.allocated)
	next.Status.Inherited = s.Inherited
	reason, notes := s.Reason, s.Notes
	if s.State == ipam.Deleting && len(u.inUse) > 0 {
		reason += ": " + named(u.inUse)
	}
	notes = slices.Concat(notes, u.outside(total), identities.Faults(p.Annotations))
	say(&next.Status.Conditions, p.Generation, s.State, cmp.Or(reason, "it hands out addresses"), notes, now)
	return append(out, changed(p, next, p.Status, next.Status)...)
}

// ofVLANSubnet returns what is to be written about a VLANSubnet. Its pods have all they need of
// it in their claims, so it has no finalizer.
func ofVLANSubnet(v *staticmacvlan.VLANSubnet, s ipam.Standing, u *use, now metav1.Time) []Write {
	if u == nil {
		u = &use{}
	}
	next := v.DeepCopy()
	next.Status.TotalIPCount = ptr.To(ipam.Count(v.VLANSubnet().Pool(false).Spec.Total()))
	next.Status.AllocatedIPCount = ptr.To(u.allocated)
	say(&next.Status.Conditions, v.Generation, s.State, cmp.Or(s.Reason, "it hands out addresses"), s.Notes, now)
	was, is := v.Status, next.Status
	if ptr.Equal(was.TotalIPCount, is.TotalIPCount) && ptr.Equal(was.AllocatedIPCount, is.AllocatedIPCount) && conditions.Same(was.Conditions, is.Conditions) {
		return nil
	}
	return []Write{{Now: v, Next: next, Status: true}}
}

// outside notes which addresses in use aren't of those that there are.
func (u *use) outside(total *netipx.IPSet) []string {
	var out []held
	for _, h := range u.inUse {
		if !total.Contains(h.addr) {
			out = append(out, h)
		}
	}
	if len(out) == 0 {
		return nil
	}
	return []string{"spec.ips: in use, though it isn't in ips, or in excludeIPs too: " + named(out)}
}

// named names the lowest address, and who has it, and how many more there are.
func named(all []held) string {
	lowest := slices.MinFunc(all, func(a, b held) int { return a.addr.Compare(b.addr) })
	text := fmt.Sprintf("%s of %s", lowest.addr, lowest.by)
	if len(all) > 1 {
		text += fmt.Sprintf(" and %d more", len(all)-1)
	}
	return text
}

// ofSubnet returns what is to be written about a subnet.
func ofSubnet(s *v2beta1.SpiderSubnet, standing ipam.SubnetStanding, straight *use, now metav1.Time) []Write {
	if straight == nil { // what is taken by pods without an application
		straight = &use{}
	}
	next := s.DeepCopy()
	total, allocated := s.Spec.Total(), ipam.Count(standing.InPools)
	for _, h := range straight.inUse {
		if !standing.InPools.Contains(h.addr) && allocated < math.MaxInt64 {
			allocated++
		}
	}
	next.Status.IPVersion = s.Spec.Version()
	next.Status.TotalIPCount = ptr.To(ipam.Count(total))
	next.Status.AllocatedIPCount = ptr.To(allocated)
	notes := slices.Concat(standing.Notes, straight.outside(total), identities.Faults(s.Annotations))
	say(&next.Status.Conditions, s.Generation, standing.State, cmp.Or(standing.Reason, "pools can have its addresses"), notes, now)
	return changed(s, next, s.Status, next.Status)
}

// ofReserved returns what is to be written about reserved addresses.
func ofReserved(r *v2beta1.SpiderReservedIP, now metav1.Time) []Write {
	next := r.DeepCopy()
	next.Status.IPVersion = r.Spec.Version()
	state, reason := ipam.Active, "no pool hands them out"
	if faults := r.Spec.Validate(); len(faults) > 0 {
		state, reason = ipam.Invalid, joined(faults)
	}
	say(&next.Status.Conditions, r.Generation, state, reason, nil, now)
	if r.Status.IPVersion == next.Status.IPVersion && conditions.Same(r.Status.Conditions, next.Status.Conditions) {
		return nil
	}
	return []Write{{Now: r, Next: next, Status: true}}
}

func joined(faults []netconf.Fault) string {
	var out []string
	for _, f := range faults {
		out = append(out, f.String())
	}
	return strings.Join(out, "; ")
}

// say sets the conditions Ready and Unadvised.
func say(list *[]metav1.Condition, generation int64, state, message string, notes []string, now metav1.Time) {
	ready := metav1.Condition{
		Type: v2beta1.Ready, Status: metav1.ConditionFalse, Reason: state, Message: message,
		ObservedGeneration: generation, LastTransitionTime: now,
	}
	if state == ipam.Active {
		ready.Status = metav1.ConditionTrue
	}
	conditions.Set(list, ready)
	if len(notes) == 0 {
		meta.RemoveStatusCondition(list, v2beta1.Unadvised)
		return
	}
	conditions.Set(list, metav1.Condition{
		Type: v2beta1.Unadvised, Status: metav1.ConditionTrue, Reason: v2beta1.Unadvised, Message: strings.Join(notes, "; "),
		ObservedGeneration: generation, LastTransitionTime: now,
	})
}

// changed returns a write if a status says something else than before.
func changed(now, next client.Object, was, is v2beta1.PoolStatus) []Write {
	if was.IPVersion == is.IPVersion && ptr.Equal(was.TotalIPCount, is.TotalIPCount) && ptr.Equal(was.AllocatedIPCount, is.AllocatedIPCount) &&
		sameInherited(was.Inherited, is.Inherited) && conditions.Same(was.Conditions, is.Conditions) {
		return nil
	}
	return []Write{{Now: now, Next: next, Status: true}}
}

func sameInherited(a, b *ipam.Inherited) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Subnet == b.Subnet && a.UID == b.UID && a.Gateway == b.Gateway && slices.Equal(a.Routes, b.Routes)
}
