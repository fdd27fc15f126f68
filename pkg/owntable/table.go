// SPDX-License-Identifier: Apache-2.0

package owntable

import (
	"fmt"
	"slices"

	"github.com/multihome/multihome/pkg/netstate"
)

// Table returns the NIC's table: the one that [NIC.Find] finds, or else a free one from
// [Free]. The tables taken belong to other NICs.
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

// Find returns the table that the NIC has already, 0 if it has none; it never returns one
// of taken. The table is one that a rule of the plugin looks up for one of the NIC's
// addresses, or for an address that the NIC had before, or one that such a rule looked up
// before another program flushed the rules.
func (n NIC) Find(s *netstate.Snapshot, taken ...int) int {
	former, left := 0, 0
	for _, r := range netstate.All[netstate.Rule](s, pod) {
		switch {
		case !IsOwn(r, n.Owner) || slices.Contains(taken, r.Table) || n.lost(s, r.Table):
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

// IsOwn reports whether a rule is one of a plugin's from an address to the own table of a
// NIC.
func IsOwn(r netstate.Rule, owner netstate.Protocol) bool {
	return r.Proto == owner && r.Owned() && r.Priority == netstate.FromPriority && r.From.IsSingleIP()
}

// isRuled reports whether any rule looks up a table, except the plugin's own rules to a
// NIC's subnet.
func (n NIC) isRuled(s *netstate.Snapshot, table int) bool {
	return slices.ContainsFunc(netstate.All[netstate.Rule](s, pod), func(r netstate.Rule) bool {
		return r.Table == table && (r.Proto != n.Owner || !r.To.IsValid())
	})
}

// isLeft reports whether a table without rules was the NIC's own before another program
// flushed the rules. systemd-networkd removes rules that it doesn't know. The table was
// the NIC's if it has a route of the plugin. Without one, it was the NIC's if it holds
// routes by the NIC only, and one of them was copied from main: the route has the
// kernel's protocol, which routes get in no other table by themselves, or main has it
// too.
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

// Free returns the wished table if it is free, or else the lowest free one from first on.
// A table is free if no rule looks it up, it has no route, and it isn't in taken. Objects
// of any program count.
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
