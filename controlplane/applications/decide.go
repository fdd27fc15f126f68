// SPDX-License-Identifier: Apache-2.0

package applications

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// mostRanges is how many ranges spec.ips of a pool has at most (SubnetSpec.IPs).
const mostRanges = 1024

// Observed is what is known about a name of an application.
type Observed struct {
	App       *App                             // nil: there is none
	Pools     []*v2beta1.SpiderIPPool          // that the name has
	Addresses map[string][]*v1alpha1.IPAddress // by the names of the pools, also of those that aren't there
	Subnets   map[string]Subnet                // that App or Pools name, as far as they are there
	// Retains are the pools of a former application of the name with addresses of identities that go on: they
	// stay for App's pods (identities.WhenDeleted), or their pods outlived the former one, and are App's.
	Retains map[string]bool
}

// Subnet is a SpiderSubnet.
type Subnet struct {
	Spec ipam.SubnetSpec
	ipam.Standing
}

// App is an application.
type App struct {
	ipam.Application
	Wanted   []ipam.AutoPool // none if its pods name no subnets
	Settings ipam.PoolSettings
	Replicas int
	Surge    int // how many more pods there are during a rolling update
	// Stopped says that it is a virtual machine without a pod: its pools stay as they are.
	Stopped bool
	// Unclear says why Wanted or Settings aren't known: the pools stay as they are.
	Unclear string
}

// Plan is what is to be done. Each part can be done without the others.
type Plan struct {
	Create []*v2beta1.SpiderIPPool
	Update []*v2beta1.SpiderIPPool // as they are to be, but for spec.ips
	Delete []*v2beta1.SpiderIPPool
	Render []*v2beta1.SpiderIPPool // as they are to be, with spec.ips
	Grow   []Grow
	Free   []*v1alpha1.IPAddress // to be deleted
	Adopt  []*v1alpha1.IPAddress // as they are to be
	Says   []Says
}

// Grow is a pool that needs more addresses.
type Grow struct {
	Pool string
	ipam.AutoPool
	N, Size int
}

// Says is an event about the application.
type Says struct{ Reason, Message string }

// Empty reports whether nothing is to be done.
func (p Plan) Empty() bool {
	return len(p.Create)+len(p.Update)+len(p.Delete)+len(p.Render)+len(p.Grow)+len(p.Free)+len(p.Adopt) == 0
}

// Decide returns what is to be done. It expects that what was observed is from the API server
// if it is to be done; by a cache it only says whether something may be due.
func Decide(o Observed) Plan {
	var p Plan
	if o.App != nil && o.App.Unclear != "" {
		p.Says = append(p.Says, Says{"PoolsUnclear", o.App.Unclear})
		for _, pool := range o.Pools {
			p.render(pool, o.Addresses[pool.Name])
		}
		return p
	}
	done := map[string]bool{}
	if o.App != nil {
		for _, want := range o.App.Wanted {
			done[o.want(&p, want, done)] = true
		}
		if spare := o.App.Settings.Number.Spare(o.App.Replicas); spare < o.App.Surge && len(o.App.Wanted) > 0 {
			p.Says = append(p.Says, Says{"FewSpareAddresses", fmt.Sprintf(
				"annotation %s: %s: its pools have %d addresses more than replicas, and a rolling update starts up to %d pods more: these wait until others are gone; want +%d, or a lower maxSurge",
				ipam.IPNumberAnnotation, o.App.Settings.Number, spare, o.App.Surge, o.App.Surge)})
		}
	}
	for _, pool := range o.Pools {
		if done[pool.Name] {
			continue
		}
		done[pool.Name] = true
		if o.App != nil && o.App.Stopped && ipam.AutoPoolOf(pool.Annotations).Application.UID == o.App.UID {
			p.render(pool, o.Addresses[pool.Name])
			continue
		}
		o.leave(&p, pool)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Addresses)) { // of pools that somebody deleted
		if !done[name] {
			p.Free = append(p.Free, free(o.Addresses[name])...)
		}
	}
	return p
}

