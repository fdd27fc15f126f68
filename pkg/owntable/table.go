// SPDX-License-Identifier: Apache-2.0

package owntable

import (
	"fmt"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
)

// Table returns the NIC's table: the one it has, or else a free one as [Free]
// finds it. The tables that are taken are another's.
func (n NIC) Table(s *netstate.Snapshot, wish, first int, taken ...int) (int, error) {
	if table := n.Find(s, taken...); table != 0 {
		return table, nil
	}
	table, err := Free(s, wish, first, taken...)
	if err != nil {
		return 0, fmt.Errorf("pod: link %s: %w", n.Name, err)
	}
	return table, nil
}

// Find returns the table that the NIC has, 0 if it has none, or one that is taken: a
// rule of its plugin leads there from one of its addresses, or from one that it had,
// or did before the rules were flushed.
func (n NIC) Find(s *netstate.Snapshot, taken ...int) int {
	former, left := 0, 0
	for _, r := range netstate.All[netstate.Rule](s, pod) {
		switch {
		case !IsOwn(r, n.Owner) || slices.Contains(taken, r.Table):
		case slices.Contains(n.Addrs, r.From.Addr()):
			return r.Table
		case former == 0 && IsFormer(s, r) && n.isIn(s, r.Table):
			former = r.Table
		}
	}
	if former != 0 {
		return former
	}
	for _, r := range netstate.All[netstate.Route](s, pod) {
		isNew := r.Table < netstate.TableDefault && n.has(r) && (left == 0 || r.Table < left)
		if isNew && !slices.Contains(taken, r.Table) && !n.isRuled(s, r.Table) && n.isLeft(s, r.Table) {
			left = r.Table
		}
	}
	return left
}

// IsFormer reports whether a rule is from an address that no link of the pod has.
func IsFormer(s *netstate.Snapshot, r netstate.Rule) bool {
	return !slices.ContainsFunc(netstate.All[netstate.Addr](s, pod), func(a netstate.Addr) bool { return a.Prefix.Addr() == r.From.Addr() })
}

// isIn reports whether a table has a route by the NIC.
func (n NIC) isIn(s *netstate.Snapshot, table int) bool {
	return slices.ContainsFunc(netstate.All[netstate.Route](s, pod), func(r netstate.Route) bool { return r.Table == table && n.has(r) })
}

// IsOwn reports whether a rule leads what comes from an address to a table of a
// NIC's own that a plugin made.
func IsOwn(r netstate.Rule, owner netstate.Protocol) bool {
	return r.Proto == owner && r.Owned() && r.Priority == netstate.FromPriority && r.From.IsSingleIP()
}

// isRuled reports whether any rule leads to a table, but for those of the plugin to a
// NIC's subnet.
func (n NIC) isRuled(s *netstate.Snapshot, table int) bool {
	return slices.ContainsFunc(netstate.All[netstate.Rule](s, pod), func(r netstate.Rule) bool {
		return r.Table == table && (r.Proto != n.Owner || !r.To.IsValid())
	})
}

// isLeft reports whether a table that no rule leads to, but that has routes by the
// NIC, was the NIC's own before the rules were flushed (as systemd-networkd does
// with those it doesn't know). A route of the plugin's tells. Where there is none,
// the table holds nothing but routes by the NIC, one of which was copied from table
// main: it still has the protocol of those that the kernel makes, which no other
// table gets by itself, or it is in main as well.
func (n NIC) isLeft(s *netstate.Snapshot, table int) bool {
	copied, others := false, false
	for _, r := range netstate.All[netstate.Route](s, pod) {
		if r.Table != table {
			continue
		}
		if r.Proto == n.Owner {
			return true
		}
		copied = copied || r.Dst.Bits() > 0 && (r.Proto == netstate.ProtoKernel || inMain(s, r))
		others = others || !n.has(r)
	}
	return copied && !others
}

// inMain reports whether table main has the same route.
func inMain(s *netstate.Snapshot, r netstate.Route) bool {
	r.Table = netstate.TableMain
	have, ok := netstate.Get(s, pod, r)
	return ok && have == r
}

// Free returns the wished table if nobody uses it, or else the lowest from first on
// of which that is true: neither a rule leads there nor has it a route, whosever
// they are, and it isn't taken.
func Free(s *netstate.Snapshot, wish, first int, taken ...int) (int, error) {
	used := map[int]bool{}
	for _, table := range taken {
		used[table] = true
	}
	for _, r := range netstate.All[netstate.Rule](s, pod) {
		used[r.Table] = true
	}
	for _, r := range netstate.All[netstate.Route](s, pod) {
		used[r.Table] = true
	}
	if !used[wish] {
		return wish, nil
	}
	for table := first; table < netstate.TableDefault; table++ {
		if !used[table] {
			return table, nil
		}
	}
	return 0, fmt.Errorf("no routing table from %d to %d is free, and neither is %d: `ip rule` and `ip route show table all` in the pod show who uses them", first, netstate.TableDefault-1, wish)
}
