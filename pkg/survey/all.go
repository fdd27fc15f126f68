// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// ReadAll reads all objects of both namespaces into the snapshot: links, addresses,
// rules, unicast routes of every table, neighbours, and the node's check of sources. It
// returns the parents on the node of the pod's links, by the names of the pod's links.
func ReadAll(k *kernel.Namespaces, snap *netstate.Snapshot) (parents map[string]string, err error) {
	if err := readAll(k.Host, snap); err != nil {
		return nil, err
	}
	if err := k.Host.FindSourceCheck(snap); err != nil || k.Pod == nil {
		return nil, err
	}
	if err := readAll(k.Pod, snap); err != nil {
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

func readAll(s *kernel.Namespace, snap *netstate.Snapshot) error {
	if err := s.ReadLinks(snap); err != nil {
		return err
	}
	if err := s.ReadAddrs(snap); err != nil {
		return err
	}
	for _, f := range netstate.Families {
		if err := s.ReadRules(snap, f); err != nil {
			return err
		}
		if err := s.ReadRoutes(snap, f, 0, nil); err != nil {
			return err
		}
	}
	return ReadNeighs(s, snap)
}

// ReadNeighs reads all neighbours with a usable MAC into the snapshot.
func ReadNeighs(s *kernel.Namespace, snap *netstate.Snapshot) error {
	list, err := s.Neighbours()
	if err != nil {
		return err
	}
	for _, n := range list {
		if !n.HasMAC || !n.Dst.IsValid() || n.State&(unix.NUD_NOARP|unix.NUD_FAILED|unix.NUD_INCOMPLETE) != 0 {
			continue
		}
		name, ok, err := s.LinkName(n.Index)
		if err != nil {
			return err
		}
		if ok {
			n.Dev = name
			snap.Put(s.NS(), n.Neigh)
		}
	}
	return nil
}
