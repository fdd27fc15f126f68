// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/multihome/multihome/pkg/netconf"
)

// The limits of the API: they bound what its rules cost the API server.
const (
	maxRanges    = 1024 // of ips and excludeIPs
	maxRoutes    = 64
	maxNames     = 1024 // of namespaceName and multusName
	maxNodes     = 5000
	maxLabels    = 64 // of matchLabels and matchExpressions
	maxValues    = 256
	maxVLAN      = 4094
	rangesAtMost = 3 // in a message
)

// checker collects faults.
type checker struct{ faults []netconf.Fault }

func (k *checker) add(path, format string, a ...any) {
	k.faults = append(k.faults, netconf.Fault{Path: path, Message: fmt.Sprintf(format, a...)})
}

func (k *checker) warn(path, format string, a ...any) {
	k.faults = append(k.faults, netconf.Fault{Path: path, Message: fmt.Sprintf(format, a...), Warning: true})
}

// most checks the length of a list or map.
func (k *checker) most(path string, n, most int) {
	if n > most {
		k.add(path, "%d entries: want at most %d", n, most)
	}
}

// Validate returns everything that is wrong with the spec of a SpiderSubnet, and warnings:
// what the object itself shows, without a look at others.
func (s SubnetSpec) Validate() []netconf.Fault {
	k := &checker{}
	k.subnet(s)
	return k.faults
}

// Validate returns everything that is wrong with the spec of a SpiderIPPool, and warnings:
// what the object itself shows, without a look at others.
func (s PoolSpec) Validate() []netconf.Fault {
	k := &checker{}
	k.subnet(s.SubnetSpec)
	if a := s.PodAffinity; a != nil && len(a.MatchLabels)+len(a.MatchExpressions) == 0 {
		k.add("spec.podAffinity", "empty: want matchLabels or matchExpressions, or no podAffinity for all pods")
	}
	k.selector("spec.podAffinity", s.PodAffinity)
	k.selector("spec.namespaceAffinity", s.NamespaceAffinity)
	k.selector("spec.nodeAffinity", s.NodeAffinity)
	k.names("spec.namespaceName", s.NamespaceName, maxNames, netconf.IsLabel, "the name of a namespace")
	k.names("spec.nodeName", s.NodeName, maxNodes, netconf.IsSubdomain, "the name of a node")
	k.names("spec.multusName", s.MultusName, maxNames, isNAD, "NAME or NAMESPACE/NAME of a NetworkAttachmentDefinition")
	return k.faults
}

// Validate returns everything that is wrong with the spec of a SpiderReservedIP.
func (s ReservedSpec) Validate() []netconf.Fault {
	k := &checker{}
	k.ipVersion(s.IPVersion)
	version := s.Version()
	for i, r := range k.ranges("spec.ips", s.IPs) {
		if r.IsValid() && versionOf(r.From()) != version {
			k.add(fmt.Sprintf("spec.ips[%d]", i), "%q: want addresses of IPv%d: make another SpiderReservedIP for the other family", s.IPs[i], version)
		}
	}
	return k.faults
}

// Version returns 4 or 6: ipVersion, or the family of the first address; 0 if there is none.
func (s ReservedSpec) Version() int {
	if s.IPVersion != nil {
		return *s.IPVersion
	}
	for _, text := range s.IPs {
		if r, err := ParseRange(text); err == nil {
			return versionOf(r.From())
		}
	}
	return 0
}

// Version returns 4 or 6, the family of the subnet; 0 if the subnet is none.
func (s SubnetSpec) Version() int {
	if p := s.Prefix(); p.IsValid() {
		return versionOf(p.Addr())
	}
	return 0
}

func versionOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

func (k *checker) ipVersion(version *int) {
	if version != nil && *version != 4 && *version != 6 {
		k.add("spec.ipVersion", "%d: want 4 or 6", *version)
	}
}

