// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// ReadAll puts what both namespaces hold into the snapshot: links, addresses, rules,
// unicast routes of every table, neighbours, and the node's check of sources. It
// returns the links of the node that links of the pod sit on, by the names of those. No
// plugin does that, for it takes as long as the node is large.
func (k *Kernel) ReadAll(snap *netstate.Snapshot) (parents map[string]string, err error) {
	if err := k.Host.readAll(snap); err != nil {
		return nil, err
	}
	if err := k.Host.FindSourceCheck(snap); err != nil || k.Pod == nil {
		return nil, err
	}
	if err := k.Pod.readAll(snap); err != nil {
		return nil, err
	}
	parents = map[string]string{}
	for _, l := range netstate.All[netstate.Link](snap, netstate.Pod) {
		if l.Type == "veth" {
			if err := k.ReadPeer(snap, l.Name); err != nil {
				return nil, err
			}
			continue
		}
		parent, err := k.ReadParent(snap, l.Name)
		if err != nil {
			return nil, err
		}
		if parent != "" {
			parents[l.Name] = parent
		}
	}
	return parents, nil
}

func (s *Space) readAll(snap *netstate.Snapshot) error {
	if err := s.ReadLinks(snap); err != nil {
		return err
	}
	if err := s.ReadAddrs(snap); err != nil {
		return err
	}
	for _, f := range families {
		if err := s.ReadRules(snap, f); err != nil {
			return err
		}
		if err := s.ReadRoutes(snap, f, 0, nil); err != nil {
			return err
		}
	}
	return s.ReadNeighs(snap)
}

// ReadNeighs puts all entries that lead to a MAC into the snapshot.
func (s *Space) ReadNeighs(snap *netstate.Snapshot) error {
	list, err := s.neighs()
	if err != nil {
		return err
	}
	for _, n := range list {
		if !n.mac || !n.Dst.IsValid() || n.state&(unix.NUD_NOARP|unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
			continue
		}
		name, ok, err := s.linkName(n.index)
		if err != nil {
			return err
		}
		if ok {
			n.Dev = name
			snap.Put(s.ns, n.Neigh)
		}
	}
	return nil
}
