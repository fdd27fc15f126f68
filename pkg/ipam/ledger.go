// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
)

// Patience is how long a pod is passed over while one of its pools has no address for it.
// After that, younger pods don't get what it needs from its other pools.
const Patience = 5 * time.Minute

// Ledger knows which addresses the pools have and which of them are taken, and decides who
// gets which. It is not the truth: that is in the API server, where an address is owned by
// creating its object. The ledger makes a good guess of what will succeed there.
//
// Its methods may not be called at the same time.
type Ledger struct {
	pools map[string]*stock
	owned map[string]*owned // pools of applications
	spans map[string][]span // by space, in order
	taken map[Key]mark
	since map[string]time.Time // when an applicant was first passed over
}

// Mark is a reason why an address is taken. Each is set and cleared by itself; the address is
// free when none is left.
type Mark uint8

// Reasons why an address is taken.
const (
	Object  Mark = 1 << iota // its IPAddress is there
	Promise                  // it was granted, and its IPAddress may not be seen yet
	Kept                     // it is in an application's pool, and no pod has it
)

// mark has the reasons why an address is taken.
type mark struct {
	set   Mark
	named int    // claims and nodes that name the address
	owner string // the application's pool in which it is, "" for none
}

// kept reports whether the next pod of the application can have the address.
func (m mark) kept() bool { return m.owner != "" && m.set == Kept && m.named == 0 }

// stock is what a pool has.
type stock struct {
	space    string
	ranges   []netipx.IPRange
	total    int64
	used     int64
	at       int          // the range in which next is
	next     netip.Addr   // the lowest address that wasn't looked at yet
	spare    []netip.Addr // taken in vain: next in turn
	returned []netip.Addr
	waits    map[netip.Addr]bool // those in returned
}

// owned is what a pool of an application has: the addresses that are in it by their
// IPAddresses.
type owned struct {
	may      *netipx.IPSet // what it may hand out; nil: nothing
	space    string
	members  int64
	kept     int64               // those that no pod has
	spare    []netip.Addr        // never handed out, or in vain: next in turn
	returned []netip.Addr        // in the order in which they came back
	waits    map[netip.Addr]bool // those in spare and returned
}

// span is a range of a pool.
type span struct {
	netipx.IPRange
	pool *stock
}

// NewLedger returns a ledger without pools.
func NewLedger() *Ledger {
	return &Ledger{pools: map[string]*stock{}, owned: map[string]*owned{}, spans: map[string][]span{}, taken: map[Key]mark{}, since: map[string]time.Time{}}
}

// Stock is what a pool may hand out, without regard to what is taken.
type Stock struct {
	Space string
	Free  *netipx.IPSet
	// Auto says that the pool is an application's. It hands out only what Keep puts into it,
	// and Free may have addresses of other pools.
	Auto bool
}

// SetPools replaces the pools. A pool that stays as it was remembers the order in which its
// addresses came back. Pools of one space may not share addresses: of those that do, one gets
// them.
func (l *Ledger) SetPools(pools map[string]Stock) {
	former := l.pools
	l.pools, l.spans = map[string]*stock{}, map[string][]span{}
	var changed bool
	for _, o := range l.owned {
		o.may = nil
	}
	for name, p := range pools {
		if p.Auto {
			o := l.ownedBy(name)
			o.may, o.space = p.Free, p.Space
			continue
		}
		s, ranges := former[name], p.Free.Ranges()
		if s == nil || s.space != p.Space || !slices.Equal(s.ranges, ranges) {
			s, changed = newStock(p.Space, ranges, s), true
		}
		l.pools[name] = s
		for _, r := range ranges {
			l.spans[p.Space] = append(l.spans[p.Space], span{r, s})
		}
	}
	for _, spans := range l.spans {
		slices.SortFunc(spans, func(a, b span) int { return a.From().Compare(b.From()) })
	}
	for name, o := range l.owned {
		if o.may == nil && o.members == 0 {
			delete(l.owned, name)
		}
	}
	if !changed && len(former) == len(l.pools) {
		return
	}
	for _, s := range l.pools {
		s.used = 0
	}
	for k := range l.taken {
		if s := l.poolOf(k); s != nil {
			s.used++
		}
	}
}

