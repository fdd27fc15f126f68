// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Scope is a route's distance to its destination, RT_SCOPE_* of
// linux/rtnetlink.h. IPv6 routes always have ScopeGlobal.
type Scope uint8

const (
	ScopeGlobal Scope = 0
	ScopeLink   Scope = 253
	ScopeHost   Scope = 254
)

func (s Scope) String() string {
	switch s {
	case ScopeGlobal:
		return "global"
	case ScopeLink:
		return "link"
	case ScopeHost:
		return "host"
	}
	return fmt.Sprint(uint8(s))
}

// Route is a unicast route with one next hop.
type Route struct {
	Table  int
	Dst    netip.Prefix
	Metric int
	Via    netip.Addr // not valid: the destination is on the link
	Dev    string
	Src    netip.Addr // preferred source; not valid: the kernel chooses
	Scope  Scope
	Onlink bool // Via is on the link, even if no route says so
	Proto  Protocol
	MTU    int // of packets by this route; 0: the link's
	AdvMSS int // the segment size of TCP that is announced; 0: by the MTU
}

// metricIPv6 is IP6_RT_PRIO_USER of include/uapi/linux/ipv6_route.h. The kernel
// uses it for metric 0.
const metricIPv6 = 1024

// NewRoute returns a route to dst that carries the mark of a plugin. It fills in
// the kernel's defaults, so that the route equals the one read back: scope link for
// an IPv4 destination on the link, metric 1024 for IPv6.
func NewRoute(owner Protocol, table int, dst netip.Prefix, via netip.Addr, dev string, src netip.Addr) Route {
	r := Route{Table: table, Dst: dst.Masked(), Via: via, Dev: dev, Src: src, Proto: owner}
	if dst.Addr().Is6() {
		r.Metric = metricIPv6
	} else if !via.IsValid() {
		r.Scope = ScopeLink
	}
	return r
}

// RAMetric is the metric of default routes that router advertisements make by a NIC that
// shall not have the pod's default route. It loses against the kernel's, which is 1024.
const RAMetric = 2 * metricIPv6

// LosesDefault reports whether it is a default route of a router advertisement that has
// [RAMetric]. The kernel takes it only if no other default route is of use.
func (r Route) LosesDefault() bool {
	return r.Dst.Bits() == 0 && r.IPv6() && r.Proto == ProtoRA && r.Metric == RAMetric
}

// Default returns the prefix of all addresses of a's family.
func Default(a netip.Addr) netip.Prefix {
	if a.Is6() {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
}

func (r Route) Kind() Kind { return KindRoute }

// Key includes the next hop, because the kernel may hold several routes with the
// same table, destination and metric: appended ones (IPv4 connected routes of two
// NICs in one subnet), and IPv6 routes that are not one multipath route.
func (r Route) Key() Object {
	return Route{Table: r.Table, Dst: r.Dst, Metric: r.Metric, Via: r.Via, Dev: r.Dev}
}
func (r Route) Device() string { return r.Dev }
func (r Route) Owned() bool    { return r.Proto.Ours() }

// filledFrom leaves the protocol open. A foreign route that does the same as ours
// keeps its owner, also if it leaves the source to the kernel: Flannel gives its pods such
// routes to the cluster network. It keeps its sizes, too; of our own routes, those that aren't wanted stay as they are.
func (r Route) filledFrom(have Object) Object {
	h := have.(Route)
	if r.Owned() && !h.Owned() {
		r.MTU, r.AdvMSS = h.MTU, h.AdvMSS
	} else {
		r.MTU, r.AdvMSS = cmp.Or(r.MTU, h.MTU), cmp.Or(r.AdvMSS, h.AdvMSS)
	}
	if r.Proto = h.Proto; !h.Owned() && !h.Src.IsValid() {
		r.Src = netip.Addr{}
	}
	return r
}

// IPv6 reports whether the route is an IPv6 one.
func (r Route) IPv6() bool { return r.Dst.Addr().Is6() }

// slot returns the route's place in its table. The kernel refuses a second route
// with the same destination and metric there (EEXIST).
func (r Route) slot() Route { return Route{Table: r.Table, Dst: r.Dst, Metric: r.Metric} }

func (r Route) String() string {
	var b strings.Builder
	b.WriteString(prefixText(r.Dst))
	if r.Via.IsValid() {
		b.WriteString(" via " + r.Via.String())
	}
	b.WriteString(" dev " + r.Dev)
	if r.Table != TableMain {
		b.WriteString(" table " + tableName(r.Table))
	}
	if r.Proto != protoBoot {
		b.WriteString(" proto " + r.Proto.String())
	}
	if r.Scope != ScopeGlobal {
		b.WriteString(" scope " + r.Scope.String())
	}
	if r.Src.IsValid() {
		b.WriteString(" src " + r.Src.String())
	}
	if r.Metric != 0 {
		b.WriteString(" metric " + strconv.Itoa(r.Metric))
	}
	if r.Onlink {
		b.WriteString(" onlink")
	}
	if r.MTU != 0 {
		b.WriteString(" mtu " + strconv.Itoa(r.MTU))
	}
	if r.AdvMSS != 0 {
		b.WriteString(" advmss " + strconv.Itoa(r.AdvMSS))
	}
	return b.String()
}