// subnet checks the fields that a SpiderSubnet and a SpiderIPPool have.
func (k *checker) subnet(s SubnetSpec) {
	prefix := s.Prefix()
	switch {
	case s.Subnet == "":
		k.add("spec.subnet", "missing: want a CIDR, such as 10.6.0.0/16")
	case !prefix.IsValid():
		k.add("spec.subnet", "%q: want a CIDR, such as 10.6.0.0/16", s.Subnet)
	case !ofHosts(prefix):
		k.add("spec.subnet", "%q: want a CIDR of addresses that a NIC can have, such as 10.6.0.0/16", s.Subnet)
	}
	if v := s.Version(); v == 0 {
		k.ipVersion(s.IPVersion)
	} else if s.IPVersion != nil && *s.IPVersion != v {
		k.add("spec.ipVersion", "%d: want %d, the family of subnet %s", *s.IPVersion, v, s.Subnet)
	}
	k.space(s)
	ips := k.within("spec.ips", s.IPs, s)
	k.within("spec.excludeIPs", s.ExcludeIPs, s)
	if prefix.IsValid() {
		never := Without(unusable(prefix), Addresses(s.ExcludeIPs))
		for i, r := range ips {
			if r.IsValid() && prefix.Contains(r.From()) && prefix.Contains(r.To()) && never.OverlapsRange(r) {
				k.warn(fmt.Sprintf("spec.ips[%d]", i), "%q: nobody gets %s: hosts can't have the first address of a subnet, nor, of IPv4, the last",
					s.IPs[i], strings.Join(Text(Intersection(never, set(r))), " and "))
			}
		}
	}
	if s.Gateway != nil {
		k.gateway(s)
	}
	k.routes(s)
}

// space checks network and vlan.
func (k *checker) space(s SubnetSpec) {
	if v := s.vlan(); v < 0 || v > maxVLAN {
		k.add("spec.vlan", "%d: want a number from 0 to %d", v, maxVLAN)
	}
	if s.Network != "" && !netconf.IsLabel(s.Network) {
		k.add("spec.network", "%q: want 1 to 63 lower case letters, digits and '-', with a letter or digit at both ends", s.Network)
	}
	if s.Network != "" && s.vlan() != 0 {
		k.add("spec.network", "%q: want network or vlan, not both: vlan N is short for network vlanN", s.Network)
	}
}

// vlan returns the VLAN's number, 0 for none.
func (s SubnetSpec) vlan() int {
	if s.VLAN == nil {
		return 0
	}
	return *s.VLAN
}

// ranges checks a list of ranges, and returns them; one that is none isn't valid.
func (k *checker) ranges(path string, list []string) []netipx.IPRange {
	k.most(path, len(list), maxRanges)
	out := make([]netipx.IPRange, len(list))
	var order []int
	for i, text := range list {
		r, err := ParseRange(text)
		if err != nil {
			k.add(fmt.Sprintf("%s[%d]", path, i), "%v", err)
			continue
		}
		out[i] = r
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int { return out[a].From().Compare(out[b].From()) })
	for n, widest := 1, 0; n < len(order); n++ {
		a, b := order[widest], order[n]
		if !out[a].To().Less(out[b].From()) {
			k.add(fmt.Sprintf("%s[%d]", path, max(a, b)), "%q: want each address once: %q has the same ones", list[max(a, b)], list[min(a, b)])
		}
		if out[a].To().Less(out[b].To()) {
			widest = n
		}
	}
	return out
}

// within checks a list of ranges in the subnet.
func (k *checker) within(path string, list []string, s SubnetSpec) []netipx.IPRange {
	prefix := s.Prefix()
	out := k.ranges(path, list)
	for i, r := range out {
		if r.IsValid() && prefix.IsValid() && (!prefix.Contains(r.From()) || !prefix.Contains(r.To())) {
			k.add(fmt.Sprintf("%s[%d]", path, i), "%q: want addresses of subnet %s", list[i], s.Subnet)
		}
	}
	return out
}

