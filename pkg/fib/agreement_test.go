// SPDX-License-Identifier: Apache-2.0

package fib_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/survey"
)

// tuples is how many packets are made up for each namespace.
const tuples = 4000

// outcomes counts what the kernel answered, so that a test can tell that it saw
// everything.
type outcomes map[string]int

func (o outcomes) note(f fib.Flow, a fib.Answer) {
	way := "output"
	if f.In != "" {
		way = "input"
	}
	o["tuples"]++
	if a.Err != 0 {
		o[fmt.Sprintf("IPv%d %s: %v", netstate.FamilyOf(f.Dst), way, a.Err)]++
		return
	}
	o[fmt.Sprintf("IPv%d %s: %v", netstate.FamilyOf(f.Dst), way, a.Kind)]++
	o[fmt.Sprintf("IPv%d table %d", netstate.FamilyOf(f.Dst), a.Table)]++
}

// add adds what another namespace answered.
func (o outcomes) add(other outcomes) {
	for what, n := range other {
		o[what] += n
	}
}

// want wants each of these answers to have been seen so often: a comparison that met
// only errors would prove nothing.
func (o outcomes) want(t *testing.T, often int, whats ...string) {
	t.Helper()
	for _, what := range whats {
		if o[what] < often {
			t.Errorf("%q was answered %d times, want %d to be compared", what, o[what], often)
		}
	}
}

func (o outcomes) String() string {
	var lines []string
	for what, n := range o {
		lines = append(lines, fmt.Sprintf("%s: %d", what, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// compare makes up packets in a namespace and compares what is decided here with what
// the kernel says. Compared are the error, or else type, table, link, gateway and the
// source of a packet that has none.
//
// Left out is what the kernel doesn't decide by routes alone: groups that come in (who
// has joined is asked, and a daemon for multicast) and packets to the unspecified
// address, which it turns into ones to the sender.
//
// A namespace may not have settled yet: the kernel notes a lost carrier and checked
// addresses when it finds the time. What was compared while it changed doesn't count.
func compare(t *testing.T, s *kernel.Namespace, seed uint64) outcomes {
	t.Helper()
	for range 10 {
		before := read(t, s)
		seen, wrong := compareOnce(t, s, before, seed)
		if !reflect.DeepEqual(before, read(t, s)) {
			continue
		}
		for _, w := range wrong[:min(len(wrong), 10)] {
			t.Error(w)
		}
		if len(wrong) > 0 {
			t.Errorf("%d of %d differ", len(wrong), tuples)
		}
		return seen
	}
	t.Fatal("the namespace doesn't settle")
	return nil
}

func read(t *testing.T, s *kernel.Namespace) *fib.Namespace {
	t.Helper()
	space, err := survey.ReadFIB(s)
	if err != nil {
		t.Fatal(err)
	}
	return space
}

// compareOnce returns what the kernel answered, and where it wasn't decided so here.
func compareOnce(t *testing.T, s *kernel.Namespace, space *fib.Namespace, seed uint64) (seen outcomes, wrong []string) {
	t.Helper()
	seen = outcomes{}
	draw := maker{rand.New(rand.NewPCG(seed, 1)), space}
	for range tuples {
		f := draw.flow()
		decide := space.Output
		if f.In != "" {
			decide = space.Input
		}
		got := decide(f)
		want, err := survey.Decide(s, f)
		if err != nil {
			t.Fatal(err)
		}
		seen.note(f, want)
		if !got.Allows(want) {
			wrong = append(wrong, fmt.Sprintf("%v:\n got  %v %s\n want %v", f, got.Answers(), got.Why, want))
		}
	}
	return seen, wrong
}

// maker makes packets up: half of what they are made of is known to the namespace, or
// close to it.
type maker struct {
	*rand.Rand
	space *fib.Namespace
}

func (m maker) flow() fib.Flow {
	ipv6 := m.IntN(2) == 0
	f := fib.Flow{Dst: m.addr(ipv6), Mark: m.mark(), UID: uint32(m.IntN(3) * 1000)}
	for f.Dst.IsUnspecified() {
		f.Dst = m.addr(ipv6)
	}
	f.Protocol = []uint8{syscall.IPPROTO_TCP, syscall.IPPROTO_UDP}[m.IntN(2)]
	f.SrcPort, f.DstPort = uint16(1+m.IntN(65535)), []uint16{53, 80, 8080}[m.IntN(3)]
	link := m.space.Links[m.IntN(len(m.space.Links))].Name
	switch m.IntN(4) {
	case 0:
		if !f.Dst.IsMulticast() {
			f.In, f.UID = link, 0
		}
	case 1:
		f.Out = link
	}
	own := m.own(ipv6)
	if f.In != "" && m.IntN(3) == 0 {
		f.Dst = own[m.IntN(len(own))].Prefix.Addr()
	}
	switch a := own[m.IntN(len(own))]; {
	case f.In == "" && m.IntN(2) == 0:
		f.Src = a.Prefix.Addr()
	case f.In != "" && m.IntN(2) == 0: // a neighbour
		f.In, f.Src = a.Dev, a.Peer.Addr().Next().Next().Next()
	case f.In != "" || m.IntN(2) == 0:
		f.Src = m.addr(ipv6)
	}
	return f
}

func (m maker) own(ipv6 bool) (out []fib.Addr) {
	for _, a := range m.space.Addrs {
		if a.Prefix.Addr().Is6() == ipv6 {
			out = append(out, a)
		}
	}
	return out
}

func (m maker) mark() uint32 {
	marks := []uint32{0, 0, m.Uint32(), 1 << m.IntN(32)}
	for _, r := range m.space.Rules {
		marks = append(marks, r.Mark, r.Mark|m.Uint32())
	}
	return marks[m.IntN(len(marks))]
}

// addr is an address that something in the namespace is about, one close to it, or
// any.
func (m maker) addr(ipv6 bool) netip.Addr {
	known := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.1"),
		netip.MustParseAddr("::1"), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("239.1.2.3")}
	for _, a := range m.space.Addrs {
		known = append(known, a.Prefix.Addr(), a.Prefix.Addr())
	}
	for _, r := range m.space.Routes {
		known = append(known, r.Dst.Addr())
		for _, h := range r.Hops {
			known = append(known, h.Via)
		}
	}
	for _, r := range m.space.Rules {
		known = append(known, r.From.Addr(), r.To.Addr())
	}
	known = slices.DeleteFunc(known, func(a netip.Addr) bool { return !a.IsValid() || a.Is6() != ipv6 })
	b := known[m.IntN(len(known))].AsSlice()
	switch m.IntN(4) {
	case 0: // a neighbour of it
		b[len(b)-1] ^= byte(m.IntN(256))
	case 1: // somewhere in its network
		for i := len(b)/2 + m.IntN(len(b)/2); i < len(b); i++ {
			b[i] = byte(m.IntN(256))
		}
	case 2:
		if m.IntN(2) == 0 {
			for i := range b {
				b[i] = byte(m.IntN(256))
			}
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
