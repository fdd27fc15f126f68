// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
)

// Query is the packet to follow: one from the pod to To or, with In, one from To that
// enters the pod by its link In.
type Query struct {
	Pod  string // the name that the user gave
	To   netip.AddrPort
	From netip.Addr // of the pod; invalid: the kernel chooses
	Mark uint32     // of the packets that the pod sends
	In   string
}

// Trace is the path of a packet and of its reply.
type Trace struct {
	Pod  string `json:"pod"`
	From string `json:"from"`
	To   string `json:"to"`
	Mark string `json:"mark,omitempty"`
	In   string `json:"in,omitempty"`

	Request []Leg `json:"request"`
	Reply   []Leg `json:"reply,omitempty"`

	// Symmetric is set if the reply takes the path of the request. Verdict says so, or
	// where the two part, or where one ends.
	Symmetric bool   `json:"symmetric"`
	Verdict   string `json:"verdict"`

	// Agreed counts the decisions that the kernel confirmed; Disagreements are the
	// others.
	Agreed        int      `json:"kernelAgrees"`
	Disagreements []string `json:"disagreements,omitempty"`

	Probe *Probe `json:"probe,omitempty"`

	watch    []watchedLink // the links of the node that a probe captures
	fromNode bool          // with In, the node itself sends the request
}

// Leg is the passage of a packet through one namespace.
type Leg struct {
	Where string   `json:"where"`           // pod or node
	In    string   `json:"in,omitempty"`    // the link it came in by; "": it was made here
	Mark  string   `json:"mark,omitempty"`  // what routing sees
	Steps []Step   `json:"steps,omitempty"` // in the order in which rules are asked
	Ends  string   `json:"result"`          // what becomes of it
	Out   string   `json:"out,omitempty"`   // the link it leaves by; "": it doesn't leave
	Notes []string `json:"notes,omitempty"`

	source netip.Addr
}

// Step is one rule of a lookup.
type Step struct {
	Rule    string `json:"rule"`
	Matches bool   `json:"matches"`
	Decides bool   `json:"decides"`
	// Result says why the rule does not match, or what its table has.
	Result string `json:"result"`
}

// ErrDisagrees is the error of a trace that the kernel contradicts.
var ErrDisagrees = errors.New("the kernel decides otherwise: what it says counts, and this is a defect of trace, or due to something that it can't see")

// Err returns ErrDisagrees if the kernel contradicts the trace.
func (t *Trace) Err() error {
	if len(t.Disagreements) > 0 {
		return ErrDisagrees
	}
	return nil
}

// tracer is a trace in the making.
type tracer struct {
	World
	q     Query
	trace *Trace
}

// Do follows a packet.
func (w World) Do(q Query) (*Trace, error) {
	t := &tracer{w, q, &Trace{Pod: q.Pod, To: q.To.Addr().String(), In: q.In}}
	if q.To.Port() != 0 {
		t.trace.To = q.To.String()
	}
	if q.Mark != 0 {
		t.trace.Mark = fmt.Sprintf("%#x", q.Mark)
	}
	if err := t.check(); err != nil {
		return nil, err
	}
	for _, l := range t.beside() {
		t.trace.watch = append(t.trace.watch, watchedLink{where: netstate.Host, link: l})
	}
	t.trace.fromNode = t.linkWith(netstate.Host, q.To.Addr()) != ""
	var err error
	if q.In == "" {
		err = t.outward()
	} else {
		err = t.inward()
	}
	t.sizes(t.trace.Request)
	t.sizes(t.trace.Reply)
	return t.trace, err
}

// check refuses queries that can't be followed.
func (t *tracer) check() error {
	to := t.q.To.Addr()
	switch {
	case to.IsMulticast() || to.IsUnspecified() || to == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("to %s: want the address of one host", to)
	case t.q.From.IsValid() && t.q.From.Is4() != to.Is4():
		return fmt.Errorf("from %s to %s: want two addresses of one family", t.q.From, to)
	}
	if t.q.In == "" {
		return nil
	}
	if _, ok := t.Spaces[netstate.Pod].Link(t.q.In); !ok {
		return fmt.Errorf("pod %s has no link %s", t.q.Pod, t.q.In)
	}
	if t.q.From.IsValid() {
		return nil
	}
	if t.q.From = t.asked(); !t.q.From.IsValid() {
		return fmt.Errorf("pod %s has no address that %s could ask", t.q.Pod, to)
	}
	return nil
}

// asked returns the destination of an incoming packet if the query has none: the first
// address of the link, else of any link.
func (t *tracer) asked() netip.Addr {
	var first netip.Addr
	for _, a := range t.Spaces[netstate.Pod].Addrs {
		addr := a.Prefix.Addr()
		if addr.Is4() != t.q.To.Addr().Is4() || addr.IsLinkLocalUnicast() || addr.IsLoopback() {
			continue
		}
		if a.Dev == t.q.In {
			return addr
		}
		if !first.IsValid() {
			first = addr
		}
	}
	return first
}

// flow returns a packet of the conversation.
func (t *tracer) flow(src, dst netip.Addr, in string, mark uint32) fib.Flow {
	f := fib.Flow{Src: src, Dst: dst, In: in, Mark: mark, Protocol: icmp}
	if dst.Is6() {
		f.Protocol = icmpv6
	}
	if port := t.q.To.Port(); port != 0 {
		f.Protocol = tcp
		if dst == t.q.To.Addr() {
			f.DstPort = port
		} else {
			f.SrcPort = port
		}
	}
	return f
}

// Protocols, IPPROTO_* of linux/in.h.
const (
	icmp   = 1
	tcp    = 6
	icmpv6 = 58
)

// decide asks package fib, and then the kernel for its own decision.
func (t *tracer) decide(ns netstate.NS, f fib.Flow) (fib.Decision, error) {
	space := t.Spaces[ns]
	decide := space.Output
	if f.In != "" {
		decide = space.Input
	}
	d := decide(f)
	answer, err := t.Ask(ns, d.Flow)
	if err != nil {
		return d, err
	}
	if d.Allows(answer) {
		t.trace.Agreed++
		return d, nil
	}
	t.trace.Disagreements = append(t.trace.Disagreements, fmt.Sprintf("%s, %s: this says %s, the kernel says %s",
		where(ns), d.Flow, d.Answers(), answer))
	return d, nil
}

// where returns the name of a namespace for people.
func where(ns netstate.NS) string {
	if ns == netstate.Host {
		return "node"
	}
	return "pod"
}

// ParseDestination reads an address, with a port or without.
func ParseDestination(s string) (netip.AddrPort, error) {
	if a, err := netip.ParseAddrPort(s); err == nil && a.Port() != 0 && a.Addr().Zone() == "" {
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.AddrPort{}, fmt.Errorf("%q: want ADDR or ADDR:PORT, such as 10.6.0.50:80 or [fd00:6::50]:80", s)
	}
	return netip.AddrPortFrom(a.Unmap(), 0), nil
}
