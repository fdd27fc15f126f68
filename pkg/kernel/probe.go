// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
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

// Conflict asks the neighbours on a link whether one of them has an address that
// the link has: all addresses at once, and without putting any of them into
// somebody's cache. The error names who answered first. Without one, the wait
// is that of all tries. Answers from a MAC of own are none: another NIC of the
// pod may answer for this one (arp_ignore 0).
func (s *Space) Conflict(dev string, addrs []netip.Addr, own []netstate.MAC, p Probe) error {
	var questions []question
	for _, a := range addrs {
		questions = append(questions, question{unspecified(a), a})
	}
	var found claim
	conflict, err := s.ask(dev, questions, p, func(c claim) bool {
		found = c
		return slices.Contains(addrs, c.addr) && !slices.Contains(own, c.mac)
	})
	if conflict {
		return fmt.Errorf("%s: addr %s dev %s: %s has it already", s.ns, found.addr, dev, found.mac)
	}
	return err
}

// Gateways asks for the gateways of a link, all at once, from those addresses of
// the link that from says, and returns as soon as all have answered. The error
// names those that did not.
func (s *Space) Gateways(dev string, from map[netip.Addr]netip.Addr, p Probe) error {
	var questions []question
	var silent []netip.Addr
	for gateway, source := range from {
		questions = append(questions, question{source, gateway})
		silent = append(silent, gateway)
	}
	all, err := s.ask(dev, questions, p, func(c claim) bool {
		silent = slices.DeleteFunc(silent, func(a netip.Addr) bool { return a == c.addr && !c.probing })
		return len(silent) == 0
	})
	if err != nil || all {
		return err
	}
	slices.SortFunc(silent, netip.Addr.Compare)
	var missing []string
	for _, gateway := range silent {
		missing = append(missing, fmt.Sprintf("%s: gateway %s dev %s: no answer", s.ns, gateway, dev))
	}
	return errors.New(strings.Join(missing, "; "))
}

// ask asks the questions until enough was heard, or in vain.
func (s *Space) ask(dev string, questions []question, p Probe, heard func(claim) (enough bool)) (enough bool, err error) {
	if len(questions) == 0 {
		return false, nil
	}
	w, err := s.openWire(dev)
	if err != nil {
		return false, fmt.Errorf("%s: probe link %s: %w", s.ns, dev, err)
	}
	defer w.close()
	for try := 1; try <= p.Tries && !enough && err == nil; try++ {
		for _, q := range questions {
			if err := w.ask(q.from, q.target); err != nil {
				return false, fmt.Errorf("%s: probe %s dev %s: %w", s.ns, q.target, dev, err)
			}
		}
		wait := p.Interval
		if try == p.Tries {
			wait = p.Timeout
		}
		enough, err = w.listen(time.Now().Add(wait), heard)
	}
	if err != nil {
		err = fmt.Errorf("%s: probe link %s: %w", s.ns, dev, err)
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