// ofHosts reports whether NICs can have the addresses of a subnet: it isn't one of loopback or
// multicast addresses, and not all addresses that there are.
func ofHosts(p netip.Prefix) bool { return p.Addr().IsGlobalUnicast() || p.Addr().IsLinkLocalUnicast() }

// gateway checks the next hop of the default route.
func (k *checker) gateway(s SubnetSpec) {
	if gateway, ok := k.router("spec.gateway", *s.Gateway, s); ok && s.Total().Contains(gateway) {
		k.add("spec.gateway", "%q: it is in ips: want it in excludeIPs too, or not in ips", *s.Gateway)
	}
}

// router checks the address of a router: no route leads by the subnet's own address, nor by that to
// which all of its hosts listen.
func (k *checker) router(path, text string, s SubnetSpec) (netip.Addr, bool) {
	a, ok := s.inSubnet(text)
	switch {
	case !ok:
		k.add(path, "%q: want an address of subnet %s", text, s.Subnet)
	case a.Is4() && unusable(s.Prefix()).Contains(a):
		k.add(path, "%q: want the address of a router, not the first or the last one of subnet %s", text, s.Subnet)
		return a, false
	}
	return a, ok
}

// inSubnet reads an address of the subnet. If the subnet is none, any address will do.
func (s SubnetSpec) inSubnet(text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	prefix := s.Prefix()
	return a, err == nil && a.Zone() == "" && !a.Is4In6() && (!prefix.IsValid() || prefix.Contains(a))
}

// router returns the gateway, invalid if there is none.
func (s SubnetSpec) router() netip.Addr {
	if s.Gateway == nil {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(*s.Gateway)
	return a
}

// routes checks further routes.
func (k *checker) routes(s SubnetSpec) {
	k.most("spec.routes", len(s.Routes), maxRoutes)
	former := map[netip.Prefix]bool{}
	for i, r := range s.Routes {
		path := fmt.Sprintf("spec.routes[%d]", i)
		dst := prefixOf(r.Dst)
		switch version := s.Version(); {
		case r.Dst == "":
			k.add(path+".dst", "missing: want a CIDR, such as 10.7.0.0/16")
		case !dst.IsValid() || version != 0 && versionOf(dst.Addr()) != version:
			k.add(path+".dst", "%q: want a CIDR of the family of subnet %s", r.Dst, s.Subnet)
		case dst.Bits() == 0:
			k.add(path+".dst", "%q: want spec.gateway for the default route", r.Dst)
		case former[dst]:
			k.add(path+".dst", "%q: want one route to %s", r.Dst, dst)
		}
		former[dst] = true
		if r.Gw == "" {
			k.add(path+".gw", "missing: want an address of subnet %s", s.Subnet)
		} else {
			k.router(path+".gw", r.Gw, s)
		}
	}
}

// prefixOf reads a CIDR, without bits of the host. It isn't valid if the text is none.
func prefixOf(text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}
	}
	return p.Masked()
}

// Names and values of labels, as Kubernetes has them (k8s.io/apimachinery,
// pkg/api/validate/content: IsLabelKey, IsLabelValue).
var (
	labelName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	operators = []string{"In", "NotIn", "Exists", "DoesNotExist"}
)

func isLabelKey(key string) bool {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		prefix, name = "", key
	}
	return labelName.MatchString(name) && (!prefixed || netconf.IsSubdomain(prefix))
}

func isLabelValue(value string) bool { return value == "" || labelName.MatchString(value) }

// isNAD reports whether a text names a NetworkAttachmentDefinition, with its namespace or
// without.
func isNAD(text string) bool {
	namespace, name, namespaced := strings.Cut(text, "/")
	if !namespaced {
		return netconf.IsSubdomain(text)
	}
	return netconf.IsLabel(namespace) && netconf.IsSubdomain(name)
}

