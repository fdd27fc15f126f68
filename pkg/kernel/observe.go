// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net/netip"

	"github.com/multihome/multihome/pkg/netstate"
)

// ReadPod puts the pod's links, addresses, rules and unicast routes of every
// table into the snapshot.
func (k *Namespaces) ReadPod(snap *netstate.Snapshot) error {
	if err := k.Pod.ReadLinks(snap); err != nil {
		return err
	}
	if err := k.Pod.ReadAddrs(snap); err != nil {
		return err
	}
	for _, f := range netstate.Families {
		if err := k.Pod.ReadRules(snap, f); err != nil {
			return err
		}
		if err := k.Pod.ReadRoutes(snap, f, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// Complete reads the objects of a plan that ReadPod doesn't read: neighbours, sysctls,
// marks and the check of sources in both namespaces, and the node's links, rules and
// routes. It reads only objects that the plan names, each by its key.
func (k *Namespaces) Complete(snap *netstate.Snapshot, p netstate.Plan) error {
	rules := map[netstate.Family]bool{}
	routes := map[table]map[netip.Prefix]bool{}
	for _, item := range append(p.Present[:len(p.Present):len(p.Present)], p.Absent...) {
		var err error
		s := k.Of(item.NS)
		switch o := item.Object.(type) {
		case netstate.Neigh:
			err = s.ReadNeigh(snap, o.Dev, o.Dst)
		case netstate.Sysctl:
			err = s.ReadSysctl(snap, o)
		case netstate.Mark:
			err = s.ReadMark(snap, o)
		case netstate.SourceCheck:
			err = s.ReadSourceCheck(snap, o)
		case netstate.Link:
			if item.NS == netstate.Host {
				err = k.readHostLink(snap, o)
			}
		case netstate.Rule:
			if item.NS == netstate.Host && !rules[o.Family] {
				rules[o.Family] = true
				err = s.ReadRules(snap, o.Family)
			}
		case netstate.Route:
			if item.NS == netstate.Host {
				t := table{netstate.FamilyOf(o.Dst.Addr()), o.Table}
				if routes[t] == nil {
					routes[t] = map[netip.Prefix]bool{}
				}
				routes[t][o.Dst] = true
			}
		}
		if err != nil {
			return err
		}
	}
	for t, dsts := range routes {
		if err := k.Host.ReadHostRoutes(snap, t.family, t.number, dsts); err != nil {
			return err
		}
	}
	return nil
}

// table is a routing table of one family.
type table struct {
	family netstate.Family
	number int
}

func (k *Namespaces) readHostLink(snap *netstate.Snapshot, want netstate.Link) error {
	if err := k.Host.ReadLink(snap, want.Name); err != nil {
		return err
	}
	if want.Peer.NS == netstate.Pod && k.Pod != nil {
		return k.NotePair(snap, want.Name, want.Peer.Name)
	}
	return nil
}