// newStock returns what a pool has. It takes over from a former one which addresses came back.
func newStock(space string, ranges []netipx.IPRange, former *stock) *stock {
	s := &stock{space: space, ranges: ranges, waits: map[netip.Addr]bool{}}
	var b netipx.IPSetBuilder
	for _, r := range ranges {
		b.AddRange(r)
	}
	set, _ := b.IPSet()
	s.total = Count(set)
	if len(ranges) > 0 {
		s.next = ranges[0].From()
	}
	if former != nil && former.space == space {
		for _, a := range former.returned {
			if set.Contains(a) && former.waits[a] {
				s.back(a)
			}
		}
	}
	return s
}

// back puts an address behind those that were never handed out, and those that came back
// before.
func (s *stock) back(a netip.Addr) {
	if !s.waits[a] {
		s.returned = append(s.returned, a)
		s.waits[a] = true
	}
}

// lowest takes the address that is next in turn, if there is one: the lowest that wasn't
// handed out yet, else the one that came back first.
func (s *stock) lowest(taken func(netip.Addr) bool) (netip.Addr, bool) {
	for len(s.spare) > 0 {
		a := s.spare[0]
		s.spare = s.spare[1:]
		if !taken(a) {
			return a, true
		}
	}
	for s.at < len(s.ranges) {
		a := s.next
		if a == s.ranges[s.at].To() {
			if s.at++; s.at < len(s.ranges) {
				s.next = s.ranges[s.at].From()
			}
		} else {
			s.next = a.Next()
		}
		if !s.waits[a] && !taken(a) {
			return a, true
		}
	}
	for len(s.returned) > 0 {
		a := s.returned[0]
		s.returned = s.returned[1:]
		delete(s.waits, a)
		if !taken(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// first takes the first of some addresses that is free, or without any, the one that is next
// in turn.
func (s *stock) first(of []netip.Addr, taken func(netip.Addr) bool) (netip.Addr, bool) {
	if len(of) == 0 {
		return s.lowest(taken)
	}
	i := slices.IndexFunc(of, func(a netip.Addr) bool { return s.has(a) && !taken(a) })
	if i < 0 {
		return netip.Addr{}, false
	}
	return of[i], true
}

// has reports whether the pool may hand out an address.
func (s *stock) has(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(s.ranges, a, func(r netipx.IPRange, a netip.Addr) int { return r.To().Compare(a) })
	return found || i < len(s.ranges) && s.ranges[i].Contains(a)
}

// poolOf returns the pool that has an address, nil if none has.
func (l *Ledger) poolOf(k Key) *stock {
	spans := l.spans[k.Space]
	i, found := slices.BinarySearchFunc(spans, k.Addr, func(s span, a netip.Addr) int { return s.From().Compare(a) })
	if !found {
		i--
	}
	if i < 0 || !spans[i].Contains(k.Addr) {
		return nil
	}
	return spans[i].pool
}

// Set marks an address as taken.
func (l *Ledger) Set(k Key, m Mark) { l.change(k, func(now *mark) { now.set |= m }) }

// Clear takes a mark away. It reports whether the address is free now and wasn't before.
func (l *Ledger) Clear(k Key, m Mark) bool { return l.change(k, func(now *mark) { now.set &^= m }) }

// Keep says what an address's IPAddress says: which application's pool it is in, "" for none,
// and whether it is Kept there or an Object of somebody; 0: there is no IPAddress. It reports
// whether somebody can have the address now who couldn't before.
func (l *Ledger) Keep(k Key, pool string, m Mark) bool {
	return l.change(k, func(now *mark) { now.owner, now.set = pool, now.set&^(Object|Kept)|m })
}

// Name marks an address as named by one more claim or node.
func (l *Ledger) Name(k Key) { l.change(k, func(now *mark) { now.named++ }) }

// Unname takes one such mark away. It reports whether the address is free now and wasn't
// before.
func (l *Ledger) Unname(k Key) bool {
	return l.change(k, func(now *mark) { now.named = max(0, now.named-1) })
}

// Taken reports whether an address isn't free.
func (l *Ledger) Taken(k Key) bool {
	_, taken := l.taken[k]
	return taken
}

// Named reports whether claims or nodes name an address.
func (l *Ledger) Named(k Key) bool { return l.taken[k].named > 0 }

// Marked returns the addresses that have a mark, sorted.
func (l *Ledger) Marked(m Mark) []Key {
	var out []Key
	for k, now := range l.taken {
		if now.set&m != 0 {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, Key.Compare)
	return out
}

func (l *Ledger) change(k Key, f func(*mark)) (freed bool) {
	was := l.taken[k]
	now := was
	f(&now)
	switch now {
	case was:
		return false
	case mark{}:
		delete(l.taken, k)
	default:
		l.taken[k] = now
	}
	s := l.poolOf(k)
	wasTaken, taken := was != mark{}, now != mark{}
	switch {
	case s == nil:
	case taken && !wasTaken:
		s.used++
	case wasTaken && !taken:
		s.used--
		s.back(k.Addr)
	}
	l.move(k, was, now)
	return wasTaken && !taken || now.kept() && !was.kept()
}

// move follows an address in the pools of applications.
func (l *Ledger) move(k Key, was, now mark) {
	if was.owner != "" {
		o := l.ownedBy(was.owner)
		o.members--
		if was.kept() {
			o.kept--
		}
	}
	if now.owner == "" {
		return
	}
	o := l.ownedBy(now.owner)
	o.members++
	if !now.kept() {
		return
	}
	o.kept++
	switch {
	case was.kept() && was.owner == now.owner:
	case was.owner == now.owner:
		if !o.waits[k.Addr] {
			o.returned = append(o.returned, k.Addr)
			o.waits[k.Addr] = true
		}
	default:
		o.isNext(k.Addr)
	}
}

// ownedBy returns what an application's pool has.
func (l *Ledger) ownedBy(pool string) *owned {
	o := l.owned[pool]
	if o == nil {
		o = &owned{waits: map[netip.Addr]bool{}}
		l.owned[pool] = o
	}
	return o
}

// isNext puts an address among those that are next in turn.
func (o *owned) isNext(a netip.Addr) {
	if o.waits[a] {
		return
	}
	at, _ := slices.BinarySearchFunc(o.spare, a, netip.Addr.Compare)
	o.spare = slices.Insert(o.spare, at, a)
	o.waits[a] = true
}

// lowest takes the address that is next in turn, if there is one.
func (o *owned) lowest(kept func(netip.Addr) bool) (netip.Addr, bool) {
	for _, list := range []*[]netip.Addr{&o.spare, &o.returned} {
		for i := 0; i < len(*list); {
			a := (*list)[i]
			is := kept(a)
			if is && (o.may == nil || !o.may.Contains(a)) {
				i++
				continue
			}
			*list = slices.Delete(*list, i, i+1)
			delete(o.waits, a)
			if is {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// Reserve promises up to n addresses of a pool that isn't an application's, the lowest ones
// that are free. Clear takes the promise back.
func (l *Ledger) Reserve(pool string, n int) []Key {
	s := l.pools[pool]
	if s == nil {
		return nil
	}
	var out []Key
	for _, r := range s.ranges {
		for a := r.From(); a.IsValid() && len(out) < n; a = a.Next() {
			k := Key{s.space, a}
			if _, taken := l.taken[k]; !taken {
				l.Set(k, Promise)
				out = append(out, k)
			}
			if a == r.To() {
				break
			}
		}
	}
	return out
}

// Applicant is a pod that waits for addresses.
type Applicant struct {
	ID    string
	Since time.Time // when the pod was made: the oldest is first in line
	Needs []Need
}

// Need is an address for a NIC, from the first of the pools that has one.
type Need struct {
	Interface string
	IPv6      bool
	Pools     []string
	// Addresses are the only ones that will do, the first that is free; empty for any.
	Addresses []netip.Addr
	// Keep says from where an owner of addresses has his; nil: from Pools.
	Keep *Keep
}

// Keep is what counts instead of Pools for an owner who has an address of a disabled pool.
type Keep struct {
	Disabled []string // the pools of which he keeps it
	Pools    []string // those from which he gets what he lacks besides
	Why      string   // what to say if there is none of these
}

// Keeps reports whether an owner of an address of a pool, which is disabled, keeps it.
func (n Need) Keeps(pool string) bool { return n.Keep != nil && slices.Contains(n.Keep.Disabled, pool) }

// Takes reports whether an address of a pool will do.
func (n Need) Takes(pool string, a netip.Addr) bool {
	return slices.Contains(n.Pools, pool) && (len(n.Addresses) == 0 || slices.Contains(n.Addresses, a))
}

// Grant is an address that a need gets.
type Grant struct {
	Need
	Pool string
	Key  Key
	Kept bool // it is in an application's pool: its IPAddress is there
}

// Lack says of a need that none of its pools has an address.
type Lack struct {
	Need
	Message string
}

// Allocate decides who of a line gets addresses: the oldest first, each all of its addresses
// or none. It marks what it grants as promised. now is the time by which patience is
// measured. Whoever lacks something is passed over; after Patience it keeps younger ones from
// what its other pools have. It says what one of them lacks, about.
func (l *Ledger) Allocate(now time.Time, line []Applicant, about string) (granted map[string][]Grant, lacks []Lack) {
	granted = map[string][]Grant{}
	line = slices.Clone(line)
	slices.SortFunc(line, func(a, b Applicant) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	var kept []Grant
	for _, a := range line {
		first, before := l.since[a.ID]
		if !before {
			first = now
			l.since[a.ID] = now
		}
		patient := now.Sub(first) < Patience
		if patient && a.ID != about && slices.ContainsFunc(a.Needs, l.nothing) {
			continue
		}
		got, lack := l.take(a)
		switch {
		case len(lack) == 0:
			granted[a.ID] = got
			delete(l.since, a.ID)
		case patient:
			l.undo(got)
		default:
			kept = append(kept, got...)
		}
		if a.ID == about {
			lacks = lack
		}
	}
	l.undo(kept)
	return granted, lacks
}

// Leave forgets an applicant that isn't in the line any more.
func (l *Ledger) Leave(id string) { delete(l.since, id) }

// take takes what an applicant needs, as far as it is there.
func (l *Ledger) take(a Applicant) ([]Grant, []Lack) {
	var got []Grant
	var lack []Lack
	for _, n := range a.Needs {
		g, ok := l.one(n)
		if !ok {
			lack = append(lack, Lack{n, l.message(n)})
			continue
		}
		got = append(got, g)
	}
	return got, lack
}

// nothing reports whether no pool of a need has an address at all.
func (l *Ledger) nothing(n Need) bool {
	return !slices.ContainsFunc(n.Pools, func(pool string) bool {
		s, o := l.pools[pool], l.owned[pool]
		return s != nil && s.used < s.total || o != nil && o.kept > 0
	})
}

func (l *Ledger) one(n Need) (Grant, bool) {
	for _, name := range n.Pools {
		if o := l.owned[name]; o != nil {
			a, ok := o.lowest(func(a netip.Addr) bool { m, ok := l.taken[Key{o.space, a}]; return ok && m.owner == name && m.kept() })
			if ok {
				g := Grant{n, name, Key{o.space, a}, true}
				l.Set(g.Key, Promise)
				return g, true
			}
		}
		s := l.pools[name]
		if s == nil {
			continue
		}
		a, ok := s.first(n.Addresses, func(a netip.Addr) bool { _, taken := l.taken[Key{s.space, a}]; return taken })
		if ok {
			g := Grant{n, name, Key{s.space, a}, false}
			l.Set(g.Key, Promise)
			return g, true
		}
	}
	return Grant{}, false
}

// undo gives back what wasn't used, so that it is next in turn again.
func (l *Ledger) undo(got []Grant) {
	for _, g := range got {
		if g.Kept {
			m := l.taken[g.Key]
			m.set &^= Promise
			l.taken[g.Key] = m
			o := l.owned[g.Pool]
			o.kept++
			o.isNext(g.Key.Addr)
			continue
		}
		delete(l.taken, g.Key)
		s := l.pools[g.Pool]
		s.used--
		if len(g.Addresses) > 0 { // it was taken out of turn, and may have been passed over since
			s.back(g.Key.Addr)
			continue
		}
		at, _ := slices.BinarySearchFunc(s.spare, g.Key.Addr, netip.Addr.Compare)
		s.spare = slices.Insert(s.spare, at, g.Key.Addr)
	}
}

// message says how many addresses the pools of a need have, and how many of them are taken.
func (l *Ledger) message(n Need) string {
	var parts []string
	for _, name := range n.Pools {
		total, used := l.Counts(name)
		what := "pool " + name
		if subnet, ok := strings.CutPrefix(name, SubnetPool); ok {
			what = "SpiderSubnet " + subnet
		}
		parts = append(parts, fmt.Sprintf("%s: %d of %d addresses are in use", what, used, total))
	}
	family := "IPv4"
	if n.IPv6 {
		family = "IPv6"
	}
	return fmt.Sprintf("no %s address for %s: %s", family, n.Interface, strings.Join(parts, ", "))
}

// Counts returns how many addresses a pool may hand out and how many of them are taken.
func (l *Ledger) Counts(pool string) (total, used int64) {
	if s := l.pools[pool]; s != nil {
		return s.total, s.used
	}
	if o := l.owned[pool]; o != nil {
		return o.members, o.members - o.kept
	}
	return 0, 0
}
