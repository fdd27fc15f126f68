// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/multihome/multihome/pkg/testbed"
)

// The ports of a scene.
const (
	appPort     = 8080 // of every server
	servicePort = 80
	nodePort    = 30080
)

// clusterIPs are the addresses of the Service in a scene.
var clusterIPs = prefixes("10.96.0.10/32", "fd00:10:96::10/128")

// Scene is a lab with two pods on the same networks: web, the endpoint of a Service with
// ClusterIPs and NodePorts, and app. The node and the clients serve as well.
type Scene struct {
	*Lab
	Network     *Network     // of the first NIC
	Attachments []Attachment // of each pod, in the order of ADD
	Web, App    *Pod
}

// Attachment is a NIC of each pod of a scene.
type Attachment struct {
	IfName  string
	Network *Network
}

// NIC is the name of the first NIC of each pod of a scene.
const NIC = "eth0"

// NewScene adds the pods to a lab, with a NIC in each network: eth0, net1, net2.
func (l *Lab) NewScene(ctx context.Context, networks ...*Network) (*Scene, error) {
	s, err := l.newSilentScene(ctx, networks)
	if err != nil {
		return nil, err
	}
	return s, s.serve()
}

// newSilentScene makes a scene without servers.
func (l *Lab) newSilentScene(ctx context.Context, networks []*Network) (*Scene, error) {
	s := &Scene{Lab: l, Network: networks[0]}
	for i, network := range networks {
		ifname := NIC
		if i > 0 {
			ifname = fmt.Sprintf("net%d", i)
		}
		s.Attachments = append(s.Attachments, Attachment{ifname, network})
	}
	var err error
	if s.Web, err = l.NewPod("web"); err != nil {
		return nil, err
	}
	if s.App, err = l.NewPod("app"); err != nil {
		return nil, err
	}
	for _, pod := range s.Pods() {
		for _, a := range s.Attachments {
			if err := a.Network.Add(ctx, pod, a.IfName); err != nil {
				return nil, err
			}
		}
	}
	return s, s.setServices()
}

// Pods returns web and app.
func (s *Scene) Pods() []*Pod { return []*Pod{s.Web, s.App} }

// serve starts all servers.
func (s *Scene) serve() error {
	at := []*testbed.Netns{s.Web.Netns, s.Node.Netns, s.Outside}
	for _, lan := range s.LANs {
		at = append(at, lan.Client)
	}
	for _, n := range at {
		server, err := n.Serve(appPort, testbed.Socket{})
		if err != nil {
			return err
		}
		s.closeLater(server)
	}
	return nil
}

// reachesServices reports whether pods reach Services: not with route alone.
func (s *Scene) reachesServices() bool { return !s.Network.runs("route") }

func (s *Scene) setServices() error {
	var services []testbed.Service
	for _, web := range s.Web.Addrs(NIC) {
		services = append(services, testbed.Service{
			ClusterIP: at(clusterIPs, web, servicePort),
			NodePort:  at(s.nodeAddrs(), web, nodePort),
			Endpoint:  netip.AddrPortFrom(web.Addr(), appPort),
		})
	}
	// With the node's files, for iptables has a lock there, where that is what makes them.
	return s.Node.Run(func() error { return s.Node.SetServices(services...) })
}

// Services returns the ClusterIPs and NodePorts of web, for each address family.
func (s *Scene) Services() []netip.AddrPort {
	if !s.reachesServices() {
		return nil
	}
	var at []netip.AddrPort
	for _, a := range clusterIPs {
		at = append(at, netip.AddrPortFrom(a.Addr(), servicePort))
	}
	for _, a := range s.nodeAddrs() {
		at = append(at, netip.AddrPortFrom(a.Addr(), nodePort))
	}
	return at
}

// Del removes the NICs of both pods, the last one of each first. It may be repeated.
func (s *Scene) Del(ctx context.Context) error {
	var errs []error
	for _, pod := range s.Pods() {
		for _, a := range slices.Backward(s.Attachments) {
			errs = append(errs, a.Network.Del(ctx, pod, a.IfName))
		}
	}
	return errors.Join(errs...)
}

