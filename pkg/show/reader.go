// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

const (
	inPod  = netstate.Pod
	onNode = netstate.Host
)

// reader makes a View from the state of a pod and its node.
type reader struct {
	inspect.State
	of        inspect.Pod
	podAddrs  map[netip.Addr]string // the NIC of each address
	nodeAddrs map[netip.Addr]string
	toPod     []netstate.Route // the node's routes to the pod
	purposes  []purpose
	settings  []Settings

	// repliesBy is the pod's link by which replies of marked connections leave, "?" if
	// it is unknown. repliesTable is the table with their route, 0 if there is none.
	repliesBy    string
	repliesTable int
}

// purpose says what a destination is, if a configuration leads it to the node.
type purpose struct {
	dst   netip.Prefix
	words string
}

func newReader(pod inspect.Pod, state inspect.State) *reader {
	r := &reader{State: state, of: pod, podAddrs: map[netip.Addr]string{}, nodeAddrs: map[netip.Addr]string{}}
	for _, a := range all[netstate.Addr](r, inPod) {
		r.podAddrs[a.Prefix.Addr()] = a.Dev
	}
	for _, a := range all[netstate.Addr](r, onNode) { // if several NICs have an address, as with ptp, take this pod's
		if r.nodeAddrs[a.Prefix.Addr()] == "" || r.link(onNode, a.Dev).Peer.NS == inPod {
			r.nodeAddrs[a.Prefix.Addr()] = a.Dev
		}
	}
	r.toPod = slices.DeleteFunc(all[netstate.Route](r, onNode), func(route netstate.Route) bool {
		_, ok := r.podAddrs[route.Dst.Addr()]
		return !ok || !route.Dst.IsSingleIP() || plain(route)
	})
	r.repliesBy, r.repliesTable = r.replies()
	for _, a := range pod.Attachments {
		values, dsts := settings(a, pod.ContainerID, state.Defaults)
		r.settings, r.purposes = append(r.settings, values...), append(r.purposes, dsts...)
	}
	return r
}

// settings returns the settings of the coordinators of an attachment, and the destinations
// that they lead to the node. It leaves out configurations that it can't read.
func settings(a inspect.Attachment, containerID string, node plugin.Defaults) (out []Settings, dsts []purpose) {
	list, err := libcni.ConfListFromBytes(a.Config)
	if err != nil {
		return nil, nil
	}
	for _, p := range list.Plugins {
		var raw map[string]json.RawMessage
		of, ours := catalog.Plugins[p.Network.Type]
		if !ours || json.Unmarshal(p.Bytes, &raw) != nil {
			continue
		}
		of.Defaults = func() plugin.Defaults { return node }
		conf, err := of.Configure(raw, containerID)
		damage := ""
		if errors.As(err, new(*plugin.Damage)) {
			damage, err = err.Error(), nil
		}
		c, ok := conf.(*coordinator.Config)
		if err != nil || !ok { // conf is nil if the configuration disables the plugin
			continue
		}
		out = append(out, Settings{IfName: a.IfName, Network: a.Network, Plugin: p.Network.Type, Settings: c.Settings(), Damage: damage})
		for words, prefixes := range map[string][]netip.Prefix{
			"Services": c.ServiceCIDR, "overlay pods": c.OverlayPodCIDR, "hijackCIDR": c.HijackCIDR,
		} {
			for _, p := range prefixes {
				dsts = append(dsts, purpose{p, words})
			}
		}
	}
	return out, dsts
}

func (r *reader) pod() Side {
	s := Side{NICs: r.podNICs(), Marks: r.podMarks(), Neighbours: r.podNeighbours()}
	s.Rules = r.rules(inPod, func(netstate.Rule) bool { return true })
	s.Tables = r.tables(inPod, s.Rules, slices.DeleteFunc(all[netstate.Route](r, inPod), plain))
	return s
}

func (r *reader) node() Side {
	s := Side{NICs: r.nodeNICs(), Marks: r.nodeMarks(), Neighbours: r.nodeNeighbours()}
	s.Rules = r.rules(onNode, func(rule netstate.Rule) bool {
		return rule.Owned() || slices.ContainsFunc(r.toPod, func(route netstate.Route) bool {
			return route.Table == rule.Table && netstate.FamilyOf(route.Dst.Addr()) == rule.Family
		})
	})
	s.Tables = r.tables(onNode, s.Rules, r.toPod)
	return s
}

// plain reports whether the kernel made a route for itself: in table local, or to
// link-local or multicast addresses.
func plain(r netstate.Route) bool {
	dst := r.Dst.Addr()
	return r.Table == netstate.TableLocal || dst.IsLinkLocalUnicast() || dst.IsMulticast()
}

func all[T netstate.Object](r *reader, ns netstate.NS) []T { return netstate.All[T](r.Snapshot, ns) }

// link returns a link, the zero Link if there is none.
func (r *reader) link(ns netstate.NS, name string) netstate.Link {
	l, _ := netstate.Get(r.Snapshot, ns, netstate.Link{Name: name})
	return l
}

// byNumber compares names so that net2 comes before net10.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(strings.TrimRight(a, digits), strings.TrimRight(b, digits)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

const digits = "0123456789"
