// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/multihome/multihome/pkg/netconf"
)

// Subnet is a SpiderSubnet.
type Subnet struct {
	Name, UID string
	Created   time.Time
	Deleting  bool
	Spec      SubnetSpec
}

// Pool is a SpiderIPPool.
type Pool struct {
	Name, UID string
	Created   time.Time
	Deleting  bool
	InUse     bool // pods have addresses of it, or addresses are kept for their owners
	Spec      PoolSpec
	Inherited *Inherited // what its status says; nil if it says nothing
	Auto      *AutoPool  // it is an application's: what for
	// VLANSubnet is the object of which the pool is, nil for a SpiderIPPool.
	VLANSubnet *VLANSubnet
}

// called returns the kind and the name of the pool's object.
func (p Pool) called() string {
	if p.VLANSubnet != nil {
		return "VLANSubnet " + p.VLANSubnet.Name
	}
	return "SpiderIPPool " + p.Name
}

// field returns which field of the object has the addresses.
func (p Pool) field() string {
	switch {
	case p.VLANSubnet == nil:
		return "spec.ips"
	case len(p.VLANSubnet.Spec.Ranges) > 0:
		return "spec.ranges"
	}
	return "spec.cidr"
}

// validate returns what is wrong with the object.
func (p Pool) validate() []netconf.Fault {
	if p.VLANSubnet != nil {
		return p.VLANSubnet.Validate()
	}
	return p.Spec.Validate()
}

// What a pool or a subnet is: the reasons of its condition Ready.
const (
	Active   = "Active"   // it hands out addresses
	Deleting = "Deleting" // it is there until its last address is back
	Invalid  = "Invalid"  // its spec has a fault
	Conflict = "Conflict" // another one has the same addresses, and keeps them
	Disabled = "Disabled" // spec.disable is true
	Empty    = "Empty"    // it has no address that a pod can have
)

// Standing is what a pool can do.
type Standing struct {
	// Free is what it may hand out, with the addresses that are taken. It is never nil.
	Free  *netipx.IPSet
	State string // Active, or why it hands out nothing
	// Reason says State in words, "" if the pool hands out addresses.
	Reason string
	// Notes says what isn't as it may be meant.
	Notes []string

	Space     string       // the network of its addresses
	Prefix    netip.Prefix // the subnet of its addresses
	Gateway   netip.Addr   // not valid if there is none
	Routes    []Route      // without bits of the host in dst
	Inherited *Inherited   // from the subnet, to be kept; nil if no subnet has the pool
}

// Usable decides which pools hand out addresses, and which ones. It returns a Standing for
// each, by name.
//
// Of pools that have the same addresses in one network, one hands them out: one with
// addresses in use, else the oldest, else the one with the lowest UID. The others hand out
// nothing. A disabled pool keeps its addresses all the same, and so does one that is being
// deleted, as long as some are in use.
//
// Nobody gets what a subnet excludes or a SpiderReservedIP reserves, a gateway, nor, where a
// subnet has more than two addresses, its first one and, of IPv4, its last one.
func Usable(pools []Pool, subnets []Subnet, reserved []ReservedSpec) map[string]Standing {
	never := withheld(subnets, reserved)
	within := activeSubnets(subnets)
	taken := map[string]*claims{}
	out := make(map[string]Standing, len(pools))
	for _, p := range ranked(pools) {
		s := Standing{State: Active, Space: p.Spec.Space(), Prefix: p.Spec.Prefix(), Free: Addresses(nil)}
		faults := p.validate()
		wrong := faultsOf(faults, false)
		s.Notes = faultsOf(faults, true)
		s.inherit(p, within)
		conflict := ""
		if p.InUse || wrong == nil && !p.Deleting {
			if taken[s.Space] == nil {
				taken[s.Space] = &claims{}
			}
			conflict = taken[s.Space].add(p)
		}
		switch {
		case p.Deleting:
			s.State, s.Reason = Deleting, "it is being deleted: it is gone when its last address is back"
		case wrong != nil:
			s.State, s.Reason = Invalid, strings.Join(wrong, "; ")
		case conflict != "":
			s.State, s.Reason = Conflict, conflict
		case p.Spec.Disable != nil && *p.Spec.Disable:
			s.State, s.Reason = Disabled, "spec.disable is true"
		default:
			s.hand(p, within, never(s.Space))
		}
		out[p.Name] = s
	}
	return out
}

