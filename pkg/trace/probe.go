// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/testbed"
)

// Probe is the result of sending real packets along the traced path.
type Probe struct {
	Sent string `json:"sent"`
	// Answered is set if the sender got its answer; otherwise Error is its error.
	Answered bool   `json:"answered"`
	Error    string `json:"error,omitempty"`
	// Seen are the links that carried packets of the conversation, one entry for each
	// link and direction, in the order of time.
	Seen []Sighting `json:"seen,omitempty"`
	// Differs says where the packets left the traced path; "" if nowhere.
	Differs string `json:"differs,omitempty"`
}

// Sighting is a packet on a link.
type Sighting struct {
	Where  string `json:"where"` // pod or node
	Link   string `json:"link"`
	Out    bool   `json:"out"` // from the namespace onto the link
	Reply  bool   `json:"reply"`
	Packet string `json:"packet"`
}

// Send sends the traced packet: it opens and closes a TCP connection if there is a port,
// else it pings. It sends from the pod, or from the node if In is set, and captures on
// every link of the pod and on the node's links connected with it. pod is the path of
// the pod's namespace; the node's is that of the calling thread.
func (t *Trace) Send(pod string, q Query) error {
	spaces := map[netstate.NS]*testbed.Netns{}
	for ns, path := range map[netstate.NS]string{netstate.Pod: pod, netstate.Host: "/proc/thread-self/ns/net"} {
		n, err := testbed.OpenNetns(where(ns), path)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		defer func() { _ = n.Close() }()
		spaces[ns] = n
	}
	var captures []watchedLink
	defer func() {
		for _, c := range captures {
			_ = c.Close()
		}
	}()
	for _, w := range append([]watchedLink{{where: netstate.Pod}}, t.watch...) {
		c, err := spaces[w.where].Capture(w.link)
		if err != nil {
			return fmt.Errorf("probe: %w", err)
		}
		captures = append(captures, watchedLink{w.where, w.link, c})
	}
	if err := awaitStamps(spaces[netstate.Pod], captures[0]); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	p, match, err := t.send(spaces, q)
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	if err := p.look(captures, match); err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	p.compare(t)
	t.Probe = p
	return nil
}

