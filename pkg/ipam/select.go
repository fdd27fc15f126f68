// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"cmp"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// PoolView is a SpiderIPPool as the choice of pools sees it.
type PoolView struct {
	Name   string
	Spec   PoolSpec
	Reason string // of its Standing: why it hands out nothing to anybody, "" if it does
	// Disabled says that spec.disable is all of Reason: who has addresses of it keeps them.
	Disabled bool
	Deleting bool // it is there until its last address is back
	Auto     *AutoPool
}

// SubnetView is a SpiderSubnet as the choice of pools sees it.
type SubnetView struct {
	Name   string
	Prefix netip.Prefix
	Space  string
	Reason string // of its Standing
}

// Pools are SpiderIPPools and SpiderSubnets, ready for many choices.
type Pools struct {
	subnets map[string]SubnetView
	auto    map[string][]*candidate // by the application's UID
	inOrder []*candidate            // those with most conditions first, then by name
	byName  map[string]*candidate
}

// candidate is a pool with what its subnet says.
type candidate struct {
	PoolView
	prefix netip.Prefix
	space  string
}

// NewPools makes pools ready for Candidates.
func NewPools(views []PoolView, subnets ...SubnetView) Pools {
	out := Pools{byName: make(map[string]*candidate, len(views)), auto: map[string][]*candidate{}, subnets: map[string]SubnetView{}}
	for _, s := range subnets {
		out.subnets[s.Name] = s
	}
	for _, v := range views {
		c := &candidate{v, v.Spec.Prefix(), v.Spec.Space()}
		if v.Auto != nil {
			out.auto[v.Auto.Application.UID] = append(out.auto[v.Auto.Application.UID], c)
		}
		out.inOrder = append(out.inOrder, c)
		out.byName[v.Name] = c
	}
	slices.SortFunc(out.inOrder, func(a, b *candidate) int {
		return cmp.Or(b.Spec.conditions()-a.Spec.conditions(), strings.Compare(a.Name, b.Name))
	})
	return out
}

// conditions counts what a pool asks of pods, nodes, namespaces and networks.
func (s PoolSpec) conditions() int {
	n := 0
	for _, asks := range []bool{
		s.PodAffinity != nil, len(s.NodeName) > 0 || s.NodeAffinity != nil, len(s.NamespaceName) > 0 || s.NamespaceAffinity != nil, len(s.MultusName) > 0,
	} {
		if asks {
			n++
		}
	}
	return n
}

// enabled returns the pool as if it wasn't disabled.
func (c *candidate) enabled() *candidate {
	out := *c
	if c.Disabled {
		out.Reason = ""
	}
	return &out
}

func (c *candidate) isIPv6() bool { return c.prefix.Addr().Is6() }

// Place is where a NIC is: what pools select by.
type Place struct {
	Pod             PodFacts
	NamespaceLabels map[string]string // of the pod's namespace
	NodeLabels      map[string]string // of the pod's node
	MultusNamespace string            // kube-system by default
	Application     *Application      // that has the pod; nil: none
}

// Rejection is a pool that a NIC names and can't have.
type Rejection struct {
	IPv6   bool
	Pool   string // or a pattern that no pool has; "" if there is none at all
	Reason string // a sentence with the rule and the values
}

