// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// farLink holds the attributes of a link that point to another link in another namespace:
// its parent or, for a veth, its peer. An ifindex means nothing without its namespace.
type farLink struct {
	index   int // of the link itself
	far     int // of the parent or peer (IFLA_LINK)
	netnsid int // of the namespace of the parent or peer (IFLA_LINK_NETNSID)
	veth    bool
}

// remember caches a link's index, name, settings and parent or peer for operations.
func (s *Namespace) remember(l rtnetlink.Link) {
	s.index[l.Name] = l.Index
	s.name[l.Index] = l.Name
	s.settings[l.Name] = l.Settings
	if l.Elsewhere {
		s.ends[l.Name] = farLink{l.Index, l.LinkIndex, l.NetnsID, l.Type == "veth"}
	}
}

func (s *Namespace) forget(name string) {
	delete(s.name, s.index[name])
	delete(s.index, name)
	delete(s.ends, name)
	delete(s.settings, name)
}

// fetchLink asks the kernel for a link by its name. ok is false if there is none.
func (s *Namespace) fetchLink(name string) (l rtnetlink.Link, ok bool, err error) {
	err = s.conn.Do(rtnetlink.LinkRequest(name), func(b []byte) { l = rtnetlink.DecodeLink(b) })
	if errors.Is(err, unix.ENODEV) {
		return rtnetlink.Link{}, false, nil
	}
	if err != nil {
		return rtnetlink.Link{}, false, fmt.Errorf("%s: read link %s: %w", s.ns, name, err)
	}
	s.remember(l)
	return l, true, nil
}

// ReadLink puts the link of that name into the snapshot, if there is one.
func (s *Namespace) ReadLink(snap *netstate.Snapshot, name string) error {
	l, ok, err := s.fetchLink(name)
	if err == nil && ok {
		err = s.resolve(&l)
	}
	if err == nil && ok {
		snap.Put(s.ns, l.Link)
	}
	return err
}

// resolve sets the names of a link's parent and master from their indexes, and decodes the
// link's details.
func (s *Namespace) resolve(l *rtnetlink.Link) (err error) {
	if l.LinkIndex != 0 && !l.Elsewhere && l.Type != "veth" {
		if l.Parent, _, err = s.LinkName(l.LinkIndex); err != nil {
			return err
		}
	}
	if l.MasterIndex != 0 {
		if l.Master, _, err = s.LinkName(l.MasterIndex); err != nil {
			return err
		}
	}
	l.Details, err = s.decodeDetails(l.Type, l.Info)
	return err
}

// ReadLinks puts all links into the snapshot.
func (s *Namespace) ReadLinks(snap *netstate.Snapshot) error {
	links, err := s.links(rtnetlink.LinkRequest(""))
	for _, l := range links {
		snap.Put(s.ns, l.Link)
	}
	return err
}

// ReadType puts the links of a type into the snapshot; the kernel does the filtering.
func (s *Namespace) ReadType(snap *netstate.Snapshot, kind string) error {
	req := rtnetlink.LinkRequest("")
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	links, err := s.links(req)
	for _, l := range links {
		if l.Type == kind {
			snap.Put(s.ns, l.Link)
		}
	}
	return err
}

// ReadMembers puts the ports of a bridge, bond or VRF into the snapshot: the links with
// that master. The kernel does the filtering.
func (s *Namespace) ReadMembers(snap *netstate.Snapshot, master string) error {
	index, err := s.LinkIndex(master)
	if err != nil {
		return fmt.Errorf("%s: link %s: %w", s.ns, master, err)
	}
	req := rtnetlink.LinkRequest("")
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(index))))
	links, err := s.links(req)
	for _, l := range links {
		if l.MasterIndex == index {
			snap.Put(s.ns, l.Link)
		}
	}
	return err
}

// AllLinks returns all links. The names of their parents and masters are not set, only the
// indexes.
func (s *Namespace) AllLinks() ([]rtnetlink.Link, error) { return s.linksOf(rtnetlink.LinkRequest("")) }

func (s *Namespace) linksOf(req *nl.NetlinkRequest) ([]rtnetlink.Link, error) {
	links, err := netlink.Dump(s.conn, req, func(b []byte) (rtnetlink.Link, bool) { return rtnetlink.DecodeLink(b), true })
	if err != nil {
		return nil, fmt.Errorf("%s: list links: %w", s.ns, err)
	}
	for _, l := range links {
		s.remember(l)
	}
	return links, nil
}

func (s *Namespace) links(req *nl.NetlinkRequest) ([]rtnetlink.Link, error) {
	links, err := s.linksOf(req)
	if err != nil {
		return nil, err
	}
	for i := range links {
		if err := s.resolve(&links[i]); err != nil {
			return nil, err
		}
	}
	return links, nil
}

