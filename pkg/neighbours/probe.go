// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"net/netip"
	"slices"
	"time"

	"github.com/multihome/multihome/pkg/netstate"
)

// Probe holds how often to ask the neighbours on a link, and how long to wait.
type Probe struct {
	Tries    int           // the number of requests for each address
	Interval time.Duration // from one try to the next
	Timeout  time.Duration // the wait for an answer to the last try
}

// question is a request for target from a source address, which may be the unspecified one.
type question struct{ from, target netip.Addr }

// Conflict asks the neighbours for all addresses at once, from the unspecified address, so
// that no neighbour enters them into its cache. It returns the first claim of one of the
// addresses. Without a claim it returns after all tries. It ignores claims from the MACs in
// own: another NIC of the pod may answer for this one (arp_ignore 0).
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

// Silent asks for gateways, all at once, and returns those that don't answer, sorted. The
// map from holds for each gateway the source address of the request. It returns as soon as
// all have answered.
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

// askAll sends the questions and passes each claim to heard, until heard returns true or
// all tries are over.
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

// unspecified returns the unspecified address of a's family.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
