// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
)

// outward follows a packet that the pod sends.
func (t *tracer) outward() error {
	leg, d, err := t.send()
	if err != nil {
		return err
	}
	src := leg.source
	t.trace.From = source(cmp.Or(src, t.q.From))
	t.trace.Request = []Leg{leg}
	if leg.Out == "" {
		t.trace.Symmetric = !d.Refused()
		t.trace.Verdict = "it stays in the pod"
		if d.Refused() {
			t.trace.Verdict = "it is not sent: " + d.Err.Error()
		}
		return nil
	}
	if in := t.nodeLink(leg.Out, d); in != "" {
		return t.byNode(src, leg.Out, in)
	}
	return t.byWire(src, leg.Out)
}

// send returns the pod's decision. The first lookup gives a packet its source; IPv4 then
// looks up again with that source (ip_route_connect), IPv6 keeps the first result
// (ip6_dst_lookup_tail).
func (t *tracer) send() (Leg, fib.Decision, error) {
	f := t.flow(t.q.From, t.q.To.Addr(), "", t.q.Mark)
	if f.Src.IsValid() || f.Dst.Is6() {
		leg, d, err := t.pass(netstate.Pod, f)
		if err == nil && !f.Src.IsValid() && leg.Out != "" {
			err = t.later(&leg, f)
		}
		return leg, d, err
	}
	first, err := t.decide(netstate.Pod, f)
	if err != nil {
		return Leg{}, first, err
	}
	if !first.Refused() {
		f.Src = first.Choices[0].Src
	}
	leg, d, err := t.pass(netstate.Pod, f)
	if !first.Refused() && first.Choices[0].Hop.Dev != leg.Out && leg.Out != "" {
		leg.Notes = append(leg.Notes, fmt.Sprintf("the source %s was found by a first lookup without one, which led to %s", f.Src, first.Choices[0].Hop.Dev))
	}
	return leg, d, err
}

// later warns of a connection whose later packets, which have a source, take another
// route than its first one.
func (t *tracer) later(l *Leg, f fib.Flow) error {
	f.Src = l.source
	d, err := t.decide(netstate.Pod, f)
	switch {
	case err != nil:
		return err
	case d.Refused():
		l.Notes = append(l.Notes, "once the connection has its source, no route is left to it: "+d.Err.Error())
	case d.Choices[0].Hop.Dev != l.Out:
		l.Notes = append(l.Notes, "when the kernel looks again, with the source, it goes by "+d.Choices[0].Hop.Dev)
	}
	return nil
}

// byNode follows a packet through the node, which it enters by in, and its reply.
func (t *tracer) byNode(src netip.Addr, out, in string) error {
	dst := t.q.To.Addr()
	leg, d, err := t.pass(netstate.Host, t.flow(src, dst, in, 0))
	if err != nil {
		return err
	}
	passes := t.checkSource(&leg, src)
	led := t.led()
	pods := led != "" && isRouted(d)
	service := led != "" && !pods && leg.Out != ""
	if service {
		leg.Notes = append([]string{led}, leg.Notes...)
	}
	t.trace.Request = append(t.trace.Request, leg)
	if !passes || d.Refused() || leg.Out == "" && d.Kind == fib.Unicast {
		t.trace.Verdict = "it does not get through the node: " + leg.Ends
		return nil
	}
	dev := t.linkWith(netstate.Pod, src)
	if parent := t.Parents[dev]; parent != "" && (led == "" && leg.Out != "" || pods && leg.Out == parent) {
		t.trace.Request[1].Notes = append(t.trace.Request[1].Notes, fmt.Sprintf("%s is reached on the wire, by %s of the pod: unless the node hides it, the reply does not come by the node", src, dev))
		return t.enters(src, out, dev)
	}
	reply := t.flow(dst, src, leg.Out, 0)
	if service {
		reply = t.flow(netip.Addr{}, src, "", 0) // from an endpoint that is not known here
	}
	back, _, err := t.pass(netstate.Host, reply)
	if err != nil {
		return err
	}
	t.trace.Reply = []Leg{back}
	if back.Out == "" {
		t.trace.Verdict = "the reply does not get through the node: " + back.Ends
		return nil
	}
	return t.comesBack(src, out, back)
}