// awaitStamps pings the pod's loopback until frames carry timestamps: the kernel starts
// to take them a moment after the request (net_enable_timestamp). Without a loopback,
// sightings may be out of order.
func awaitStamps(pod *testbed.Netns, c watchedLink) error {
	for range 100 {
		if err := pod.Ping(netip.AddrFrom4([4]byte{127, 0, 0, 1}), testbed.Socket{}); err != nil {
			return nil //nolint:nilerr // without a loopback there is nothing to wait for
		}
		frames, err := c.Frames()
		if err != nil || slices.ContainsFunc(frames, func(f testbed.Frame) bool { return !f.Time.IsZero() }) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// watchedLink is a link and its capture; with link "", all links of a namespace.
type watchedLink struct {
	where netstate.NS
	link  string
	*testbed.Capture
}

// matcher reports whether a frame belongs to the conversation, and whether it is a reply.
type matcher func(testbed.Frame) (match, reply bool)

// send sends the packets and waits for the answer.
func (t *Trace) send(spaces map[netstate.NS]*testbed.Netns, q Query) (*Probe, matcher, error) {
	from, to, socket := spaces[netstate.Pod], q.To, testbed.Socket{Source: q.From, Mark: q.Mark}
	if q.In != "" {
		if !t.fromNode {
			return nil, nil, fmt.Errorf("with --in, only the node can send from here, and %s is not its own", q.To.Addr())
		}
		pod, err := netip.ParseAddr(t.From)
		if err != nil {
			return nil, nil, err
		}
		from, to, socket = spaces[netstate.Host], netip.AddrPortFrom(pod, q.To.Port()), testbed.Socket{Source: q.To.Addr()}
	}
	var err error
	var match matcher
	p := &Probe{}
	if to.Port() != 0 {
		socket.Port = uint16(20000 + rand.IntN(10000)) // below the ports that the kernel assigns
		p.Sent, match = fmt.Sprintf("TCP connection to %s from the %s", to, from.Name()), tcpFrom(socket.Port)
		err = from.Connect(to, socket)
	} else {
		p.Sent, match = fmt.Sprintf("ping of %s from the %s", to.Addr(), from.Name()), pingOf(to.Addr())
		err = from.Ping(to.Addr(), socket)
	}
	if p.Answered = err == nil; err != nil {
		p.Error = err.Error()
	}
	return p, match, nil
}

// tcpFrom matches by the client's port, which NAT keeps if it is free.
func tcpFrom(port uint16) matcher {
	return func(f testbed.Frame) (bool, bool) {
		reply := f.Dst.Port() == port
		return f.Protocol == tcp && (reply || f.Src.Port() == port), reply
	}
}

// pingOf matches echo requests to an address and replies from it.
func pingOf(a netip.Addr) matcher {
	const request4, reply4, request6, reply6 = 8, 0, 128, 129
	return func(f testbed.Frame) (bool, bool) {
		switch {
		case f.Protocol == icmp && f.ICMPType == request4 || f.Protocol == icmpv6 && f.ICMPType == request6:
			return f.Dst.Addr() == a, false
		case f.Protocol == icmp && f.ICMPType == reply4 || f.Protocol == icmpv6 && f.ICMPType == reply6:
			return f.Src.Addr() == a, true
		}
		return false, false
	}
}

// look reads the captures.
func (p *Probe) look(captures []watchedLink, match matcher) error {
	type seen struct {
		Sighting
		frame testbed.Frame
	}
	var all []seen
	for _, c := range captures {
		frames, err := c.Frames()
		if err != nil {
			return err
		}
		for _, f := range frames {
			if ok, reply := match(f); ok && f.Link != "lo" {
				packet := f.Src.Addr().String() + " > " + f.Dst.Addr().String()
				all = append(all, seen{Sighting{where(c.where), f.Link, f.Outgoing, reply, packet}, f})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b seen) int {
		return cmp.Or(a.frame.Time.Compare(b.frame.Time), cmp.Compare(a.rank(), b.rank()))
	})
	for _, s := range all {
		if !slices.ContainsFunc(p.Seen, func(have Sighting) bool {
			have.Packet = s.Packet
			return have == s.Sighting
		}) {
			p.Seen = append(p.Seen, s.Sighting)
		}
	}
	return nil
}

// rank orders sightings of the same time: a clock may be coarse, and a frame that a
// macvlan hands up has the time at which the parent received it.
func (s Sighting) rank() int {
	n := 0
	switch {
	case s.Out && s.Where == "node":
		n = 1
	case !s.Out && s.Where == "node":
		n = 2
	case !s.Out:
		n = 3
	}
	if s.Reply {
		n += 4
	}
	return n
}

// compare says where packets left the traced path.
func (p *Probe) compare(t *Trace) {
	var errs []error
	differs := func(what, traced string, reply, out bool) {
		for _, s := range p.Seen {
			if s.Where == "pod" && s.Reply == reply && s.Out == out {
				if s.Link != traced {
					errs = append(errs, fmt.Errorf("%s by %s, not by %s", what, s.Link, traced))
				}
				return
			}
		}
	}
	last := func(legs []Leg) Leg { return legs[len(legs)-1] }
	switch {
	case t.In != "" && len(t.Reply) > 0:
		differs("the request came in", t.In, false, false)
		differs("the reply left", t.Reply[0].Out, true, true)
	case t.In == "":
		differs("the request left", t.Request[0].Out, false, true)
		if len(t.Reply) > 0 && last(t.Reply).Where == "pod" {
			differs("the reply came in", last(t.Reply).In, true, false)
		}
	}
	if t.Symmetric != p.Answered && len(p.Seen) > 0 && t.Symmetric {
		errs = append(errs, errors.New("no answer came"))
	}
	if err := errors.Join(errs...); err != nil {
		p.Differs = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
}

// write writes the probe for people.
func (p *Probe) write(b *strings.Builder, s report.Style) {
	answer := s.Good("answered")
	if !p.Answered {
		answer = s.Bad("not answered: " + p.Error)
	}
	fmt.Fprintf(b, "\n%s, %s\n", s.Head("probe: "+p.Sent), answer)
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, seen := range p.Seen {
		what, direction := "request", "in by"
		if seen.Reply {
			what = "reply"
		}
		if seen.Out {
			direction = "out by"
		}
		_, _ = fmt.Fprintf(tw, "  %s\t%s\t%s %s\t%s\n", what, seen.Where, direction, seen.Link, seen.Packet)
	}
	_ = tw.Flush() // a Builder doesn't fail
	if len(p.Seen) == 0 {
		b.WriteString("  seen on no link but lo\n")
	}
	if p.Differs != "" {
		b.WriteString(s.Warn("not as traced: "+p.Differs) + "\n")
	}
	b.WriteString("\n")
}