// Candidates returns what a NIC needs, an address of one family or of both, each with the
// pools in the order in which they are tried: as the user wrote them, and of those of one pattern
// or with default: true the ones with most conditions first, then by name. A need without pools
// can't be met: the rejections say of each pool that was left out why, and Explain puts them into
// words.
//
// A NIC that names pools of one family wants only that one. One that names none wants the
// families of which there are pools with default: true for it: those for other pods, nodes and
// networks don't count, nor those that are being deleted, unless there are no others.
//
// Both addresses of a NIC come from one network (spec.network or spec.vlan): the first one, in
// the order of the IPv4 pools, in which there are pools of both families. Pools of other
// networks are left out, also while those of this one have no address.
//
// A disabled pool is left out as well. Whoever has an address of it keeps that, as Need.Keep says:
// there the pools, and their network, are chosen as if none was disabled.
//
// A NIC that names subnets gets its addresses from the pool that the pod's application has for
// it, and, without an application, straight from the subnet: a pool of the name SubnetPool and
// the subnet's. Nobody else gets addresses of an application's pool.
func Candidates(n NIC, pools Pools, at Place) ([]Need, []Rejection) {
	if n.Subnets {
		return fromTheSubnets(n, pools, at)
	}
	var needs []Need
	var rejected []Rejection
	found, all := map[bool][]*candidate{}, map[bool][]*candidate{}
	disabled := false
	wanted := at.families(n, pools)
	for _, ipv6 := range []bool{false, true} {
		if !wanted[ipv6] {
			continue
		}
		for _, p := range n.named(pools, ipv6, &rejected) {
			reason := at.refuses(n, p, ipv6)
			if reason != "" {
				rejected = append(rejected, Rejection{ipv6, p.Name, reason})
			} else {
				found[ipv6] = append(found[ipv6], p)
			}
			if reason == "" || p.Disabled && at.refuses(n, p.enabled(), ipv6) == "" {
				all[ipv6] = append(all[ipv6], p)
				disabled = disabled || p.Disabled
			}
		}
		needs = append(needs, Need{Interface: n.Interface, IPv6: ipv6})
	}
	if len(needs) == 0 {
		needs = []Need{{Interface: n.Interface}}
		rejected = append(rejected, Rejection{Reason: "neither its network nor an annotation names one, and no SpiderIPPool has spec.default: true"})
	}
	if len(needs) == 2 {
		rejected = append(rejected, oneSpace(found)...)
		oneSpace(all)
	}
	for i := range needs {
		for _, p := range found[needs[i].IPv6] {
			needs[i].Pools = append(needs[i].Pools, p.Name)
		}
		if disabled {
			needs[i].Keep = keep(all[needs[i].IPv6])
			needs[i].Keep.Why = Explain(n, needs[i], rejected)
		}
	}
	return needs, rejected
}

// keep says of which pools addresses are kept.
func keep(pools []*candidate) *Keep {
	out := &Keep{}
	for _, p := range pools {
		if p.Disabled {
			out.Disabled = append(out.Disabled, p.Name)
		} else {
			out.Pools = append(out.Pools, p.Name)
		}
	}
	return out
}

// fromTheSubnets is Candidates for a NIC that names subnets.
func fromTheSubnets(n NIC, pools Pools, at Place) (needs []Need, rejected []Rejection) {
	for _, ipv6 := range []bool{false, true} {
		list := n.IPv4Pools
		if ipv6 {
			list = n.IPv6Pools
		}
		if len(list) == 0 {
			continue
		}
		need := Need{Interface: n.Interface, IPv6: ipv6}
		switch name, reason := pools.ofSubnet(list[0], ipv6, n.Interface, at); {
		case reason != "":
			rejected = append(rejected, Rejection{IPv6: ipv6, Pool: SubnetPool + list[0], Reason: reason})
			if p := pools.byName[name]; p != nil && p.Disabled {
				need.Keep = &Keep{Disabled: []string{name}, Why: Explain(n, need, rejected)}
			}
		default:
			need.Pools = []string{name}
		}
		needs = append(needs, need)
	}
	if len(needs) == 2 {
		a, b := pools.subnets[n.IPv4Pools[0]], pools.subnets[n.IPv6Pools[0]]
		if a.Name != "" && b.Name != "" && a.Space != b.Space {
			needs[1].Pools, needs[1].Keep = nil, nil
			rejected = append(rejected, Rejection{true, SubnetPool + b.Name, fmt.Sprintf("it is in %s, and both addresses of a NIC are in one network: here %s", spaceName(b.Space), spaceName(a.Space))})
		}
	}
	return needs, rejected
}