// withheld returns what nobody gets in a network: what is reserved, and what a subnet excludes,
// whether it counts or not.
func withheld(subnets []Subnet, reserved []ReservedSpec) func(space string) *netipx.IPSet {
	var kept netipx.IPSetBuilder
	for _, r := range reserved {
		kept.AddSet(Addresses(r.IPs))
	}
	always, _ := kept.IPSet()
	excluded := map[string]*netipx.IPSet{}
	for _, subnet := range subnets {
		space := subnet.Spec.Space()
		excluded[space] = union(excluded[space], Addresses(subnet.Spec.ExcludeIPs))
	}
	return func(space string) *netipx.IPSet { return union(always, excluded[space]) }
}

// hand computes what an active pool hands out. Nobody gets what is in never.
func (s *Standing) hand(p Pool, within []Subnet, never *netipx.IPSet) {
	total := p.Spec.Total()
	free := Without(total, never, unusable(s.Prefix))
	if s.Gateway.IsValid() {
		free = Without(free, set(netipx.IPRangeFrom(s.Gateway, s.Gateway)))
	}
	for _, subnet := range within {
		if subnet.has(p) {
			free = Intersection(free, subnet.Spec.Total())
			if beyond := Without(total, subnet.Spec.Total()); !isEmpty(beyond) {
				s.Notes = append(s.Notes, fmt.Sprintf("%s: SpiderSubnet %s doesn't have %s, so nobody gets them", p.field(), subnet.Name, brief(beyond)))
			}
		}
	}
	s.Free = free
	switch {
	case p.Auto != nil: // what it has, its IPAddresses say
	case isEmpty(total):
		s.State, s.Reason = Empty, "it has no address: spec.ips is empty, or excludeIPs has all of it"
	case isEmpty(free):
		s.State, s.Reason = Empty, fmt.Sprintf("nobody can get %s: they are reserved, excluded by the subnet, or the gateway's", brief(total))
	}
}

// inherit finds the pool's gateway and routes: its own, else those of its subnet.
func (s *Standing) inherit(p Pool, within []Subnet) {
	s.Inherited = p.Inherited
	for _, subnet := range within {
		if subnet.has(p) && (s.Inherited == nil || s.Inherited.UID != subnet.UID) {
			s.Inherited = subnet.heritage(p)
		}
	}
	routes := p.Spec.Routes
	gateway := ""
	if s.Inherited != nil {
		gateway = s.Inherited.Gateway
		if routes == nil { // a list without routes is the user's word for none
			routes = s.Inherited.Routes
		}
	}
	if p.Spec.Gateway != nil {
		gateway = *p.Spec.Gateway
	}
	if a, err := netip.ParseAddr(gateway); err == nil {
		s.Gateway = a
	}
	for _, r := range routes {
		if dst := prefixOf(r.Dst); dst.IsValid() {
			s.Routes = append(s.Routes, Route{Dst: dst.String(), Gw: r.Gw})
		}
	}
}

// has reports whether a pool lies in the subnet.
func (s Subnet) has(p Pool) bool {
	mine, its := s.Spec.Prefix(), p.Spec.Prefix()
	return s.Spec.Space() == p.Spec.Space() && its.IsValid() && mine.Overlaps(its) && mine.Bits() <= its.Bits()
}

