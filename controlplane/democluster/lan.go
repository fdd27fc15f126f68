// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// The nodes' LANs, and the gateways, which are the router's. The third one has no addresses
// of the infrastructure.
//
//	outside -- router == ens192, ens224, eth0 == node1, node2
var lans = []struct {
	nic     string
	gateway netip.Prefix
}{
	{"ens192", netip.MustParsePrefix("10.6.0.1/16")},
	{"ens224", netip.MustParsePrefix("10.7.0.1/16")},
	{"eth0", netip.Prefix{}},
}

// The network behind the router.
var (
	routerOutside = netip.MustParsePrefix("192.0.2.1/24")
	clientOutside = netip.MustParsePrefix("192.0.2.10/24")
	everywhere    = netip.MustParsePrefix("0.0.0.0/0")
)

// bridge returns the name of a LAN's switch on the router.
func bridge(nic string) string { return "lan-" + nic }

// port returns the name of a node's port on the router.
func port(node, nic string) string { return node + "-" + nic }

// lanOf returns the LAN of a link of the router's, "" for one outside of the LANs.
func lanOf(link string) string {
	_, nic, _ := strings.Cut(link, "-")
	return nic
}

// buildRouter makes the switches of the LANs, the router between them, and a client outside.
func (d *demo) buildRouter() (err error) {
	if d.router, err = testbed.NewNetns("router"); err != nil {
		return err
	}
	d.closers = append(d.closers, d.router)
	if d.outside, err = testbed.NewNetns("outside"); err != nil {
		return err
	}
	d.closers = append(d.closers, d.outside)
	if err := d.router.EnableForwarding(); err != nil {
		return err
	}
	for _, lan := range lans {
		if err := d.router.AddBridge(bridge(lan.nic)); err != nil {
			return err
		}
		if !lan.gateway.IsValid() {
			continue
		}
		if err := d.router.AddAddrs(bridge(lan.nic), lan.gateway); err != nil {
			return err
		}
	}
	return errors.Join(
		testbed.ConnectVeth(d.router, "outside", d.outside, "eth0"),
		d.router.AddAddrs("outside", routerOutside),
		d.outside.AddAddrs("eth0", clientOutside),
		d.outside.AddRoutes(testbed.Route{Dst: everywhere, Via: routerOutside.Addr(), Dev: "eth0"}),
	)
}

// connect gives a node its NICs, and its address in the first LAN.
func (d *demo) connect(n *node) error {
	for _, lan := range lans {
		if err := testbed.ConnectVeth(d.router, port(n.Name(), lan.nic), n.Netns, lan.nic); err != nil {
			return err
		}
		if err := d.router.SetMaster(port(n.Name(), lan.nic), bridge(lan.nic)); err != nil {
			return err
		}
	}
	first := lans[0]
	return errors.Join(
		n.EnableForwarding(),
		n.AddAddrs(first.nic, netip.PrefixFrom(n.addr, first.gateway.Bits())),
		n.AddRoutes(testbed.Route{Dst: everywhere, Via: first.gateway.Addr(), Dev: first.nic}),
		d.router.AddRoutes(testbed.Route{Dst: n.pods, Via: n.addr, Dev: bridge(first.nic)}),
	)
}

// relayAPI makes the API server, which listens on this machine's loopback, reachable by the
// same address on a node, until ctx ends.
func relayAPI(ctx context.Context, n *node, server string) error {
	at, err := url.Parse(server)
	if err != nil {
		return err
	}
	var l net.Listener
	err = n.Do(func() (err error) {
		l, err = net.Listen("tcp", at.Host)
		return err
	})
	if err != nil {
		return fmt.Errorf("relay of %s to %s: %w", server, n.Name(), err)
	}
	context.AfterFunc(ctx, func() { _ = l.Close() })
	go func() {
		for {
			from, err := l.Accept()
			if err != nil { // it is closed
				return
			}
			go join(from, at.Host)
		}
	}()
	return nil
}

// join copies a connection's data to a new one to an address, and back, until both sides
// ended.
func join(a net.Conn, address string) {
	defer a.Close()
	b, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return // so the client's connection ends, and it tries again
	}
	defer b.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyStream(b, a)
	}()
	copyStream(a, b)
	<-done
}

// copyStream copies all data, and then its end.
func copyStream(to, from net.Conn) {
	_, _ = io.Copy(to, from) // after an error the other direction ends, too
	_ = to.(*net.TCPConn).CloseWrite()
}