// Checks returns the checks of the scene, for each address family of its pods.
func (s *Scene) Checks(network string) []Check {
	var checks []Check
	for _, web := range s.Web.Addrs(NIC) {
		checks = append(checks, s.checks(web)...)
	}
	for _, further := range s.Attachments[1:] {
		for _, web := range s.Web.Addrs(further.IfName) {
			checks = append(checks, s.furtherChecks(further.IfName, web)...)
		}
	}
	for i := range checks {
		checks[i].Network = network
	}
	return checks
}

// checks returns the checks of the first NIC.
func (s *Scene) checks(web netip.Prefix) []Check {
	lan := s.LANs[0]
	client, outsider := lan.Client, s.Outside
	var outsiders []netip.Prefix
	for _, o := range outside {
		outsiders = append(outsiders, o.client)
	}
	addr := func(in []netip.Prefix) netip.Addr { return inFamily(in, web.Addr()).Addr() }
	to := func(in []netip.Prefix, port uint16) netip.AddrPort { return at(in, web, port) }
	webs, node, app := s.Web.Addrs(NIC), s.nodeAddrs(), s.App.Addrs(NIC)
	way, nodeSeen := s.Web.way(), s.nodeSeen(web)
	underlay, inLAN := s.nicIn(lan) == NIC, s.nicIn(lan)

	checks := []Check{
		{
			Name: "node to pod", Coordinator: underlay,
			From: s.Node.Netns, To: to(webs, appPort), Answers: s.Web.Netns, Sees: nodeSeen,
			RequestBy: s.Web.HostEnd(NIC), ReplyBy: way,
		}, {
			Name: "pod to node", Coordinator: underlay,
			From: s.App.Netns, To: to(node, appPort), Answers: s.Node.Netns, Sees: addr(app),
			RequestBy: way, ReplyBy: s.App.HostEnd(NIC),
		}, {
			Name: "LAN client to pod",
			From: client, To: to(webs, appPort), Answers: s.Web.Netns, Sees: addr(lan.Host),
			RequestBy: "eth0", ReplyBy: NIC,
		}, {
			Name: "pod to LAN",
			From: s.App.Netns, To: to(lan.Host, appPort), Answers: client, Sees: addr(s.App.Addrs(inLAN)),
			RequestBy: inLAN, ReplyBy: "eth0",
		}, {
			Name: "pod to outside",
			From: s.App.Netns, To: to(outsiders, appPort), Answers: outsider, Sees: addr(app),
			RequestBy: NIC, ReplyBy: "eth0",
		}, {
			Name: "pod to pod",
			From: s.App.Netns, To: to(webs, appPort), Answers: s.Web.Netns, Sees: addr(app),
			RequestBy: NIC, ReplyBy: NIC,
		},
	}
	if s.reachesServices() {
		checks = slices.Insert(checks, 2, []Check{
			{
				Name: "pod to ClusterIP", Coordinator: underlay,
				From: s.App.Netns, To: to(clusterIPs, servicePort), Answers: s.Web.Netns, Sees: nodeSeen,
				RequestBy: way, ReplyBy: way,
			}, {
				Name: "pod to ClusterIP of itself", Coordinator: underlay,
				From: s.Web.Netns, To: to(clusterIPs, servicePort), Answers: s.Web.Netns, Sees: nodeSeen,
				RequestBy: way, ReplyBy: way,
			}, {
				Name: "LAN client to NodePort", Coordinator: underlay,
				From: client, To: to(node, nodePort), Answers: s.Web.Netns, Sees: addr(lan.Host),
				RequestBy: "eth0", ReplyBy: way,
			}, {
				Name: "outside client to NodePort", Coordinator: underlay,
				From: outsider, To: to(node, nodePort), Answers: s.Web.Netns, Sees: addr(outsiders),
				RequestBy: "eth0", ReplyBy: way,
			},
		}...)
	}
	for i := range checks {
		checks[i].Name = fmt.Sprintf("%s, %s", checks[i].Name, family(web.Addr()))
	}
	return checks
}