// Owned returns the links of the namespace whose alias marks them as this suite's.
func (s *Namespace) Owned() ([]netstate.Link, error) {
	links, err := s.links(rtnetlink.LinkRequest(""))
	var out []netstate.Link
	for _, l := range links {
		if l.Link.Owned() {
			out = append(out, l.Link)
		}
	}
	return out, err
}

// onNode reports whether the parent or peer of one of the pod's links is in the node's
// namespace. It compares the namespace ID of that link with the ID that the pod has for the
// node's namespace.
func (k *Namespaces) onNode(f farLink) (bool, error) {
	if k.Pod.hostID == nil {
		req := netlink.NewRequest(unix.RTM_GETNSID, 0, nl.NewRtGenMsg())
		req.AddData(nl.NewRtAttr(unix.NETNSA_FD, nl.Uint32Attr(uint32(k.Host.nsFD()))))
		id := unix.NETNSA_NSID_NOT_ASSIGNED
		err := k.Pod.conn.Do(req, func(b []byte) {
			netlink.Attrs(b[unix.NLMSG_ALIGNTO:], func(typ uint16, v []byte) {
				if typ == unix.NETNSA_NSID {
					id = int(int32(nl.NativeEndian().Uint32(v)))
				}
			})
		})
		if err != nil {
			return false, fmt.Errorf("%s: ID of the node's network namespace: %w", k.Pod.ns, err)
		}
		k.Pod.hostID = &id
	}
	return f.netnsid == *k.Pod.hostID, nil
}

// NotePair notes in the snapshot that two veths are the ends of one pair, if they are. Both
// must have been read. Each must have the other's ifindex, and the pod's end must point to
// the node's namespace.
func (k *Namespaces) NotePair(snap *netstate.Snapshot, host, pod string) error {
	h, okHost := k.Host.ends[host]
	p, okPod := k.Pod.ends[pod]
	if !okHost || !okPod || !h.veth || !p.veth || h.far != p.index || p.far != h.index {
		return nil
	}
	if ok, err := k.onNode(p); err != nil || !ok {
		return err
	}
	hl, _ := netstate.Get(snap, netstate.Host, netstate.Link{Name: host})
	pl, _ := netstate.Get(snap, netstate.Pod, netstate.Link{Name: pod})
	hl.Peer = netstate.End{NS: netstate.Pod, Name: pod, MAC: pl.MAC}
	pl.Peer = netstate.End{NS: netstate.Host, Name: host, MAC: hl.MAC}
	snap.Put(netstate.Host, hl)
	snap.Put(netstate.Pod, pl)
	return nil
}

// ReadPeer puts the host end of a pod's veth into the snapshot, and the bridge that it is
// a port of, and notes that the two ends are a pair. For a link that isn't a veth to the
// node it does nothing.
func (k *Namespaces) ReadPeer(snap *netstate.Snapshot, podDev string) error {
	end, ok := k.Pod.ends[podDev]
	if !ok || !end.veth {
		return nil
	}
	if ok, err := k.onNode(end); err != nil || !ok {
		return err
	}
	l, ok, err := k.Host.fetchIndex(end.far)
	if err != nil || !ok || l.Type != "veth" || l.LinkIndex != end.index {
		return err
	}
	if l.MasterIndex != 0 {
		if l.Master, _, err = k.Host.LinkName(l.MasterIndex); err != nil {
			return err
		}
		// The node routes to the pod by the bridge.
		if err := k.Host.ReadLink(snap, l.Master); err != nil {
			return err
		}
	}
	snap.Put(netstate.Host, l.Link)
	return k.NotePair(snap, l.Name, podDev)
}

// ReadParent puts the parent of one of the pod's links into the snapshot, and returns its
// name. It returns "" if the link has no parent on the node.
func (k *Namespaces) ReadParent(snap *netstate.Snapshot, podDev string) (string, error) {
	end, ok := k.Pod.ends[podDev]
	if !ok || end.veth {
		return "", nil
	}
	if ok, err := k.onNode(end); err != nil || !ok {
		return "", err
	}
	l, ok, err := k.Host.fetchIndex(end.far)
	if err == nil && ok {
		err = k.Host.resolve(&l)
	}
	if err == nil && ok {
		snap.Put(netstate.Host, l.Link)
	}
	return l.Name, err
}

// LinkIndex returns the ifindex of a link, ENODEV if there is none of that name. It caches
// the kernel's answer.
func (s *Namespace) LinkIndex(name string) (int, error) {
	if i, ok := s.index[name]; ok {
		return i, nil
	}
	l, ok, err := s.fetchLink(name)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, unix.ENODEV
	}
	return l.Index, nil
}

