// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"net/netip"
	"slices"
	"time"

	"github.com/multihome/multihome/pkg/netstate"
)

// Probe says how the neighbours on a link are asked.
type Probe struct {
	Tries    int           // so often
	Interval time.Duration // from one try to the next
	Timeout  time.Duration // for an answer to the last
}

// question is who has target; the answer goes to from, or to all if that is the
// unspecified address.
type question struct{ from, target netip.Addr }

// Conflict asks whether a neighbour has one of these addresses: all at once, and
// without putting any of them into somebody's cache. It returns who answered first.
// Without an answer, the wait is that of all tries. Answers from a MAC of own are none:
// another NIC of the pod may answer for this one (arp_ignore 0).
func (w *Wire) Conflict(addrs []netip.Addr, own []netstate.MAC, p Probe) (found Claim, conflict bool, err error) {
	var questions []question
	for _, a := range addrs {
		questions = append(questions, question{unspecified(a), a})
	}
	conflict, err = w.askAll(questions, p, func(c Claim) bool {
		found = c
		return slices.Contains(addrs, c.Addr) && !slices.Contains(own, c.MAC)
	})
	return found, conflict, err
}

// Silent asks for gateways, all at once, each from the address that from says, and
// returns as soon as all have answered. It returns those that did not.
func (w *Wire) Silent(from map[netip.Addr]netip.Addr, p Probe) ([]netip.Addr, error) {
	var questions []question
	var silent []netip.Addr
	for gateway, source := range from {
		questions = append(questions, question{source, gateway})
		silent = append(silent, gateway)
	}
	_, err := w.askAll(questions, p, func(c Claim) bool {
		silent = slices.DeleteFunc(silent, func(a netip.Addr) bool { return a == c.Addr && !c.probing })
		return len(silent) == 0
	})
	slices.SortFunc(silent, netip.Addr.Compare)
	return silent, err
}

// askAll asks the questions until enough was heard, or in vain.
func (w *Wire) askAll(questions []question, p Probe, heard func(Claim) (enough bool)) (enough bool, err error) {
	for try := 1; try <= p.Tries && !enough && err == nil; try++ {
		for _, q := range questions {
			if err := w.ask(q.from, q.target); err != nil {
				return false, err
			}
		}
		wait := p.Interval
		if try == p.Tries {
			wait = p.Timeout
		}
		enough, err = w.listen(time.Now().Add(wait), heard)
	}
	return enough, err
}

// unspecified is the address that stands for none in a's family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