// heritage returns what a pool in the subnet inherits: a gateway that its pods can't reach
// is left out.
func (s Subnet) heritage(p Pool) *Inherited {
	out := &Inherited{Subnet: s.Name, UID: s.UID}
	if s.Spec.Gateway != nil {
		if a, ok := p.Spec.inSubnet(*s.Spec.Gateway); ok {
			out.Gateway = a.String()
		}
	}
	for _, r := range s.Spec.Routes {
		if _, ok := p.Spec.inSubnet(r.Gw); ok {
			out.Routes = append(out.Routes, r)
		}
	}
	return out
}

// activeSubnets returns the subnets that count: without faults, and without those that
// overlap with an older one of their network.
func activeSubnets(subnets []Subnet) []Subnet {
	standings := Subnets(subnets, nil)
	return slices.DeleteFunc(slices.Clone(subnets), func(s Subnet) bool { return standings[s.Name].State != Active })
}

// Stocks returns for each subnet what it hands out straight or to pools of applications, with
// the addresses that are taken, by its name. standings are those of the pools.
func Stocks(pools []Pool, subnets []Subnet, reserved []ReservedSpec, standings map[string]Standing) map[string]Standing {
	never := withheld(subnets, reserved)
	others := map[string]*netipx.IPSetBuilder{} // by space: what other pools have
	for _, p := range pools {
		if s := standings[p.Name]; p.Auto == nil && s.State != Conflict && s.State != Invalid {
			if others[s.Space] == nil {
				others[s.Space] = &netipx.IPSetBuilder{}
			}
			others[s.Space].AddSet(p.Spec.Total())
		}
	}
	out := make(map[string]Standing, len(subnets))
	states := Subnets(subnets, nil)
	for _, subnet := range subnets {
		s := Standing{State: states[subnet.Name].State, Reason: states[subnet.Name].Reason, Space: subnet.Spec.Space(), Prefix: subnet.Spec.Prefix(), Free: Addresses(nil)}
		s.inherit(Pool{Spec: PoolSpec{SubnetSpec: subnet.Spec}}, nil)
		if s.State == Active {
			s.Free = Without(subnet.Spec.Total(), never(s.Space), unusable(s.Prefix))
			if b := others[s.Space]; b != nil {
				has, _ := b.IPSet()
				s.Free = Without(s.Free, has)
			}
			if s.Gateway.IsValid() {
				s.Free = Without(s.Free, set(netipx.IPRangeFrom(s.Gateway, s.Gateway)))
			}
		}
		out[subnet.Name] = s
	}
	return out
}

// SubnetStanding is what a subnet can do.
type SubnetStanding struct {
	State   string // Active, or why it doesn't count
	Reason  string // State in words, "" if it is Active
	Notes   []string
	InPools *netipx.IPSet // those of its addresses that pools have
}

// Subnets decides which subnets count. Of subnets of one network that overlap, the oldest
// does, else that with the lowest UID.
func Subnets(subnets []Subnet, pools []Pool) map[string]SubnetStanding {
	out := make(map[string]SubnetStanding, len(subnets))
	subnets = slices.Clone(subnets)
	slices.SortFunc(subnets, func(a, b Subnet) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID)) })
	taken := map[string]*claims{}
	for _, subnet := range subnets {
		space := subnet.Spec.Space()
		if taken[space] == nil {
			taken[space] = &claims{}
		}
		s := SubnetStanding{State: Active, InPools: Addresses(nil)}
		faults := subnet.Spec.Validate()
		wrong := faultsOf(faults, false)
		s.Notes = faultsOf(faults, true)
		switch {
		case subnet.Deleting:
			s.State, s.Reason = Deleting, "it is being deleted"
		case wrong != nil:
			s.State, s.Reason = Invalid, strings.Join(wrong, "; ")
		default:
			r := netipx.RangeOfPrefix(subnet.Spec.Prefix())
			if others := taken[space].insert(&claim{r, "SpiderSubnet " + subnet.Name, false}); len(others) > 0 {
				s.State = Conflict
				s.Reason = fmt.Sprintf("spec.subnet: %s overlaps with %s, which came first: want another subnet, or another network", subnet.Spec.Subnet, others[0].owner)
			}
		}
		var in netipx.IPSetBuilder
		for _, p := range pools {
			if subnet.has(p) {
				in.AddSet(p.Spec.Total())
			}
		}
		inPools, _ := in.IPSet()
		s.InPools = Intersection(inPools, subnet.Spec.Total())
		out[subnet.Name] = s
	}
	return out
}

