// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/neighbours"
	"github.com/multihome/multihome/pkg/netstate"
)

// InUse is the error for an address that a neighbour on a link has.
type InUse struct {
	Namespace netstate.NS
	Dev       string
	Addr      netip.Addr
	MAC       netstate.MAC // the first that answered
}

func (e InUse) Error() string {
	return fmt.Sprintf("%s: addr %s dev %s: %s has it already", e.Namespace, e.Addr, e.Dev, e.MAC)
}

// ErrNoARP says that a link resolves no addresses, as an ipvlan in mode l3 or a link of InfiniBand, so
// that nobody can be asked there.
var ErrNoARP = errors.New("it is no Ethernet link with ARP")

// Conflict asks the neighbours on a link whether one of them has one of the addresses. If
// so, it returns [InUse]. It ignores answers from the MACs in own.
func (s *Namespace) Conflict(dev string, addrs []netip.Addr, own []netstate.MAC, p neighbours.Probe) error {
	if len(addrs) == 0 {
		return nil
	}
	return s.onWire(dev, func(w *neighbours.Wire) error {
		c, conflict, err := w.Conflict(addrs, own, p)
		if conflict {
			return InUse{s.ns, dev, c.Addr, c.MAC}
		}
		return s.probing(dev, err)
	})
}

// Gateways asks for the gateways of a link, all at once, and returns as soon as all have
// answered. The map from holds for each gateway the source address of the request. The
// error names the gateways that didn't answer.
func (s *Namespace) Gateways(dev string, from map[netip.Addr]netip.Addr, p neighbours.Probe) error {
	if len(from) == 0 {
		return nil
	}
	return s.onWire(dev, func(w *neighbours.Wire) error {
		silent, err := w.Silent(from, p)
		if err != nil || len(silent) == 0 {
			return s.probing(dev, err)
		}
		var missing []string
		for _, gateway := range silent {
			missing = append(missing, fmt.Sprintf("%s: gateway %s dev %s: no answer", s.ns, gateway, dev))
		}
		return errors.New(strings.Join(missing, "; "))
	})
}

// onWire opens a packet socket on an Ethernet link with ARP, runs f with it, and closes
// it.
func (s *Namespace) onWire(dev string, f func(w *neighbours.Wire) error) error {
	l, ok, err := s.fetchLink(dev)
	switch {
	case err != nil:
		return s.probing(dev, err)
	case !ok:
		return s.probing(dev, unix.ENODEV)
	case !l.ARP:
		return s.probing(dev, ErrNoARP)
	}
	var w *neighbours.Wire
	err = s.Enter(func() (err error) {
		w, err = neighbours.Open(l.Index, l.MAC)
		return err
	})
	if err != nil {
		return s.probing(dev, err)
	}
	defer w.Close()
	return f(w)
}

func (s *Namespace) probing(dev string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: probe link %s: %w", s.ns, dev, err)
}