// want plans for a pool that is wanted. It returns its name.
func (o Observed) want(p *Plan, want ipam.AutoPool, done map[string]bool) string {
	size := o.App.Settings.Number.Size(o.App.Replicas)
	pool := o.poolFor(want, done)
	if pool == nil {
		name := o.newName(want, done)
		if why := o.lacksSubnet(want, name); why != "" {
			p.Says = append(p.Says, Says{"NoSubnet", why})
			return name
		}
		subnet := o.Subnets[want.Subnet].Spec
		created := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{
			IPVersion: ptr.To(subnet.Version()), Subnet: subnet.Subnet, VLAN: subnet.VLAN, Network: subnet.Network,
		}}}
		o.mark(created, want)
		p.Create = append(p.Create, created)
		return name
	}
	next := pool.DeepCopy()
	if o.mark(next, want); !maps.Equal(next.Labels, pool.Labels) || !maps.Equal(next.Annotations, pool.Annotations) {
		p.Update = append(p.Update, next)
	}
	addresses := o.Addresses[pool.Name]
	for _, a := range addresses {
		if owner := ownerOf(want.Application); a.Spec.Application == nil || *a.Spec.Application != owner {
			p.adopt(a, want.Application)
		}
	}
	o.resize(p, pool, want, addresses, size)
	p.render(pool, addresses)
	return pool.Name
}

// lacksSubnet says why a pool can't have addresses of its subnet, "" if it can.
func (o Observed) lacksSubnet(want ipam.AutoPool, pool string) string {
	subnet, there := o.Subnets[want.Subnet]
	switch {
	case !there:
		return fmt.Sprintf("there is no SpiderSubnet %s, of which pool %s is to have addresses: make it, or name another one", want.Subnet, pool)
	case subnet.Reason != "":
		return fmt.Sprintf("pool %s: SpiderSubnet %s: %s", pool, want.Subnet, subnet.Reason)
	case (subnet.Spec.Version() == 6) != want.IPv6:
		return fmt.Sprintf("pool %s: SpiderSubnet %s is of IPv%d: name one of the other family", pool, want.Subnet, subnet.Spec.Version())
	}
	return ""
}

// adopt plans to make an address an application's.
func (p *Plan) adopt(a *v1alpha1.IPAddress, application ipam.Application) {
	adopted, owner := a.DeepCopy(), ownerOf(application)
	adopted.Spec.Application = &owner
	p.Adopt = append(p.Adopt, adopted)
}

// resize plans how a pool comes to its size.
func (o Observed) resize(p *Plan, pool *v2beta1.SpiderIPPool, want ipam.AutoPool, addresses []*v1alpha1.IPAddress, size int) {
	may, why := o.Subnets[want.Subnet].Standing.Free, o.lacksSubnet(want, pool.Name)
	if why != "" { // it has what it has
		may = everything(addresses)
	}
	var members []ipam.Member
	by := map[netip.Addr]*v1alpha1.IPAddress{}
	for _, a := range addresses {
		addr, err := netip.ParseAddr(a.Spec.Address)
		if err != nil || a.Spec.State == v1alpha1.Quarantined {
			continue
		}
		members = append(members, ipam.Member{Addr: addr, Free: a.IsFree()})
		by[addr] = a
	}
	grow, giveBack := ipam.Resize(members, size, may)
	for _, addr := range giveBack {
		p.Free = append(p.Free, by[addr])
	}
	switch {
	case grow > 0 && why != "":
		p.Says = append(p.Says, Says{"NoSubnet", why})
	case grow > 0:
		p.Grow = append(p.Grow, Grow{pool.Name, want, grow, size})
	}
}

// leave plans for a pool that isn't wanted: it shrinks to nothing and goes, or it is kept for
// an application of the name.
func (o Observed) leave(p *Plan, pool *v2beta1.SpiderIPPool) {
	addresses := o.Addresses[pool.Name]
	is := ipam.AutoPoolOf(pool.Annotations).Application
	former := o.App == nil || is.UID != o.App.UID
	kept := former && pool.Labels[ipam.ReclaimLabel] == "false"
	for _, a := range addresses {
		if a.Spec.Application == nil && (kept || !a.IsFree()) { // somebody deleted it, and its pod has it all the same
			p.adopt(a, is)
		}
	}
	if kept {
		p.Free = append(p.Free, strays(pool, free(addresses))...)
		p.render(pool, addresses)
		return
	}
	p.Free = append(p.Free, free(addresses)...)
	if len(addresses) == 0 {
		p.Delete = append(p.Delete, pool)
		return
	}
	p.render(pool, addresses)
}

