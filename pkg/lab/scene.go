// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/nettest"
)

// The ports of a scene.
const (
	appPort     = 8080 // of every server
	servicePort = 80
	nodePort    = 30080
)

// clusterIPs are the addresses of the Service in a scene.
var clusterIPs = prefixes("10.96.0.10/32", "fd00:10:96::10/128")

// Scene is a lab with two pods on one network: web, which serves, also by a
// Service with ClusterIPs and NodePorts, and app. The node, the client and the
// outside client serve as well.
type Scene struct {
	*Lab
	Network  *Network
	Web, App *Pod
}

// NIC is the name of the NIC that each pod of a scene has.
const NIC = "eth0"

// NewScene adds the pods to a lab, by a network in its first LAN.
func (l *Lab) NewScene(ctx context.Context, network *Network) (*Scene, error) {
	s := &Scene{Lab: l, Network: network}
	var err error
	if s.Web, err = l.NewPod("web"); err != nil {
		return nil, err
	}
	if s.App, err = l.NewPod("app"); err != nil {
		return nil, err
	}
	for _, pod := range []*Pod{s.Web, s.App} {
		if err := network.Add(ctx, pod, NIC); err != nil {
			return nil, err
		}
	}
	if err := s.setServices(); err != nil {
		return nil, err
	}
	for _, n := range []*nettest.Netns{s.Web.Netns, s.Node.Netns, s.LANs[0].Client, s.Outside} {
		server, err := n.Serve(appPort, nettest.Socket{})
		if err != nil {
			return nil, err
		}
		l.closeLater(server)
	}
	return s, nil
}

func (s *Scene) setServices() error {
	var services []nettest.Service
	for _, web := range s.Web.Addrs(NIC) {
		services = append(services, nettest.Service{
			ClusterIP: at(clusterIPs, web, servicePort),
			NodePort:  at(s.LANs[0].Node, web, nodePort),
			Endpoint:  netip.AddrPortFrom(web.Addr(), appPort),
		})
	}
	return s.Node.SetServices(services...)
}

// Del takes the NICs of both pods away.
func (s *Scene) Del(ctx context.Context) error {
	return errors.Join(s.Network.Del(ctx, s.Web, NIC), s.Network.Del(ctx, s.App, NIC))
}

// Checks are the sentences that the scene must hold to, in each address family
// of its pods.
func (s *Scene) Checks(network string) []Check {
	var checks []Check
	for _, web := range s.Web.Addrs(NIC) {
		checks = append(checks, s.checks(network, web)...)
	}
	return checks
}

func (s *Scene) checks(network string, web netip.Prefix) []Check {
	lan := s.LANs[0]
	client, outsider := lan.Client, s.Outside
	var outsiders []netip.Prefix
	for _, o := range outside {
		outsiders = append(outsiders, o.client)
	}
	addr := func(in []netip.Prefix) netip.Addr { return inFamily(in, web.Addr()).Addr() }
	to := func(in []netip.Prefix, port uint16) netip.AddrPort { return at(in, web, port) }
	webs, node, app := s.Web.Addrs(NIC), lan.Node, s.App.Addrs(NIC)

	checks := []Check{
		{
			Name: "node to pod", Coordinator: true,
			From: s.Node.Netns, To: to(webs, appPort), Answers: s.Web.Netns, Sees: addr(node),
			RequestBy: s.Web.HostEnd(NIC), ReplyBy: "veth0",
		}, {
			Name: "pod to node", Coordinator: true,
			From: s.App.Netns, To: to(node, appPort), Answers: s.Node.Netns, Sees: addr(app),
			RequestBy: "veth0", ReplyBy: s.App.HostEnd(NIC),
		}, {
			Name: "pod to ClusterIP", Coordinator: true,
			From: s.App.Netns, To: to(clusterIPs, servicePort), Answers: s.Web.Netns, Sees: addr(node),
			RequestBy: "veth0", ReplyBy: "veth0",
		}, {
			Name: "pod to ClusterIP of itself", Coordinator: true,
			From: s.Web.Netns, To: to(clusterIPs, servicePort), Answers: s.Web.Netns, Sees: addr(node),
			RequestBy: "veth0", ReplyBy: "veth0",
		}, {
			Name: "LAN client to NodePort", Coordinator: true,
			From: client, To: to(node, nodePort), Answers: s.Web.Netns, Sees: addr(lan.Host),
			RequestBy: "eth0", ReplyBy: "veth0",
		}, {
			Name: "outside client to NodePort", Coordinator: true,
			From: outsider, To: to(node, nodePort), Answers: s.Web.Netns, Sees: addr(outsiders),
			RequestBy: "eth0", ReplyBy: "veth0",
		}, {
			Name: "LAN client to pod",
			From: client, To: to(webs, appPort), Answers: s.Web.Netns, Sees: addr(lan.Host),
			RequestBy: "eth0", ReplyBy: "eth0",
		}, {
			Name: "pod to LAN",
			From: s.App.Netns, To: to(lan.Host, appPort), Answers: client, Sees: addr(app),
			RequestBy: "eth0", ReplyBy: "eth0",
		}, {
			Name: "pod to outside",
			From: s.App.Netns, To: to(outsiders, appPort), Answers: outsider, Sees: addr(app),
			RequestBy: "eth0", ReplyBy: "eth0",
		}, {
			Name: "pod to pod",
			From: s.App.Netns, To: to(webs, appPort), Answers: s.Web.Netns, Sees: addr(app),
			RequestBy: "eth0", ReplyBy: "eth0",
		},
	}
	for i := range checks {
		checks[i].Name = fmt.Sprintf("%s, %s", checks[i].Name, family(web.Addr()))
		checks[i].Network = network
	}
	return checks
}

// at is the address in the family of another, and a port.
func at(in []netip.Prefix, of netip.Prefix, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(inFamily(in, of.Addr()).Addr(), port)
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