// LinkName returns the name of a link by its ifindex. ok is false if the link is gone. It
// caches the kernel's answer.
func (s *Namespace) LinkName(index int) (name string, ok bool, err error) {
	if n, ok := s.name[index]; ok {
		return n, true, nil
	}
	l, ok, err := s.fetchIndex(index)
	return l.Name, ok, err
}

// fetchIndex asks the kernel for a link by its ifindex. ok is false if there is none.
func (s *Namespace) fetchIndex(index int) (l rtnetlink.Link, ok bool, err error) {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index = int32(index)
	req := netlink.NewRequest(unix.RTM_GETLINK, 0, body)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(rtnetlink.SkipStats)))
	err = s.conn.Do(req, func(b []byte) { l = rtnetlink.DecodeLink(b) })
	if errors.Is(err, unix.ENODEV) {
		return rtnetlink.Link{}, false, nil
	}
	if err != nil {
		return rtnetlink.Link{}, false, fmt.Errorf("%s: read link %d: %w", s.ns, index, err)
	}
	s.remember(l)
	return l, true, nil
}

// applyLink adds, changes or deletes a link.
func (k *Namespaces) applyLink(s *Namespace, op netstate.Op) error {
	before, had := op.Before.(netstate.Link)
	after, has := op.After.(netstate.Link)
	switch {
	case !has:
		return k.deleteLink(s, before)
	case had:
		return s.changeLink(before, after)
	case after.Type == "veth":
		return k.addVeth(s, after)
	case netstate.HasDetails(after.Type):
		return s.addShared(after)
	}
	return fmt.Errorf("link of type %q: %w", after.Type, errors.ErrUnsupported)
}

// changeLink sets the attributes that differ. To change the master it takes the link down
// first, sets the master, and sets the link up again, in requests of one datagram: the link
// comes up again even if the kernel refuses the master. A single request would set the link
// up before its master (do_setlink).
func (s *Namespace) changeLink(before, after netstate.Link) error {
	if after.Group != before.Group || before.Alias == netstate.Unnamed {
		index, err := s.LinkIndex(after.Name)
		if err == nil {
			err = s.conn.Do(rtnetlink.SetByIndex(index, netstate.Link{Group: after.Group, Up: before.Up}), nil)
		}
		if err != nil {
			return err
		}
	}
	c := changes(before, after)
	c.Up = c.Up && after.Master == before.Master
	set := rtnetlink.SetLink(c)
	if after.Details != before.Details {
		info, err := s.linkInfo(after.Type, after.Details.Since(before.Details), before.Details.Without(after.Details))
		if err != nil {
			return err
		}
		set.AddData(info)
	}
	if after.Master == before.Master {
		return s.conn.Do(set, nil)
	}
	master := 0
	if after.Master != "" {
		var err error
		if master, err = s.LinkIndex(after.Master); err != nil {
			return fmt.Errorf("link %s: %w", after.Master, err)
		}
	}
	set.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	again := rtnetlink.SetLink(netstate.Link{Name: after.Name, Up: before.Up && after.Up})
	err := s.conn.Do(rtnetlink.SetLink(netstate.Link{Name: after.Name}), nil, set, again)
	if err == nil && after.Up && !before.Up {
		err = s.conn.Do(rtnetlink.SetLink(netstate.Link{Name: after.Name, Up: true}), nil)
	}
	return err
}

// changes returns the link after with only the attributes that differ from before; the
// others are zero.
func changes(before, after netstate.Link) netstate.Link {
	c := after
	if after.MAC == before.MAC {
		c.MAC = netstate.MAC{}
	}
	if after.MTU == before.MTU {
		c.MTU = 0
	}
	if after.TxQueueLen == before.TxQueueLen {
		c.TxQueueLen = 0
	}
	if after.Alias == before.Alias {
		c.Alias = ""
	}
	return c
}