// ofSubnet returns the pool by which a NIC gets addresses of a subnet, or why there is none, or
// why it gives none.
func (p Pools) ofSubnet(subnet string, ipv6 bool, nic string, at Place) (name, reason string) {
	s, there := p.subnets[subnet]
	if there && s.Prefix.Addr().Is6() != ipv6 {
		return "", "it isn't " + familyName(ipv6)
	}
	if at.Application == nil {
		switch {
		case !there:
			return "", "there is no such SpiderSubnet"
		case s.Reason != "":
			return "", s.Reason
		}
		return SubnetPool + subnet, ""
	}
	for _, c := range p.auto[at.Application.UID] {
		// A subnet of the same name may have been made anew, with another CIDR.
		fits := !there || c.prefix == s.Prefix && c.space == s.Space
		if fits && c.Auto.Interface == nic && c.Auto.Subnet == subnet && c.Auto.IPv6 == ipv6 {
			return c.Name, c.Reason
		}
	}
	if !there {
		return "", "there is no such SpiderSubnet"
	}
	return "", fmt.Sprintf("the pool of %s from it isn't there yet: if it doesn't come, the events of %s say why", at.Application, at.Application)
}

// families returns which families a NIC wants.
func (at Place) families(n NIC, pools Pools) map[bool]bool {
	if !n.DefaultPools {
		return map[bool]bool{false: len(n.IPv4Pools) > 0, true: len(n.IPv6Pools) > 0}
	}
	its, all := map[bool]bool{}, map[bool]bool{}
	for _, p := range pools.inOrder {
		if !p.isDefault() {
			continue
		}
		all[p.isIPv6()] = true
		if p.Auto == nil && !p.Deleting && at.isBeyond(n, p) == "" {
			its[p.isIPv6()] = true
		}
	}
	if len(its) == 0 {
		return all
	}
	return its
}

func (c *candidate) isDefault() bool { return c.Spec.Default != nil && *c.Spec.Default }

// named returns the pools of a family that a NIC names.
func (n NIC) named(pools Pools, ipv6 bool, rejected *[]Rejection) (out []*candidate) {
	if n.DefaultPools {
		for _, p := range pools.inOrder {
			if p.isDefault() && p.isIPv6() == ipv6 {
				out = append(out, p)
			}
		}
		return out
	}
	list := n.IPv4Pools
	if ipv6 {
		list = n.IPv6Pools
	}
	seen := map[string]bool{}
	for _, name := range list {
		found := pools.matching(name, ipv6)
		switch {
		case len(found) > 0:
		case isPattern(name):
			*rejected = append(*rejected, Rejection{ipv6, name, "no " + familyName(ipv6) + " pool has such a name"})
		default:
			*rejected = append(*rejected, Rejection{ipv6, name, "there is no such SpiderIPPool"})
		}
		for _, p := range found {
			if !seen[p.Name] {
				out = append(out, p)
			}
			seen[p.Name] = true
		}
	}
	return out
}