// Beside returns what is wrong with a pool, new or changed, beside others: addresses that it
// didn't have before and that another pool of its network has, or that its subnet hasn't, and
// a router of one of them that the other one hands out.
// former is nil if it is new. It only helps: Usable decides.
func (p Pool) Beside(former *PoolSpec, others []Pool, subnets []Subnet) []netconf.Fault {
	k := &checker{}
	prefix, added := p.Spec.Prefix(), p.Spec.Total()
	if former != nil {
		added = Without(added, former.Total())
	}
	for _, o := range others {
		if o.Name == p.Name || o.Deleting && !o.InUse || o.Spec.Space() != p.Spec.Space() || !o.Spec.Prefix().Overlaps(prefix) {
			continue
		}
		if common := Intersection(added, o.Spec.Total()); !isEmpty(common) {
			k.add("spec.ips", "%s: %s has the same: want other addresses, or another network", brief(common), o.called())
		} else if former == nil && o.Spec.Prefix() != prefix {
			k.warn("spec.subnet", "%s overlaps with %s of %s: want one subnet for the pods of a network", p.Spec.Subnet, o.Spec.Subnet, o.called())
		}
		mine, its := p.Spec.router(), o.Spec.router()
		if its.IsValid() && its != mine && added.Contains(its) {
			k.warn("spec.ips", "%s: it is the gateway of %s: want other addresses, unless a pod is its router", its, o.called())
		}
		if mine.IsValid() && mine != its && (former == nil || former.router() != mine) && o.Spec.Total().Contains(mine) {
			k.warn("spec.gateway", "%s: %s hands it out: want it in the excludeIPs of that one, unless a pod is the router", mine, o.called())
		}
	}
	for _, subnet := range activeSubnets(subnets) {
		if beyond := Without(added, subnet.Spec.Total()); subnet.has(p) && !isEmpty(beyond) {
			k.add("spec.ips", "%s: want addresses that SpiderSubnet %s has: its ips without its excludeIPs", brief(beyond), subnet.Name)
		}
	}
	return k.faults
}

// Beside returns what is wrong with a subnet, new or changed, beside others: another one that
// overlaps with it, and addresses that it hasn't any more and that a pool has. former is nil
// if it is new. An application's pool gets others for those: only Change says which are in use.
// It only helps: Subnets and Usable decide.
func (s Subnet) Beside(former *SubnetSpec, others []Subnet, pools []Pool) []netconf.Fault {
	k := &checker{}
	for _, o := range others {
		if former == nil && o.Name != s.Name && !o.Deleting && o.Spec.Space() == s.Spec.Space() && o.Spec.Prefix().Overlaps(s.Spec.Prefix()) {
			k.add("spec.subnet", "%s overlaps with %s of SpiderSubnet %s: want another subnet, or another network", s.Spec.Subnet, o.Spec.Subnet, o.Name)
		}
	}
	for _, p := range pools {
		if !s.has(p) {
			continue
		}
		lost := Without(p.Spec.Total(), s.Spec.Total())
		if former == nil {
			if !isEmpty(lost) {
				k.warn("spec.ips", "%s: %s has it, and hands it out no more: want it in ips, and not in excludeIPs", brief(lost), p.called())
			}
		} else if removed := Intersection(lost, former.Total()); p.Auto == nil && !isEmpty(removed) {
			k.add("spec.ips", "%s: want it in ips, and not in excludeIPs, as long as %s has it", brief(removed), p.called())
		}
	}
	return k.faults
}

