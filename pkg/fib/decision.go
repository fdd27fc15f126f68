// SPDX-License-Identifier: Apache-2.0

package fib

import (
	"fmt"
	"net/netip"
	"syscall"

	"github.com/multihome/multihome/pkg/netstate"
)

// Flow holds the properties of a packet that routing looks at.
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

// in returns the incoming link as rules see it: lo for a packet made here.
func (f Flow) in() string {
	if f.In == "" {
		return loopback
	}
	return f.In
}

// Decision says what happens to a packet, and why.
type Decision struct {
	Flow  Flow
	Steps []Step // the rules in the order in which they were asked
	// Choices are the equal next hops that the packet may take. Empty if Err is set,
	// or if no route was needed.
	Choices []Choice
	Kind    Kind
	// Err is the error that the sending program gets, or the reason for a drop; 0 if
	// the packet is sent or delivered. Why explains it where no rule or route does.
	Err syscall.Errno
	Why string
	// Reverse is the reverse path check of an incoming packet: the route back to its
	// source, which should leave by the incoming link. nil if there was no check.
	Reverse *Decision

	merged    bool // the kernel calls table local main
	mayRefuse bool // some of the ways that it could take are not allowed to it
}

// Refused reports whether the packet is dropped or refused.
func (d Decision) Refused() bool { return d.Err != 0 }

// Step is one rule of the lookup.
type Step struct {
	Rule Rule
	// Mismatch says why the rule does not match the packet; "" if it does.
	Mismatch string
	// Route is the route found in the rule's table; nil if there is none, or if the
	// rule looks up no table.
	Route *Route
	// PassedOver says why a matching rule decided nothing; "" if it decided.
	PassedOver string
}

// Choice is a next hop that the packet may take.
type Choice struct {
	Route *Route // nil: no route leads there, but the socket is bound to the link
	Hop   Hop
	Src   netip.Addr // the packet's source; what the kernel chooses if it had none
}

// Table returns the routing table that decided; 0 if none did.
func (c Choice) Table() int {
	if c.Route == nil {
		return 0
	}
	return c.Route.Table
}

// Answer is the kernel's own decision (RTM_GETROUTE).
type Answer struct {
	Err   syscall.Errno
	Kind  Kind
	Table int
	Dev   string
	Via   netip.Addr
	Src   netip.Addr // of a packet that had none; not valid: not told
}

// Allows reports whether the kernel's answer agrees with this decision.
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

// sameError reports whether two errors mean the same. A packet refused for its source
// is EINVAL since Linux 6.14 and was EXDEV before (inet_rtm_getroute).
func sameError(a, b syscall.Errno) bool {
	plain := func(e syscall.Errno) syscall.Errno {
		if e == syscall.EXDEV {
			return syscall.EINVAL
		}
		return e
	}
	return plain(a) == plain(b)
}

// Answers returns the answers that the kernel may give.
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

// String returns the answer as ip(8) prints it.
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

// String returns the question as arguments of ip route get.
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