// matching returns the pool of a name, of any family, or those of a pattern and a family.
func (p Pools) matching(name string, ipv6 bool) (out []*candidate) {
	if !isPattern(name) {
		if c := p.byName[name]; c != nil {
			out = append(out, c)
		}
		return out
	}
	for _, c := range p.inOrder {
		if ok, _ := path.Match(name, c.Name); ok && c.isIPv6() == ipv6 {
			out = append(out, c)
		}
	}
	return out
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// refuses says why a NIC can't have addresses of a pool, "" if it can.
func (at Place) refuses(n NIC, p *candidate, ipv6 bool) string {
	spec := p.Spec
	switch {
	case p.Auto != nil:
		return fmt.Sprintf("it is the pool of %s: want annotation %s, from which each application gets a pool of its own", p.Auto.Application, SubnetsAnnotation)
	case p.Reason != "":
		return p.Reason
	case p.isIPv6() != ipv6:
		return fmt.Sprintf("its subnet %s isn't %s", spec.Subnet, familyName(ipv6))
	}
	return at.isBeyond(n, p)
}

// isBeyond says which condition of a pool a NIC doesn't meet, "" if it meets all.
func (at Place) isBeyond(n NIC, p *candidate) string {
	spec := p.Spec
	for _, reason := range []string{
		byNameOr("node", at.Pod.NodeName, spec.NodeName, spec.NodeAffinity, at.NodeLabels),
		byNameOr("namespace", at.Pod.Namespace, spec.NamespaceName, spec.NamespaceAffinity, at.NamespaceLabels),
		byLabels("pod", at.Pod.Name, spec.PodAffinity, at.Pod.Labels),
		at.byNetwork(n, spec.MultusName),
		bySubnets(n.MasterSubnets, p),
	} {
		if reason != "" {
			return reason
		}
	}
	return ""
}

// byNameOr checks a list of names, or, without one, a selector.
func byNameOr(kind, name string, names []string, affinity *Selector, labels map[string]string) string {
	switch {
	case len(names) == 0:
		return byLabels(kind, name, affinity, labels)
	case slices.Contains(names, name):
		return ""
	}
	return fmt.Sprintf("spec.%sName is %s, and the %s is %s", kind, few(names), kind, name)
}

func byLabels(kind, name string, affinity *Selector, labels map[string]string) string {
	if affinity == nil {
		return ""
	}
	switch ok, err := Matches(affinity, labels); {
	case err != nil:
		return fmt.Sprintf("spec.%sAffinity.%v", kind, err)
	case !ok:
		return fmt.Sprintf("spec.%sAffinity wants %s, and %s %s has not", kind, affinity.unmet(labels), kind, name)
	}
	return ""
}

// byNetwork checks the network. One without a namespace is in that of the pod or of Multus.
func (at Place) byNetwork(n NIC, names []string) string {
	if len(names) == 0 {
		return ""
	}
	multus := Settings{MultusNamespace: at.MultusNamespace}.multusNamespace()
	for _, name := range names {
		if name == n.NAD || n.NAD == at.Pod.Namespace+"/"+name || n.NAD == multus+"/"+name {
			return ""
		}
	}
	if n.NAD == "" {
		return fmt.Sprintf("spec.multusName is %s, and the network %s is of the node's files", few(names), n.Network)
	}
	return fmt.Sprintf("spec.multusName is %s, and the network is %s", few(names), n.NAD)
}

// bySubnets checks the subnets of the node's port, of which one must have the pool's subnet.
func bySubnets(subnets []string, p *candidate) string {
	for _, text := range subnets {
		if s := prefixOf(text); s.Contains(p.prefix.Addr()) && s.Bits() <= p.prefix.Bits() {
			return ""
		}
	}
	if len(subnets) == 0 {
		return ""
	}
	return fmt.Sprintf("its subnet is %s, and those of the NIC's port are %s (match_master_subnet)", p.Spec.Subnet, few(subnets))
}

// oneSpace leaves the pools of one network.
func oneSpace(found map[bool][]*candidate) (rejected []Rejection) {
	if len(found[false]) == 0 || len(found[true]) == 0 {
		return nil // one family has nothing, and that is what is to be said
	}
	space := found[false][0].space
	for _, p := range found[false] {
		if slices.ContainsFunc(found[true], func(o *candidate) bool { return o.space == p.space }) {
			space = p.space
			break
		}
	}
	for _, ipv6 := range []bool{false, true} {
		found[ipv6] = slices.DeleteFunc(found[ipv6], func(p *candidate) bool {
			if p.space == space {
				return false
			}
			rejected = append(rejected, Rejection{ipv6, p.Name, fmt.Sprintf("it is in %s, and both addresses of a NIC are in one network: here %s", spaceName(p.space), spaceName(space))})
			return true
		})
	}
	return rejected
}

func spaceName(space string) string {
	if space == "" {
		return "no named network"
	}
	return "network " + space
}

// Explain says why a need of a NIC has no pools, in a sentence that fits into an event: those
// of Kubernetes have 1024 bytes (k8s.io/kubernetes, pkg/apis/events).
func Explain(n NIC, need Need, rejected []Rejection) string {
	const most = 800 // bytes of reasons, as far as one reason isn't longer
	var said string
	more := 0
	for _, r := range rejected {
		part := "pool " + r.Pool + ": " + r.Reason
		if subnet, ok := strings.CutPrefix(r.Pool, SubnetPool); ok {
			part = "SpiderSubnet " + subnet + ": " + r.Reason
		}
		switch {
		case r.Pool == "":
			return fmt.Sprintf("no pool for %s: %s", n.Interface, r.Reason)
		case r.IPv6 != need.IPv6:
		case said == "":
			said = part
		case len(said)+len(part) > most:
			more++
		default:
			said += "; " + part
		}
	}
	if more > 0 {
		said += fmt.Sprintf("; %d more pools", more)
	}
	return fmt.Sprintf("no %s pool for %s (%s): %s", familyName(need.IPv6), n.Interface, n.From, said)
}
