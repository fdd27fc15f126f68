// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
)

// inward follows a packet that comes to the pod by a link, and the pod's reply.
func (t *tracer) inward() error {
	far, own := t.q.To.Addr(), t.q.From
	t.trace.From = own.String()
	fromNode, elsewhere, err := t.fromNode()
	if err != nil {
		return err
	}
	leg, d, err := t.pass(netstate.Pod, t.flow(far, own, t.q.In, 0))
	if err != nil {
		return err
	}
	if elsewhere != "" {
		leg.Notes = append(leg.Notes, elsewhere)
	}
	t.trace.Request = append(t.trace.Request, leg)
	if d.Refused() || d.Kind != fib.Local {
		t.trace.Verdict = "the pod does not take it: " + leg.Ends
		return nil
	}
	reply, d, err := t.answer(fromNode)
	if err != nil {
		return err
	}
	t.trace.Reply = []Leg{reply}
	if reply.Out == "" {
		t.trace.Verdict = "it is not answered: " + reply.Ends
		return nil
	}
	if in := t.nodeLink(reply.Out, d); in != "" {
		if err := t.answerByNode(in); err != nil {
			return err
		}
	}
	if reply.Out == t.q.In {
		t.trace.Symmetric = t.trace.Verdict == ""
		if t.trace.Symmetric {
			t.trace.Verdict = "the reply goes back by the same way: asked by " + t.q.In + ", answered by " + reply.Out
		}
		return nil
	}
	parting := fmt.Sprintf("the ways part: asked by %s, answered by %s%s", t.q.In, reply.Out, decidedBy(reply))
	if t.trace.Verdict != "" {
		parting += "; " + t.trace.Verdict
	}
	t.trace.Verdict = parting
	return nil
}

// fromNode adds the node's route to the pod's address, and reports whether the packet
// comes from the node: its own, or one that it forwards. If the node routes that address
// by another link, elsewhere says so.
func (t *tracer) fromNode() (comes bool, elsewhere string, err error) {
	host := t.hostLink(t.q.In)
	if host == "" {
		return false, "", nil
	}
	f := t.flow(netip.Addr{}, t.q.From, "", 0)
	if t.linkWith(netstate.Host, t.q.To.Addr()) != "" {
		f.Src = t.q.To.Addr()
	}
	leg, _, err := t.pass(netstate.Host, f)
	own := t.podEnd(host) != "" // by a macvlan, also what comes by the wire comes in there
	switch {
	case err != nil:
		return false, "", err
	case leg.Out == host && (own || f.Src.IsValid()):
		t.trace.Request = append(t.trace.Request, leg)
		return true, "", nil
	case own:
		return true, fmt.Sprintf("the node does not send what is for %s by %s: there it %s", t.q.From, host, leg.Ends), nil
	}
	return false, "", nil
}

// answer returns the pod's decision on the reply. A packet marked in the output hook is
// routed again, but it needs a route before that, too.
func (t *tracer) answer(fromNode bool) (Leg, fib.Decision, error) {
	f := t.flow(t.q.From, t.q.To.Addr(), "", t.q.Mark)
	m, marked := t.mark(fromNode)
	if !marked {
		return t.pass(netstate.Pod, f)
	}
	before, err := t.decide(netstate.Pod, f)
	if err != nil {
		return Leg{}, before, err
	}
	if before.Refused() {
		leg, d, err := t.pass(netstate.Pod, f)
		leg.Notes = append(leg.Notes, fmt.Sprintf("it would get the mark %#x, but only a packet that has a route is sent so far", m.Bits))
		return leg, d, err
	}
	f.Mark |= m.Bits
	leg, d, err := t.pass(netstate.Pod, f)
	from := ""
	if m.From != (netstate.MAC{}) {
		from = " from the node's " + m.From.String()
	}
	leg.Notes = append([]string{fmt.Sprintf("marked %#x (%s): its connection came in by %s%s", m.Bits, markTable(m), m.Dev, from)}, leg.Notes...)
	return leg, d, err
}

func markTable(m netstate.Mark) string {
	if m.Backend == netstate.Iptables {
		return "table " + netstate.MangleTable
	}
	return "table inet " + netstate.MarkTable
}

// mark returns the reply mark of a connection that came in by the link.
func (t *tracer) mark(fromNode bool) (netstate.Mark, bool) {
	for _, key := range []netstate.Mark{{}, {Backend: netstate.Iptables, Family: netstate.FamilyOf(t.q.To.Addr())}} {
		m, ok := netstate.Get(t.Snapshot, netstate.Pod, key)
		if ok && m.Damage == "" && m.Dev == t.q.In && (m.From == netstate.MAC{} || fromNode) {
			return m, true
		}
	}
	return netstate.Mark{}, false
}

// answerByNode follows the reply through the node, which it enters by in.
func (t *tracer) answerByNode(in string) error {
	leg, d, err := t.pass(netstate.Host, t.flow(t.q.From, t.q.To.Addr(), in, 0))
	if err != nil {
		return err
	}
	passes := t.checkSource(&leg, t.q.From)
	t.trace.Reply = append(t.trace.Reply, leg)
	if !passes || d.Refused() || leg.Out == "" && d.Kind == fib.Unicast {
		t.trace.Verdict = "the reply does not get through the node: " + leg.Ends
	}
	return nil
}