// furtherChecks returns the checks of an address of web's further NIC: traffic from and to
// it uses that NIC, except with the node and Services.
func (s *Scene) furtherChecks(ifname string, web netip.Prefix) []Check {
	way, node := s.Web.way(), inFamily(s.nodeAddrs(), web.Addr()).Addr()
	to := netip.AddrPortFrom(web.Addr(), appPort)
	checks := []Check{
		{
			Name: "node to " + ifname, Coordinator: true,
			From: s.Node.Netns, To: to, Answers: s.Web.Netns, Sees: s.nodeBeside(web),
			RequestBy: s.Web.HostEnd(NIC), ReplyBy: way,
		}, {
			Name: ifname + " to node", Coordinator: true,
			From: s.Web.Netns, Source: web.Addr(), To: netip.AddrPortFrom(node, appPort), Answers: s.Node.Netns, Sees: web.Addr(),
			RequestBy: way, ReplyBy: s.Web.HostEnd(NIC),
		}, {
			Name: ifname + " to ClusterIP", Coordinator: true,
			From: s.Web.Netns, Source: web.Addr(), To: at(clusterIPs, web, servicePort), Answers: s.Web.Netns, Sees: s.nodeSeen(web),
			RequestBy: way, ReplyBy: way,
		},
	}
	for _, lan := range s.LANs {
		host, elsewhere := inFamily(lan.Host, web.Addr()).Addr(), s.nicIn(lan) != ifname
		checks = append(checks, Check{
			Name: fmt.Sprintf("%s to %s", lan.Client.Name(), ifname), Coordinator: elsewhere,
			From: lan.Client, To: to, Answers: s.Web.Netns, Sees: host,
			RequestBy: "eth0", ReplyBy: ifname,
		}, Check{
			Name: fmt.Sprintf("%s to %s", ifname, lan.Client.Name()), Coordinator: elsewhere,
			From: s.Web.Netns, Source: web.Addr(), To: netip.AddrPortFrom(host, appPort), Answers: lan.Client, Sees: web.Addr(),
			RequestBy: ifname, ReplyBy: "eth0",
		})
	}
	for i := range checks {
		checks[i].Name = fmt.Sprintf("%s, %s", checks[i].Name, family(web.Addr()))
	}
	return checks
}

// nodeSeen returns the node's address as pods see it, in the family of another address.
// If the first NIC is in no LAN, it is the address of the node's end of the pod's link.
func (s *Scene) nodeSeen(of netip.Prefix) netip.Addr {
	for _, ip := range s.Web.Results[NIC].IPs {
		gateway, _ := netip.AddrFromSlice(ip.Gateway)
		if gateway = gateway.Unmap(); s.nicIn(s.LANs[0]) != NIC && gateway.Is4() == of.Addr().Is4() {
			return gateway
		}
	}
	return inFamily(s.nodeAddrs(), of.Addr()).Addr()
}

// nodeBeside returns the node's address in the subnet of another address.
func (s *Scene) nodeBeside(other netip.Prefix) netip.Addr {
	for _, lan := range s.LANs {
		if node := inFamily(lan.Node, other.Addr()); node.Contains(other.Addr()) {
			return node.Addr()
		}
	}
	return netip.Addr{}
}

// nicIn returns the name of the pods' NIC in a LAN.
func (s *Scene) nicIn(lan *LAN) string {
	for _, a := range s.Attachments {
		for _, web := range s.Web.Addrs(a.IfName) {
			if inFamily(lan.Router, web.Addr()).Contains(web.Addr()) {
				return a.IfName
			}
		}
	}
	return ""
}

// at returns the address of the family of another one, with a port.
func at(in []netip.Prefix, of netip.Prefix, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(inFamily(in, of.Addr()).Addr(), port)
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
