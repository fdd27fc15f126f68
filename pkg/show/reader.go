// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/coordinator"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
)

const (
	inPod  = netstate.Pod
	onNode = netstate.Host
)

// reader makes a View of what was read.
type reader struct {
	inspect.State
	of        inspect.Pod
	podAddrs  map[netip.Addr]string // with the NICs that have them
	nodeAddrs map[netip.Addr]string
	toPod     []netstate.Route // of the node
	purposes  []purpose

	// The pod's link that replies of marked connections leave by, "?" if nobody
	// knows, and the table that says so, 0 if there is none.
	repliesBy    string
	repliesTable int
}

// purpose is what a configuration leads to the node for.
type purpose struct {
	dst   netip.Prefix
	words string
}

func newReader(pod inspect.Pod, state inspect.State) *reader {
	r := &reader{State: state, of: pod, podAddrs: map[netip.Addr]string{}, nodeAddrs: map[netip.Addr]string{}}
	for _, a := range all[netstate.Addr](r, inPod) {
		r.podAddrs[a.Prefix.Addr()] = a.Dev
	}
	for _, a := range all[netstate.Addr](r, onNode) { // by several NICs, as ptp has it: by that of this pod
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
		r.purposes = append(r.purposes, purposes(a.Config)...)
	}
	return r
}

// purposes returns what the coordinators of a network lead to the node. What can't be
// read has none.
func purposes(config []byte) (out []purpose) {
	list, err := libcni.ConfListFromBytes(config)
	if err != nil {
		return nil
	}
	for _, p := range list.Plugins {
		var raw map[string]json.RawMessage
		of, ours := catalog.Plugins[p.Network.Type]
		if !ours || json.Unmarshal(p.Bytes, &raw) != nil {
			continue
		}
		conf, err := of.Load(raw)
		c, ok := conf.(*coordinator.Config)
		if err != nil || !ok { // nil: it says to do nothing
			continue
		}
		for words, prefixes := range map[string][]netip.Prefix{
			"Services": c.ServiceCIDR, "overlay pods": c.OverlayPodCIDR, "hijackCIDR": c.HijackCIDR,
		} {
			for _, p := range prefixes {
				out = append(out, purpose{p, words})
			}
		}
	}
	return out
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

// plain is what the kernel keeps for itself: table local, and the link-local and
// multicast routes of each link.
func plain(r netstate.Route) bool {
	dst := r.Dst.Addr()
	return r.Table == netstate.TableLocal || dst.IsLinkLocalUnicast() || dst.IsMulticast()
}

func all[T netstate.Object](r *reader, ns netstate.NS) []T { return netstate.All[T](r.Snapshot, ns) }

// link returns a link, the zero one if there is none.
func (r *reader) link(ns netstate.NS, name string) netstate.Link {
	l, _ := netstate.Get(r.Snapshot, ns, netstate.Link{Name: name})
	return l
}

// byNumber orders names such that net2 comes before net10.
func byNumber(a, b string) int {
	return cmp.Or(cmp.Compare(strings.TrimRight(a, digits), strings.TrimRight(b, digits)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

const digits = "0123456789"
