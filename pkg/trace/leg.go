// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/multihome/multihome/pkg/fib"
	"github.com/multihome/multihome/pkg/netstate"
)

// pass adds the passage of a packet through a namespace.
func (t *tracer) pass(ns netstate.NS, f fib.Flow) (Leg, fib.Decision, error) {
	d, err := t.decide(ns, f)
	l := Leg{Where: where(ns), In: f.In, Steps: steps(d)}
	if f.Mark != 0 {
		l.Mark = fmt.Sprintf("%#x", f.Mark)
	}
	if err != nil {
		return l, d, err
	}
	switch {
	case d.Refused() && f.In == "":
		l.Ends = "not sent: " + d.Err.Error() + because(d.Why)
	case d.Refused():
		l.Ends = "dropped" + because(d.Why)
		if d.Why == "" {
			l.Ends += ": " + d.Err.Error()
		}
	case d.Kind == fib.Local || d.Kind == fib.Anycast:
		l.Ends = "delivered to the " + where(ns)
		l.source = d.Choices[0].Src
	case d.Kind != fib.Unicast:
		l.Ends = "delivered as " + d.Kind.String()
	default:
		t.leave(&l, ns, d)
	}
	if f.In != "" && !d.Refused() {
		l.Notes = append(l.Notes, t.reverse(ns, d)...)
	}
	return l, d, nil
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// leave says by which link and to which next hop a packet leaves.
func (t *tracer) leave(l *Leg, ns netstate.NS, d fib.Decision) {
	c := d.Choices[0]
	l.Out, l.source = c.Hop.Dev, c.Src
	next := c.Hop.Via
	if !next.IsValid() {
		next = d.Flow.Dst
	}
	l.Ends = "leaves by " + l.Out
	if d.Flow.In == "" {
		l.Ends += " from " + source(c.Src)
	}
	if c.Hop.Via.IsValid() {
		l.Ends += " via " + next.String()
	} else {
		l.Ends += ", where " + next.String() + " is on the link"
	}
	if c.Route == nil {
		l.Notes = append(l.Notes, "no route leads there: it is taken to be on the link")
	}
	for _, other := range d.Choices[1:] {
		l.Notes = append(l.Notes, "or as well by "+other.Hop.Dev+": the kernel chooses among equal ways by a hash of the addresses")
	}
	if d.Flow.Dst.Is6() && d.Flow.In != "" && !t.Spaces[ns].Forwarding6 {
		l.Ends, l.Out = "dropped: the "+where(ns)+" doesn't forward IPv6 (net.ipv6.conf.all.forwarding 0)", ""
		return
	}
	l.Notes = append(l.Notes, t.neighbour(ns, l.Out, next))
}

func source(a netip.Addr) string {
	if !a.IsValid() {
		return "no address"
	}
	return a.String()
}

// steps returns the rules with the result of each.
func steps(d fib.Decision) []Step {
	var out []Step
	for _, s := range d.Steps {
		// Every namespace has the kernel's own rules.
		step := Step{Rule: strings.TrimSuffix(s.Rule.String(), " proto kernel"), Matches: s.Mismatch == "", Decides: s.Mismatch == "" && s.PassedOver == ""}
		switch {
		case s.Mismatch != "":
			step.Result = s.Mismatch
		case s.Route == nil && s.PassedOver == "":
			step.Result = "refuses it"
		case s.Route == nil:
			step.Result = s.PassedOver
		case s.PassedOver != "":
			step.Result = s.Route.String() + ": " + s.PassedOver
		default:
			step.Result = s.Route.String()
		}
		out = append(out, step)
	}
	return out
}

// neighbour returns what the neighbour table says of the next hop's MAC.
func (t *tracer) neighbour(ns netstate.NS, dev string, next netip.Addr) string {
	n, ok := netstate.Get(t.Snapshot, ns, netstate.Neigh{Dev: dev, Dst: next})
	if !ok {
		protocol := "ARP"
		if next.Is6() {
			protocol = "NDP"
		}
		if t.Spaces[ns].Failed[fib.NextHop{Dev: dev, Via: next}] {
			return fmt.Sprintf("neighbour %s: it did not answer when it was last asked for its MAC", next)
		}
		return fmt.Sprintf("neighbour %s: not known yet, %s will ask for its MAC", next, protocol)
	}
	text := fmt.Sprintf("neighbour %s: %s", next, n.MAC)
	if owners := t.owners(n.MAC); owners != "" {
		text += ", " + owners
	}
	if n.Permanent {
		text += ", permanent"
	}
	return text
}

// owners names the links that have a MAC.
func (t *tracer) owners(mac netstate.MAC) string {
	var out []string
	for _, ns := range []netstate.NS{netstate.Pod, netstate.Host} {
		for _, l := range netstate.All[netstate.Link](t.Snapshot, ns) {
			if l.MAC == mac && l.Name != "lo" {
				out = append(out, l.Name+" of the "+where(ns))
			}
		}
	}
	return strings.Join(out, " and ")
}

// reverse returns the result of the reverse path check of an incoming packet.
func (t *tracer) reverse(ns netstate.NS, d fib.Decision) []string {
	if d.Flow.Dst.Is6() {
		return nil
	}
	space := t.Spaces[ns]
	in, _ := space.Link(d.Flow.In)
	filter := max(in.Conf.RPFilter, space.All.RPFilter)
	if filter == 0 || d.Reverse == nil || len(d.Reverse.Choices) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("rp_filter %d: the way back to %s is by %s", filter, d.Flow.Src, d.Reverse.Choices[0].Hop.Dev)}
}