// addVeth makes a veth pair. It sets both MACs in the request that creates the pair: udev
// gives a new link without a set MAC one of its own (systemd.link(5), MACAddressPolicy=).
// The alias can't be set at creation (rtnl_create_link ignores it), so a second request
// sets it. Both go out as one datagram, so that no kill leaves a link without the alias by
// which GC knows it. The second request is by name: the plan was made under the pod's lock
// and found no link of that name, and no other pod uses the name.
func (k *Namespaces) addVeth(s *Namespace, l netstate.Link) error {
	req := rtnetlink.NewLink(l)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(l.Type))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Peer.Name))
	far := netstate.Link{MAC: l.Peer.MAC, MTU: l.MTU, TxQueueLen: l.TxQueueLen}
	rtnetlink.AddLinkAttrs(func(d nl.NetlinkRequestData) { peer.AddChild(d) }, far)
	if other := k.Of(l.Peer.NS); other != s {
		peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(other.nsFD())))
	}
	req.AddData(info)
	var made rtnetlink.Link
	// Read the link while it is down. For a link that is up and has no carrier yet, the
	// kernel would first notify all listeners (linkwatch_sync_dev), and IPv6 would walk
	// all of the node's routes.
	err := s.conn.Do(req, func(b []byte) { made = rtnetlink.DecodeLink(b) }, rtnetlink.LinkRequest(l.Name), rtnetlink.SetLink(netstate.Link{Name: l.Name, Alias: l.Alias, Up: l.Up}))
	if made.Index != 0 {
		s.remember(made)
		k.Of(l.Peer.NS).remember(rtnetlink.Link{Link: netstate.Link{Name: l.Peer.Name}, Index: made.LinkIndex})
	}
	return err
}

// addShared makes a vlan, a bond or a macvlan. It sets the alias only after the kernel has
// confirmed that it made the link, and by its index: a link of that name could be another
// process's. Until then the group GroupOfNew marks the link as ours.
func (s *Namespace) addShared(l netstate.Link) error {
	create := l
	create.Group = rtnetlink.GroupOfNew
	req := rtnetlink.NewLink(create)
	if l.Parent != "" {
		index, err := s.LinkIndex(l.Parent)
		if err != nil {
			return fmt.Errorf("link %s: %w", l.Parent, err)
		}
		req.AddData(nl.NewRtAttr(unix.IFLA_LINK, nl.Uint32Attr(uint32(index))))
	}
	info, err := s.linkInfo(l.Type, l.Details, "")
	if err != nil {
		return err
	}
	req.AddData(info)
	var made rtnetlink.Link
	if err := s.conn.Do(req, func(b []byte) { made = rtnetlink.DecodeLink(b) }, rtnetlink.LinkRequest(l.Name)); err != nil {
		return err
	}
	err = s.conn.Do(rtnetlink.SetByIndex(made.Index, l), nil)
	if err == nil {
		s.remember(made)
		err = s.resolve(&made)
	}
	if err == nil {
		err = refusedDetails(l.Details, made.Details)
	}
	if err == nil {
		return nil
	}
	// Delete the link now: without its alias no later call knows it as ours.
	made, ok, gone := s.fetchLink(l.Name)
	if ok {
		gone = s.deleteIndex(made.Index)
		s.forget(l.Name)
	}
	return errors.Join(err, gone)
}

// refusedDetails returns an error for the first requested detail that the kernel didn't
// set: a kernel ignores attributes that are newer than itself. It passes over details that
// name a member of the bond, because a new bond has no members (bond_fill_info).
func refusedDetails(want, got netstate.Details) error {
	for name, value := range want.Since(got).All() {
		if o, _ := netstate.FindBondOption(name); o.Form != netstate.BondLink {
			return fmt.Errorf("%s %s: %w by this kernel", name, value, unix.EOPNOTSUPP)
		}
	}
	return nil
}

func (s *Namespace) deleteIndex(index int) error {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index = int32(index)
	return s.conn.Do(netlink.NewRequest(unix.RTM_DELLINK, 0, body), nil)
}

// CanMake returns an error if the kernel has no links of a type. It requests one with an
// invalid MAC: the driver, if there is one, refuses the MAC before it makes anything
// (bond_validate, vlan_validate).
func (s *Namespace) CanMake(kind string) error {
	req := netlink.NewRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("mh-"+kind)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, make([]byte, 6)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	if err := s.conn.Do(req, nil); !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("%s: links of type %s: %w", s.ns, kind, err)
	}
	return nil
}

// nsFD returns a file descriptor of the namespace, for requests to another one.
func (s *Namespace) nsFD() int {
	if s.fd < 0 {
		return s.home
	}
	return s.fd
}

// deleteLink deletes a link. Before that it checks by alias or MAC that the link is still
// the one that was read: another link may have the name now.
func (k *Namespaces) deleteLink(s *Namespace, l netstate.Link) error {
	now, ok, err := s.fetchLink(l.Name)
	if err != nil || !ok {
		return err
	}
	if now.Type != l.Type || now.Alias != l.Alias && now.MAC != l.MAC && now.Alias != netstate.Unnamed {
		return fmt.Errorf("another link has this name now, and stays: %s", now.Link)
	}
	err = s.deleteIndex(now.Index)
	s.forget(l.Name)
	if l.Peer.Name != "" {
		k.Of(l.Peer.NS).forget(l.Peer.Name)
	}
	return err
}
