// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/testbed"
)

// Lab is a node in its LANs. The router joins them with each other and with the
// network of the outside client.
//
//	outside -- router -- LAN -- client
//	                      |
//	                     node -- pods
type Lab struct {
	Node    *testbed.Machine
	Router  *testbed.Netns
	Outside *testbed.Netns

	LANs []*LAN

	others  []*testbed.Netns // all but the node and pods
	closers []interface{ Close() error }
}

// The outside network, in the families of the LANs; the router has the first address, the client the second.
var outside = []struct{ router, client netip.Prefix }{
	{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.10/24")},
	{netip.MustParsePrefix("2001:db8:2::1/64"), netip.MustParsePrefix("2001:db8:2::10/64")},
}

// New builds a lab with a node that has one NIC in each LAN. The node's default
// routes go by the first.
func New(lans ...LAN) (*Lab, error) {
	l := &Lab{}
	if err := l.build(lans); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Lab) build(lans []LAN) (err error) {
	if l.Node, err = testbed.NewMachine("node"); err != nil {
		return err
	}
	l.closeLater(l.Node)
	if l.Router, err = l.newNetns("router"); err != nil {
		return err
	}
	if l.Outside, err = l.newNetns("outside"); err != nil {
		return err
	}
	for _, n := range []*testbed.Netns{l.Node.Netns, l.Router} {
		if err := n.EnableForwarding(); err != nil {
			return err
		}
	}
	if err := testbed.ConnectVeth(l.Router, "outside0", l.Outside, "eth0"); err != nil {
		return err
	}
	for _, o := range outside {
		used := func(lan LAN) bool {
			return slices.ContainsFunc(lan.Router, func(p netip.Prefix) bool { return p.Addr().Is4() == o.router.Addr().Is4() })
		}
		if !slices.ContainsFunc(lans, used) {
			continue
		}
		if err := l.Router.AddAddrs("outside0", o.router); err != nil {
			return err
		}
		if err := l.Outside.AddAddrs("eth0", o.client); err != nil {
			return err
		}
		if err := l.Outside.AddRoutes(defaultRoute(o.router.Addr(), "eth0")); err != nil {
			return err
		}
	}
	for _, lan := range lans {
		if err := l.addLAN(lan); err != nil {
			return err
		}
	}
	return nil
}

// Close lets go of every namespace of the lab.
func (l *Lab) Close() error {
	var errs []error
	for _, c := range l.closers {
		errs = append(errs, c.Close())
	}
	l.closers = nil
	return errors.Join(errs...)
}

func (l *Lab) closeLater(c interface{ Close() error }) {
	l.closers = append(l.closers, c)
}

func (l *Lab) newNetns(name string) (*testbed.Netns, error) {
	n, err := testbed.NewNetns(name)
	if err != nil {
		return nil, err
	}
	l.others = append(l.others, n)
	l.closeLater(n)
	return n, nil
}

func defaultRoute(via netip.Addr, dev string) testbed.Route {
	everywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if via.Is6() {
		everywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	return testbed.Route{Dst: everywhere, Via: via, Dev: dev}
}
