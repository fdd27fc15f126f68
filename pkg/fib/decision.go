// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/multihome/multihome/pkg/netstate"
)

// Flow is what routing asks of a packet.
type Flow struct {
	Src      netip.Addr // not valid: the sender leaves it to the kernel
	Dst      netip.Addr
	Mark     uint32
	In       string // the link it came in by; "": it is made here
	Out      string // the link its socket is bound to; "": none
	UID      uint32 // of the owner of its socket
	Protocol uint8  // IPPROTO_*

	SrcPort, DstPort uint16
}

// in is the link that rules take a packet to have come by: lo where it is made here.
func (f Flow) in() string {
	if f.In == "" {
		return loopback
	}
	return f.In
}

// Decision is what becomes of a packet, and why.
type Decision struct {
	Flow  Flow
	Steps []Step // the rules in the order in which they were asked
	// Choices are the ways that the packet may take, all with equal right; none if
	// Err is set, or if no route was needed.
	Choices []Choice
	Kind    Kind
	// Err is what a program that sends the packet is told, or why it is dropped;
	// 0 if it goes its way. Why says it in words where no rule or route does.
	Err syscall.Errno
	Why string
	// Reverse is, for a packet that came in, the way back to its source that the
	// kernel looked for, to see if that is by the link that it came by; nil if it
	// did not.
	Reverse *Decision

	merged    bool // the kernel calls table local main
	mayRefuse bool // some of the ways that it could take are not allowed to it
}

// Refused reports whether the packet doesn't go its way.
func (d Decision) Refused() bool { return d.Err != 0 }

// Step is a rule that was asked.
type Step struct {
	Rule Rule
	// Mismatch says why the rule is not about the packet, "" if it is.
	Mismatch string
	// Route is what the rule's table had for the packet; nil if nothing, or if the
	// rule has none.
	Route *Route
	// PassedOver says why a rule that matches decided nothing, "" if it did.
	PassedOver string
}

// Choice is a way of the packet.
type Choice struct {
	Route *Route // nil: no route leads there, but the socket is bound to the link
	Hop   Hop
	Src   netip.Addr // the packet's source; what the kernel chooses if it had none
}

// Table is the routing table that decided; 0 if none did.
func (c Choice) Table() int {
	if c.Route == nil {
		return 0
	}
	return c.Route.Table
}

// Answer is a decision as the kernel tells it (RTM_GETROUTE).
type Answer struct {
	Err   syscall.Errno
	Kind  Kind
	Table int
	Dev   string
	Via   netip.Addr
	Src   netip.Addr // of a packet that had none; not valid: not told
}

// Allows reports whether the kernel's answer is what this decision says.
func (d Decision) Allows(a Answer) bool {
	if d.mayRefuse && sameError(a.Err, syscall.EINVAL) {
		return true
	}
	if d.Err != 0 || a.Err != 0 {
		return sameError(d.Err, a.Err)
	}
	for _, w := range d.Answers() {
		if d.Flow.Src.IsValid() || d.Flow.In != "" {
			w.Src = a.Src // there is nothing to choose
		}
		if w == a {
			return true
		}
	}
	return false
}

// sameError: since Linux 6.14 a packet that is refused for its source is an invalid
// argument where it was a link across devices before (inet_rtm_getroute).
func sameError(a, b syscall.Errno) bool {
	plain := func(e syscall.Errno) syscall.Errno {
		if e == syscall.EXDEV {
			return syscall.EINVAL
		}
		return e
	}
	return plain(a) == plain(b)
}

// Answers are what the kernel may answer.
func (d Decision) Answers() []Answer {
	if d.Err != 0 {
		return []Answer{{Err: d.Err}}
	}
	var out []Answer
	for _, c := range d.Choices {
		a := Answer{Kind: d.Kind, Table: c.Table(), Dev: c.Hop.Dev, Via: c.Hop.Via, Src: c.Src}
		if d.merged && a.Table == netstate.TableLocal {
			a.Table = netstate.TableMain
		}
		if d.Kind == Local || d.Kind == Anycast || d.Kind == Broadcast && d.Flow.In != "" {
			a.Dev = loopback // which is where the kernel delivers
		}
		out = append(out, a)
	}
	return out
}

// String says what the answer is, in the words of ip(8).
func (a Answer) String() string {
	if a.Err != 0 {
		return a.Err.Error()
	}
	s := fmt.Sprintf("%s dev %s table %d", a.Kind, a.Dev, a.Table)
	if a.Via.IsValid() {
		s += " via " + a.Via.String()
	}
	if a.Src.IsValid() {
		s += " src " + a.Src.String()
	}
	return s
}

// String is the question in the words of ip(8), route get.
func (f Flow) String() string {
	s := f.Dst.String()
	if f.Src.IsValid() {
		s += " from " + f.Src.String()
	}
	if f.In != "" {
		s += " iif " + f.In
	}
	if f.Out != "" {
		s += " oif " + f.Out
	}
	if f.Mark != 0 {
		s += fmt.Sprintf(" mark %#x", f.Mark)
	}
	return fmt.Sprintf("%s uid %d ipproto %d sport %d dport %d", s, f.UID, f.Protocol, f.SrcPort, f.DstPort)
}
