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

// podEnds holds patterns for the names of pods' host ends. A node has one for each pod, so
// they are not read. A '*' stands for any suffix.
var podEnds = []string{"veth*", "cali*", "lxc*", "eni*", "azv*", "gke*"}

// notTheNodes holds patterns for the names of other links that carry no addresses of the
// node: links for service addresses, such as kube-proxy's, and the bridges and tunnels of
// container networks. A node has few of them.
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

// NodeLinks decides which links of the node may carry addresses of the node itself.
type NodeLinks struct {
	links    map[string]netstate.Link
	uplinked map[string]bool // bridges with a port that leads out of the node
	parents  []string        // parents of pods' NICs
	waysOut  []string        // links of the default routes
}

// NodeLinksOf returns the NodeLinks for the links and routes of a snapshot. The parents are
// the links that pods' NICs sit on.
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

// VRF returns the name of the VRF that a link is in, "" if it is in none. Only links in the
// same VRF reach the addresses of that link.
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

// Own reports whether a link may carry addresses of the node that pods can reach. It goes
// by role and type first, and then by name.
func (n NodeLinks) Own(name string) bool {
	switch n.guess(name) {
	case yes:
		return true
	case no:
		return false
	}
	return slices.Contains(n.waysOut, name)
}

// MayBeNodes reports whether a link of the node, by itself, may carry addresses of the node:
// one that is a dummy, or has the name of a link for Services' addresses, doesn't.
func MayBeNodes(l netstate.Link) bool { return newNodeLinks(nil, l).guess(l.Name) != no }

// guess is an answer of NodeLinks.guess.
type guess int

const (
	no    guess = iota
	yes         // it may carry the node's addresses
	byWay       // only if it is the link of a default route
)

// guess answers Own as far as possible without routes.
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
	case "": // a NIC: the kernel reports no type
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

// isUplink reports whether a port of a bridge leads out of the node: it is neither the host
// end of a pod or virtual machine nor a tunnel. The NIC of a node in a container is a
// veth, whose name differs from those of pods' host ends.
func isUplink(port netstate.Link) bool {
	switch port.Type {
	case "", "vlan", "macvlan", "bond", "team":
		return true
	case "veth":
		return !port.Owned() && !matches(podEnds, port.Name)
	}
	return false
}

// nodeLinks returns the links that may carry addresses of the node itself. It leaves out
// links in a VRF; inVRF names one of them, for an error. Its time hardly grows with the
// number of pods: it doesn't read links with a name of a pod's host end, except one that
// the pod's NIC sits on.
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
	for i := range links { // only now, because all indexes are in the cache
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

// parents returns the names of the node's links that the pod's NICs sit on. It appends
// those to links that nodeLinks left out by their name. It omits parents that count as the
// node's anyway, and saves the requests for them.
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
			continue // it counts as the node's anyway
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

// documentation holds one address of each family that is reserved for documentation (RFC
// 5737, RFC 3849): the route to it is a default route.
var documentation = []netip.Addr{netip.AddrFrom4([4]byte{192, 0, 2, 1}), netip.MustParseAddr("2001:db8::1")}

// waysOut returns the names of the links of the default routes.
func (s *Namespace) waysOut() (names []string, err error) {
	for _, a := range documentation {
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
				return nil, fmt.Errorf("%s: link of the route to %s: %w", s.ns, a, err)
			}
			names = append(names, name)
		}
	}
	return names, nil
}