// ranked returns pools with those first that keep what others have too.
func ranked(pools []Pool) []Pool {
	out := slices.Clone(pools)
	slices.SortFunc(out, func(a, b Pool) int {
		inUse := 0
		switch {
		case a.InUse && !b.InUse:
			inUse = -1
		case b.InUse && !a.InUse:
			inUse = 1
		}
		return cmp.Or(inUse, a.Created.Compare(b.Created), cmp.Compare(a.UID, b.UID))
	})
	return out
}

// claims are the ranges of a network that somebody has, in order and disjoint.
type claims struct{ list []*claim }

type claim struct {
	netipx.IPRange
	owner string
	inUse bool
}

// add gives the pool its addresses, or says who has some of them.
func (c *claims) add(p Pool) (conflict string) {
	total := p.Spec.Total()
	var others []*claim
	for _, r := range total.Ranges() {
		others = append(others, c.overlapping(r)...)
	}
	if len(others) == 0 {
		for _, r := range total.Ranges() {
			c.insert(&claim{r, p.called(), p.InUse})
		}
		return ""
	}
	var owners, said []string
	for _, o := range others {
		if slices.Contains(owners, o.owner) {
			continue
		}
		owners = append(owners, o.owner)
		why := "came first"
		if o.inUse && !p.InUse {
			why = "has addresses in use"
		}
		said = append(said, fmt.Sprintf("%s has %s too, and %s", o.owner, brief(Intersection(total, c.of(o.owner))), why))
	}
	return p.field() + ": " + strings.Join(said, "; ") + ": want other addresses, or another network"
}

// overlapping returns the claims that have addresses of a range.
func (c *claims) overlapping(r netipx.IPRange) []*claim {
	from, _ := slices.BinarySearchFunc(c.list, r.From(), func(o *claim, a netip.Addr) int { return o.To().Compare(a) })
	to := from
	for to < len(c.list) && !r.To().Less(c.list[to].From()) {
		to++
	}
	return c.list[from:to]
}

// insert adds a claim, unless others have some of it, which it returns.
func (c *claims) insert(n *claim) []*claim {
	if others := c.overlapping(n.IPRange); len(others) > 0 {
		return others
	}
	i, _ := slices.BinarySearchFunc(c.list, n.From(), func(o *claim, a netip.Addr) int { return o.From().Compare(a) })
	c.list = slices.Insert(c.list, i, n)
	return nil
}

// of returns the addresses that somebody has.
func (c *claims) of(owner string) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, o := range c.list {
		if o.owner == owner {
			b.AddRange(o.IPRange)
		}
	}
	out, _ := b.IPSet()
	return out
}

// unusable returns the addresses of a subnet that no host can have: the first, which means
// the network (RFC 1122, 3.2.1.3) or, in IPv6, any of its routers (RFC 4291, 2.6.1), and in
// IPv4 the last, to which all listen. Subnets of at most two addresses have none (RFC 3021,
// RFC 6164).
func unusable(p netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	if p.IsValid() && p.Addr().BitLen()-p.Bits() > 1 {
		b.Add(p.Addr())
		if p.Addr().Is4() {
			b.Add(netipx.PrefixLastIP(p))
		}
	}
	out, _ := b.IPSet()
	return out
}

func isEmpty(s *netipx.IPSet) bool { return len(s.Ranges()) == 0 }

// brief names the addresses of a set, but of many ranges the first ones.
func brief(s *netipx.IPSet) string {
	all := Text(s)
	if len(all) > rangesAtMost {
		return strings.Join(all[:rangesAtMost], ", ") + fmt.Sprintf(" and %d more ranges", len(all)-rangesAtMost)
	}
	return strings.Join(all, ", ")
}

// faultsOf returns the faults in lines, or the warnings.
func faultsOf(faults []netconf.Fault, warnings bool) []string {
	var out []string
	for _, f := range faults {
		if f.Warning == warnings {
			out = append(out, f.Path+": "+f.Message)
		}
	}
	return out
}