// selector checks a selector of labels.
func (k *checker) selector(path string, s *Selector) {
	if s == nil {
		return
	}
	const wantKey = "want the name of a label, such as app or example.com/app"
	const wantValue = "want the value of a label: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
	k.most(path+".matchLabels", len(s.MatchLabels), maxLabels)
	var keys []string
	for key := range s.MatchLabels {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if !isLabelKey(key) {
			k.add(path+".matchLabels", "%q: %s", key, wantKey)
		}
		if value := s.MatchLabels[key]; !isLabelValue(value) {
			k.add(path+".matchLabels."+key, "%q: %s", value, wantValue)
		}
	}
	k.most(path+".matchExpressions", len(s.MatchExpressions), maxLabels)
	for i, e := range s.MatchExpressions {
		at := fmt.Sprintf("%s.matchExpressions[%d]", path, i)
		if e.Key == "" {
			k.add(at+".key", "missing: %s", wantKey)
		} else if !isLabelKey(e.Key) {
			k.add(at+".key", "%q: %s", e.Key, wantKey)
		}
		k.most(at+".values", len(e.Values), maxValues)
		switch some := e.Operator == "In" || e.Operator == "NotIn"; {
		case !slices.Contains(operators, e.Operator):
			k.add(at+".operator", "%q: want one of %s", e.Operator, strings.Join(operators, ", "))
		case some && len(e.Values) == 0:
			k.add(at+".values", "missing: operator %s needs at least one", e.Operator)
		case !some && len(e.Values) > 0:
			k.add(at+".values", "want none with operator %s", e.Operator)
		}
		for n, value := range e.Values {
			if !isLabelValue(value) {
				k.add(fmt.Sprintf("%s.values[%d]", at, n), "%q: %s", value, wantValue)
			}
		}
	}
}

// names checks a list of names.
func (k *checker) names(path string, list []string, most int, is func(string) bool, want string) {
	k.most(path, len(list), most)
	for i, name := range list {
		if !is(name) {
			k.add(fmt.Sprintf("%s[%d]", path, i), "%q: want %s", name, want)
		}
	}
}

// Use is an address that is in use.
type Use struct {
	Addr netip.Addr
	By   string // who uses it, in words: pod default/web-0
}

// Change returns what is wrong with a change of the spec of a SpiderSubnet or SpiderIPPool:
// subnet, family and network stay, and so do the addresses in use.
func (s SubnetSpec) Change(former SubnetSpec, inUse []Use) []netconf.Fault {
	k := &checker{}
	if was := former.Prefix(); was.IsValid() && s.Prefix().IsValid() && s.Prefix() != was {
		k.add("spec.subnet", "%q: want %s, as it was: make another object for another subnet", s.Subnet, former.Subnet)
	}
	if now, was := s.vlan(), former.vlan(); now != was {
		k.add("spec.vlan", "%d: want %d, as it was: make another object for another VLAN", now, was)
	}
	if s.Network != former.Network {
		k.add("spec.network", "%q: want %q, as it was: make another object for another network", s.Network, former.Network)
	}
	now, ips, total := s.Total(), Addresses(s.IPs), former.Total()
	for _, u := range inUse {
		switch {
		case now.Contains(u.Addr) || !total.Contains(u.Addr):
		case ips.Contains(u.Addr):
			k.add("spec.excludeIPs", "%s: want it not excluded as long as %s uses it", u.Addr, u.By)
		default:
			k.add("spec.ips", "%s: want it in ips as long as %s uses it", u.Addr, u.By)
		}
	}
	return k.faults
}

// Change returns what is wrong with a change of the spec of a SpiderReservedIP.
func (s ReservedSpec) Change(former ReservedSpec) []netconf.Fault {
	k := &checker{}
	if was, now := former.Version(), s.Version(); was != 0 && now != 0 && was != now {
		k.add("spec.ipVersion", "%d: want %d, as it was: make another SpiderReservedIP for the other family", now, was)
	}
	return k.faults
}