// isRouted reports whether the node has a route to a part of all addresses: what our route leads to the
// node is then no Service, but a pod of another CNI, and the reply comes from there.
func isRouted(d fib.Decision) bool {
	if d.Kind != fib.Unicast || len(d.Steps) == 0 {
		return false
	}
	route := d.Steps[len(d.Steps)-1].Route
	return route != nil && route.Dst.Bits() > 0
}

// led says that one of our routes sends an address to the node, whether or not that
// route decides here; "" if none does.
func (t *tracer) led() string {
	to := t.q.To.Addr()
	for _, r := range t.Spaces[netstate.Pod].Routes {
		if r.Proto == netstate.ProtoCoordinator && r.Dst.Contains(to) && !r.Dst.IsSingleIP() && r.Dst.Bits() > 0 && len(r.Hops) > 0 && r.Hops[0].Via.IsValid() {
			return fmt.Sprintf("%s is in %s, which is led to the node (serviceCIDR, overlayPodCIDR, hijackCIDR): of a Service's address kube-proxy makes an endpoint's before the node routes; this is for the address as it is", to, r.Dst)
		}
	}
	return ""
}

// comesBack follows a reply from the node into the pod.
func (t *tracer) comesBack(src netip.Addr, out string, back Leg) error {
	dev, lost := t.podLink(back.Out, src)
	if lost != "" {
		t.trace.Verdict = "the reply is lost: " + lost
		return nil
	}
	return t.enters(src, out, dev)
}

// byWire follows a packet that leaves the pod by a NIC into its network.
func (t *tracer) byWire(src netip.Addr, out string) error {
	leg := &t.trace.Request[0]
	dst := t.q.To.Addr()
	parent := t.Parents[out]
	if parent != "" {
		leg.Notes = append(leg.Notes, "it goes onto the wire by "+parent+" of the node, past the node's own routing")
	} else {
		leg.Notes = append(leg.Notes, "it goes onto the wire")
	}
	if own := t.linkWith(netstate.Host, dst); own != "" && parent != "" {
		t.trace.Verdict = fmt.Sprintf("it does not arrive: %s is the node's own, on %s, and a link that sits on %s does not reach it", dst, own, parent)
		return nil
	}
	dev := t.linkWith(netstate.Pod, src)
	if dev == "" {
		t.trace.Verdict = "no reply comes back: the pod has no address " + source(src)
		return nil
	}
	return t.enters(src, out, dev)
}

// enters follows the reply into the pod by dev; the request left by out.
func (t *tracer) enters(src netip.Addr, out, dev string) error {
	leg, d, err := t.pass(netstate.Pod, t.flow(t.q.To.Addr(), src, dev, 0))
	if err != nil {
		return err
	}
	t.trace.Reply = append(t.trace.Reply, leg)
	switch {
	case d.Refused() || d.Kind != fib.Local:
		t.trace.Verdict = fmt.Sprintf("the reply comes in by %s and is not taken: %s", dev, leg.Ends)
	case dev == out:
		t.trace.Symmetric = true
		t.trace.Verdict = "the reply comes back by the same way: sent by " + out + ", answered by " + dev
	default:
		t.trace.Verdict = fmt.Sprintf("the ways part: sent by %s%s, answered by %s", out, decidedBy(t.trace.Request[0]), dev)
	}
	return nil
}

// decidedBy names the deciding rule of a namespace.
func decidedBy(l Leg) string {
	for _, s := range l.Steps {
		if s.Decides {
			return " (" + s.Rule + ")"
		}
	}
	return ""
}
