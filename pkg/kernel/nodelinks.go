// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// podEnds are the names of pods' ends on the node: there is one for each pod, and none
// is asked for. A '*' stands for any end.
var podEnds = []string{"veth*", "cali*", "lxc*", "eni*", "azv*", "gke*"}

// notTheNodes are the names of other links that carry no addresses of the node:
// kube-proxy's and other holders of service addresses, and the bridges and tunnels of
// container networks. There are few on a node.
var notTheNodes = []string{
	"lo", "kube-ipvs*", "dummy*", "nodelocaldns*",
	"cni*", "cbr*", "docker*", "podman*", "virbr*", "kube-bridge",
	"flannel*", "cilium*", "vxlan.calico", "tunl*", "weave*", "antrea-gw*", "ovn-k8s*", "vx-submariner",
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, open := strings.CutSuffix(p, "*")
		return name == prefix || open && strings.HasPrefix(name, prefix)
	})
}

// NodeLinks tells which links of the node may carry addresses of the node itself.
type NodeLinks struct {
	links    map[string]netstate.Link
	uplinked map[string]bool // bridges with a port that leads to where the node's addresses are
	parents  []string        // pods' NICs sit on them
	waysOut  []string        // default routes leave by them
}

// NodeLinksOf goes by what a snapshot holds.
func NodeLinksOf(snap *netstate.Snapshot, parents ...string) NodeLinks {
	n := newNodeLinks(parents, netstate.All[netstate.Link](snap, netstate.Host)...)
	for _, r := range netstate.All[netstate.Route](snap, netstate.Host) {
		if r.Table == netstate.TableMain && r.Dst.Bits() == 0 {
			n.waysOut = append(n.waysOut, r.Dev)
		}
	}
	return n
}

func newNodeLinks(parents []string, links ...netstate.Link) NodeLinks {
	n := NodeLinks{links: map[string]netstate.Link{}, uplinked: map[string]bool{}, parents: parents}
	for _, l := range links {
		n.links[l.Name] = l
		if l.Master != "" && isUplink(l) {
			n.uplinked[l.Master] = true
		}
	}
	return n
}

// VRF returns the name of the VRF that a link is in, "" if it is in none. What has an
// address there is reached by whoever is in it, and by nobody else.
func (n NodeLinks) VRF(name string) string {
	l := n.links[name]
	switch vrf {
	case l.Type:
		return name
	case n.links[l.Master].Type:
		return l.Master
	}
	return ""
}

const vrf = "vrf"

// Own reports whether a link may carry addresses of the node that pods can reach. What
// it is comes before its name.
func (n NodeLinks) Own(name string) bool {
	switch n.guess(name) {
	case yes:
		return true
	case no:
		return false
	}
	return slices.Contains(n.waysOut, name)
}

// guess is what is known of a link.
type guess int

const (
	no    guess = iota
	yes         // it may carry the node's addresses
	byWay       // if a default route leaves by it
)

// guess is Own without the routes.
func (n NodeLinks) guess(name string) guess {
	l, known := n.links[name]
	unlisted := !matches(podEnds, name) && !matches(notTheNodes, name)
	switch {
	case name == "lo" || n.VRF(name) != "":
		return no
	case slices.Contains(n.parents, name):
		return yes
	case l.Owned() || l.Type == "dummy":
		return no
	case unlisted || n.uplinked[name]:
		return yes
	}
	switch l.Type {
	case "": // of a NIC the kernel tells no type
		if known {
			return yes
		}
	case "vlan", "macvlan", "ipvlan", "bond", "team":
		return yes
	case "bridge", "veth", "openvswitch", "tun":
		return byWay
	}
	return no // vxlan, ipip, wireguard and the like
}

// isUplink reports whether a port of a bridge leads to where the node's addresses are:
// it is neither an end of a pod or virtual machine nor a tunnel. A node in a container
// has a veth for a NIC, which its name tells.
func isUplink(port netstate.Link) bool {
	switch port.Type {
	case "", "vlan", "macvlan", "bond", "team":
		return true
	case "veth":
		return !port.Owned() && !matches(podEnds, port.Name)
	}
	return false
}

// nodeLinks returns the links that may carry addresses of the node itself. The number
// of pods is hardly felt: links with a name of a pod's end are never asked for, unless
// the pod's NIC sits on one. Links in a VRF are left out; inVRF names one of them.
func (k *Namespaces) nodeLinks() (links []rtnetlink.Link, inVRF string, err error) {
	names, err := k.Host.linkNames()
	if err != nil {
		return nil, "", err
	}
	for _, name := range names {
		if name == "lo" || matches(podEnds, name) {
			continue
		}
		l, ok, err := k.Host.fetchLink(name)
		if err != nil {
			return nil, "", err
		}
		if ok {
			links = append(links, l)
		}
	}
	parents, err := k.parents(&links)
	if err != nil {
		return nil, "", err
	}
	var plain []netstate.Link
	for i := range links { // now that all are known by their ifindexes
		if err := k.Host.resolve(&links[i]); err != nil {
			return nil, "", err
		}
		plain = append(plain, links[i].Link)
	}
	n := newNodeLinks(parents, plain...)
	for _, l := range plain {
		if in := n.VRF(l.Name); in != "" && l.Type != vrf {
			inVRF = fmt.Sprintf("link %s is in VRF %s", l.Name, in)
		}
	}
	if slices.ContainsFunc(links, func(l rtnetlink.Link) bool { return l.Up && n.guess(l.Name) == byWay }) {
		if n.waysOut, err = k.Host.waysOut(); err != nil {
			return nil, "", err
		}
	}
	return slices.DeleteFunc(links, func(l rtnetlink.Link) bool { return !l.Up || !n.Own(l.Name) }), inVRF, nil
}

// parents returns the names of those links of the node that the pod's NICs sit on, and
// adds one that was left out by its name. What nothing turns on isn't asked for.
func (k *Namespaces) parents(links *[]rtnetlink.Link) (names []string, err error) {
	if k.Pod == nil {
		return nil, nil
	}
	for _, end := range k.Pod.ends {
		if end.veth {
			continue
		}
		i := slices.IndexFunc(*links, func(l rtnetlink.Link) bool { return l.Index == end.far })
		if i >= 0 && (*links)[i].Type != "dummy" && !matches(notTheNodes, (*links)[i].Name) && !(*links)[i].Owned() {
			continue // it is the node's anyway
		}
		if here, err := k.onNode(end); err != nil {
			return nil, err
		} else if !here {
			continue
		}
		if i < 0 {
			l, ok, err := k.Host.fetchIndex(end.far)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			*links = append(*links, l)
			i = len(*links) - 1
		}
		names = append(names, (*links)[i].Name)
	}
	return names, nil
}

// nobodys are addresses for documentation (RFC 5737, RFC 3849): what leads to them is a
// default route.
var nobodys = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.MustParseAddr("2001:db8::1")}

// waysOut returns the links that default routes leave by.
func (s *Namespace) waysOut() (names []string, err error) {
	for _, a := range nobodys {
		r, err := s.RouteTo(a, true)
		if err != nil {
			return nil, err
		}
		hops := r.Hops
		if hops == nil {
			hops = []rtnetlink.Hop{{OIF: r.OIF}}
		}
		for _, h := range hops {
			if h.OIF == 0 {
				continue
			}
			name, _, err := s.LinkName(h.OIF)
			if err != nil {
				return nil, fmt.Errorf("%s: way to %s: %w", s.ns, a, err)
			}
			names = append(names, name)
		}
	}
	return names, nil
}