// poolFor returns the pool that is for a NIC, a family and a subnet: the application's, or one
// that a former application of the name has left. It is nil if there is none.
func (o Observed) poolFor(want ipam.AutoPool, done map[string]bool) *v2beta1.SpiderIPPool {
	var left *v2beta1.SpiderIPPool
	for _, pool := range o.Pools {
		is := *ipam.AutoPoolOf(pool.Annotations)
		uid := is.Application.UID
		is.Application = want.Application
		switch {
		case is != want || done[pool.Name] || !pool.DeletionTimestamp.IsZero() || !o.fits(pool, want.Subnet):
		case uid == want.Application.UID:
			return pool
		case left == nil && (pool.Labels[ipam.ReclaimLabel] == "false" || o.Retains[pool.Name]):
			left = pool
		}
	}
	return left
}

// fits reports whether a pool is of its subnet as that is now: one of the same name may have been
// made anew, with another CIDR.
func (o Observed) fits(pool *v2beta1.SpiderIPPool, subnet string) bool {
	s, there := o.Subnets[subnet]
	return !there || pool.Spec.Prefix() == s.Spec.Prefix() && pool.Spec.Space() == s.Spec.Space()
}

// newName returns the name of a new pool.
func (o Observed) newName(want ipam.AutoPool, done map[string]bool) string {
	for nth := 1; ; nth++ {
		name := want.Name(nth)
		if !done[name] && !slices.ContainsFunc(o.Pools, func(p *v2beta1.SpiderIPPool) bool { return p.Name == name }) {
			return name
		}
	}
}

// mark gives a pool its labels and annotations.
func (o Observed) mark(pool *v2beta1.SpiderIPPool, want ipam.AutoPool) {
	if pool.Labels == nil {
		pool.Labels = map[string]string{}
	}
	if pool.Annotations == nil {
		pool.Annotations = map[string]string{}
	}
	maps.Copy(pool.Labels, want.Labels(pool.Spec.Prefix(), o.App.Settings.Reclaim))
	pool.Annotations[ipam.AutoAnnotation] = want.Annotation()
	pool.Annotations[ipam.IPNumberAnnotation] = o.App.Settings.Number.String()
}

// render plans to show in spec.ips which addresses a pool has. With one that isn't of its subnet, which stays
// as long as a pod uses it, the pool would be invalid.
func (p *Plan) render(pool *v2beta1.SpiderIPPool, addresses []*v1alpha1.IPAddress) {
	ips := ipam.Text(everything(slices.DeleteFunc(slices.Clone(addresses), func(a *v1alpha1.IPAddress) bool { return isStray(pool, a) })))
	ips = ips[:min(len(ips), mostRanges)]
	if !slices.Equal(ips, pool.Spec.IPs) && pool.DeletionTimestamp.IsZero() {
		next := pool.DeepCopy()
		next.Spec.IPs = ips
		p.Render = append(p.Render, next)
	}
}

// everything returns the addresses of IPAddresses.
func everything(addresses []*v1alpha1.IPAddress) *netipx.IPSet {
	var texts []string
	for _, a := range addresses {
		texts = append(texts, a.Spec.Address)
	}
	return ipam.Addresses(texts)
}

// free returns the addresses that may be given back, the highest first.
func free(addresses []*v1alpha1.IPAddress) []*v1alpha1.IPAddress {
	out := slices.DeleteFunc(slices.Clone(addresses), func(a *v1alpha1.IPAddress) bool { return !a.IsFree() })
	slices.SortFunc(out, func(a, b *v1alpha1.IPAddress) int { return strings.Compare(b.Name, a.Name) })
	return out
}

// strays returns the addresses of some that aren't of a pool's subnet.
func strays(pool *v2beta1.SpiderIPPool, addresses []*v1alpha1.IPAddress) []*v1alpha1.IPAddress {
	return slices.DeleteFunc(slices.Clone(addresses), func(a *v1alpha1.IPAddress) bool { return !isStray(pool, a) })
}

// isStray reports whether an address isn't of its pool's subnet: it was made for a former pool of the name,
// by a write that came late.
func isStray(pool *v2beta1.SpiderIPPool, a *v1alpha1.IPAddress) bool {
	addr, err := netip.ParseAddr(a.Spec.Address)
	return err != nil || a.Spec.Network != pool.Spec.Space() || !pool.Spec.Prefix().Contains(addr)
}

// ownerOf returns an application as its IPAddresses name it.
func ownerOf(a ipam.Application) v1alpha1.Owner {
	return v1alpha1.Owner{Group: a.Group, Kind: a.Kind, Namespace: a.Namespace, Name: a.Name, UID: a.UID}
}
