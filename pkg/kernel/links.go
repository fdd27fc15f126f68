// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// farLink is what a link says of one in another namespace, that it sits on or, of a
// veth, that is its far end. An ifindex means nothing without its namespace.
type farLink struct {
	index   int // of the link that says so
	far     int // IFLA_LINK
	netnsid int // IFLA_LINK_NETNSID
	veth    bool
}

// rtextSkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: leave out
// the counters, which are most of a link's answer.
const rtextSkipStats = 1 << 3

// nameLen is how long a link's name may be: IFNAMSIZ without the zero.
const nameLen = unix.IFNAMSIZ - 1

// linkRequest asks for one link, by any of its names, or for all with name "".
func linkRequest(name string) *nl.NetlinkRequest {
	req := request(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(rtextSkipStats)))
	switch {
	case len(name) > nameLen: // only another name can be that long (ALTIFNAMSIZ)
		req.AddData(nl.NewRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(name)))
	case name != "":
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	return req
}

// link is an answer to a linkRequest.
type link struct {
	netstate.Link
	index     int
	peer      int  // IFLA_LINK
	master    int  // IFLA_MASTER
	elsewhere bool // IFLA_LINK counts in another namespace
	netnsid   int  // of that one (IFLA_LINK_NETNSID)
	loopback  bool
	arp       bool   // an Ethernet link that resolves addresses by ARP and NDP
	info      []byte // IFLA_INFO_DATA of a type that has details
	settings  settings
}

// newGroup is the group (ip-link(8), GROUP) that a link is in between its making,
// which can't set an alias, and its alias: what is in it and has none is ours.
const newGroup = 0x6d68 // "mh"

// decodeLink reads an answer.
func decodeLink(b []byte) link {
	msg := nl.DeserializeIfInfomsg(b)
	l := link{index: int(msg.Index), loopback: msg.Flags&unix.IFF_LOOPBACK != 0}
	l.Up = msg.Flags&unix.IFF_UP != 0
	l.arp = msg.Type == unix.ARPHRD_ETHER && msg.Flags&unix.IFF_NOARP == 0
	attrs(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = unix.ByteSliceToString(v)
		case unix.IFLA_ADDRESS:
			copy(l.MAC[:], v)
		case unix.IFLA_MTU:
			l.MTU = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_TXQLEN:
			l.TxQueueLen = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_GROUP:
			l.Group = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_IFALIAS:
			l.Alias = unix.ByteSliceToString(v)
		case unix.IFLA_LINK:
			l.peer = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_MASTER:
			l.master = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_LINK_NETNSID:
			l.elsewhere, l.netnsid = true, int(int32(nl.NativeEndian().Uint32(v)))
		case unix.IFLA_PROP_LIST:
			attrs(v, func(typ uint16, v []byte) {
				if typ == unix.IFLA_ALT_IFNAME {
					l.AltNames = strings.TrimSpace(l.AltNames + " " + unix.ByteSliceToString(v))
				}
			})
		case unix.IFLA_LINKINFO:
			attrs(v, func(typ uint16, v []byte) {
				switch {
				case typ == unix.IFLA_INFO_KIND:
					l.Type = unix.ByteSliceToString(v)
				case typ == unix.IFLA_INFO_DATA && netstate.HasDetails(l.Type):
					l.info = slices.Clone(v) // the buffer is used again
				}
			})
		case unix.IFLA_AF_SPEC:
			l.settings = decodeSettings(v)
		}
	})
	if l.Group == newGroup && l.Alias == "" {
		l.Group, l.Alias = 0, netstate.Unnamed
	}
	return l
}

// remember keeps what operations need of a link.
func (s *Space) remember(l link) {
	s.index[l.Name] = l.index
	s.name[l.index] = l.Name
	s.settings[l.Name] = l.settings
	if l.elsewhere {
		s.ends[l.Name] = farLink{l.index, l.peer, l.netnsid, l.Type == "veth"}
	}
}

func (s *Space) forget(name string) {
	delete(s.name, s.index[name])
	delete(s.index, name)
	delete(s.ends, name)
	delete(s.settings, name)
}

// fetchLink asks for one link; ok is false if there is none of that name.
func (s *Space) fetchLink(name string) (l link, ok bool, err error) {
	err = s.conn.do(linkRequest(name), func(b []byte) { l = decodeLink(b) })
	if errors.Is(err, unix.ENODEV) {
		return link{}, false, nil
	}
	if err != nil {
		return link{}, false, fmt.Errorf("%s: read link %s: %w", s.ns, name, err)
	}
	s.remember(l)
	return l, true, nil
}

// ReadLink puts the link of that name into the snapshot, if there is one.
func (s *Space) ReadLink(snap *netstate.Snapshot, name string) error {
	l, ok, err := s.fetchLink(name)
	if err == nil && ok {
		err = s.resolve(&l)
	}
	if err == nil && ok {
		snap.Put(s.ns, l.Link)
	}
	return err
}

// resolve puts names for the links that a link names by their ifindex.
func (s *Space) resolve(l *link) (err error) {
	if l.peer != 0 && !l.elsewhere && l.Type != "veth" {
		if l.Parent, _, err = s.linkName(l.peer); err != nil {
			return err
		}
	}
	if l.master != 0 {
		if l.Master, _, err = s.linkName(l.master); err != nil {
			return err
		}
	}
	l.Details, err = s.decodeDetails(l.Type, l.info)
	return err
}

// ReadLinks puts all links into the snapshot.
func (s *Space) ReadLinks(snap *netstate.Snapshot) error {
	links, err := s.links(linkRequest(""))
	for _, l := range links {
		snap.Put(s.ns, l.Link)
	}
	return err
}

// ReadType puts the links of a type into the snapshot; the kernel does the filtering.
func (s *Space) ReadType(snap *netstate.Snapshot, kind string) error {
	req := linkRequest("")
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

// ReadMembers puts the links that have this one as their master into the
// snapshot; the kernel does the filtering.
func (s *Space) ReadMembers(snap *netstate.Snapshot, master string) error {
	index, err := s.linkIndex(master)
	if err != nil {
		return fmt.Errorf("%s: link %s: %w", s.ns, master, err)
	}
	req := linkRequest("")
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(index))))
	links, err := s.links(req)
	for _, l := range links {
		if l.master == index {
			snap.Put(s.ns, l.Link)
		}
	}
	return err
}

// answers returns all links, without names for the links that they name.
func (s *Space) answers() ([]link, error) { return s.linksOf(linkRequest("")) }

func (s *Space) linksOf(req *nl.NetlinkRequest) ([]link, error) {
	links, err := dump(s.conn, req, func(b []byte) (link, bool) { return decodeLink(b), true })
	if err != nil {
		return nil, fmt.Errorf("%s: list links: %w", s.ns, err)
	}
	for _, l := range links {
		s.remember(l)
	}
	return links, nil
}

func (s *Space) links(req *nl.NetlinkRequest) ([]link, error) {
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

// Owned returns the links of the namespace that carry this suite's mark.
func (s *Space) Owned() ([]netstate.Link, error) {
	links, err := s.links(linkRequest(""))
	var out []netstate.Link
	for _, l := range links {
		if l.Link.Owned() {
			out = append(out, l.Link)
		}
	}
	return out, err
}

// onNode reports whether the link that one of the pod's names is the node's: the
// namespace that it is in has the ID that the pod has for the node's.
func (k *Kernel) onNode(f farLink) (bool, error) {
	if k.Pod.hostID == nil {
		req := request(unix.RTM_GETNSID, 0, nl.NewRtGenMsg())
		req.AddData(nl.NewRtAttr(unix.NETNSA_FD, nl.Uint32Attr(uint32(k.Host.nsFD()))))
		id := unix.NETNSA_NSID_NOT_ASSIGNED
		err := k.Pod.conn.do(req, func(b []byte) {
			attrs(b[unix.NLMSG_ALIGNTO:], func(typ uint16, v []byte) {
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

// Pair records in the snapshot that two veths that were read are the ends of
// one pair, if they are: each must name the other's ifindex, and the pod's the
// node's namespace.
func (k *Kernel) Pair(snap *netstate.Snapshot, host, pod string) error {
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

// ReadPeer puts the host end of a pod's veth into the snapshot, and notes at
// both that they are a pair. A link that isn't a veth to the node has none.
func (k *Kernel) ReadPeer(snap *netstate.Snapshot, podDev string) error {
	end, ok := k.Pod.ends[podDev]
	if !ok || !end.veth {
		return nil
	}
	if ok, err := k.onNode(end); err != nil || !ok {
		return err
	}
	l, ok, err := k.Host.fetchIndex(end.far)
	if err != nil || !ok || l.Type != "veth" || l.peer != end.index {
		return err
	}
	if l.master != 0 {
		if l.Master, _, err = k.Host.linkName(l.master); err != nil {
			return err
		}
		// It is by the bridge that the node has routes to the pod.
		if err := k.Host.ReadLink(snap, l.Master); err != nil {
			return err
		}
	}
	snap.Put(netstate.Host, l.Link)
	return k.Pair(snap, l.Name, podDev)
}

// ReadParent puts the node's link that one of the pod's sits on into the
// snapshot, and returns its name, "" if there is none.
func (k *Kernel) ReadParent(snap *netstate.Snapshot, podDev string) (string, error) {
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

// linkIndex returns the ifindex of a link, asking the kernel at most once.
func (s *Space) linkIndex(name string) (int, error) {
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
	return l.index, nil
}

// linkName returns the name of a link by its ifindex, asking at most once. ok
// is false for a link that has gone in the meantime.
func (s *Space) linkName(index int) (name string, ok bool, err error) {
	if n, ok := s.name[index]; ok {
		return n, true, nil
	}
	l, ok, err := s.fetchIndex(index)
	return l.Name, ok, err
}

// fetchIndex asks for one link by its ifindex; ok is false if there is none.
func (s *Space) fetchIndex(index int) (l link, ok bool, err error) {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index = int32(index)
	req := request(unix.RTM_GETLINK, 0, body)
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(rtextSkipStats)))
	err = s.conn.do(req, func(b []byte) { l = decodeLink(b) })
	if errors.Is(err, unix.ENODEV) {
		return link{}, false, nil
	}
	if err != nil {
		return link{}, false, fmt.Errorf("%s: read link %d: %w", s.ns, index, err)
	}
	s.remember(l)
	return l, true, nil
}

// applyLink adds, changes or deletes a link.
func (k *Kernel) applyLink(s *Space, op netstate.Op) error {
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

// changeLink sets what differs. On the way to another master the link is taken
// down first, and whatever comes of that, it is set up again if it shall be: the
// requests go out as one. In a single request it would be up before it had its
// master (do_setlink).
func (s *Space) changeLink(before, after netstate.Link) error {
	if after.Group != before.Group || before.Alias == netstate.Unnamed {
		index, err := s.linkIndex(after.Name)
		if err == nil {
			err = s.conn.do(setByIndex(index, netstate.Link{Group: after.Group, Up: before.Up}), nil)
		}
		if err != nil {
			return err
		}
	}
	c := changes(before, after)
	c.Up = c.Up && after.Master == before.Master
	set := setLink(c)
	if after.Details != before.Details {
		info, err := s.linkInfo(after.Type, after.Details.Since(before.Details), before.Details.Without(after.Details))
		if err != nil {
			return err
		}
		set.AddData(info)
	}
	if after.Master == before.Master {
		return s.conn.do(set, nil)
	}
	master := 0
	if after.Master != "" {
		var err error
		if master, err = s.linkIndex(after.Master); err != nil {
			return fmt.Errorf("link %s: %w", after.Master, err)
		}
	}
	set.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(master))))
	again := setLink(netstate.Link{Name: after.Name, Up: before.Up && after.Up})
	err := s.conn.do(setLink(netstate.Link{Name: after.Name}), nil, set, again)
	if err == nil && after.Up && !before.Up {
		err = s.conn.do(setLink(netstate.Link{Name: after.Name, Up: true}), nil)
	}
	return err
}

// changes returns the link with only what differs from before.
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

// setLink is the request that gives a link of that name these attributes; a
// zero one stays as it is, but Up is always set.
func setLink(l netstate.Link) *nl.NetlinkRequest {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Change = unix.IFF_UP
	if l.Up {
		body.Flags = unix.IFF_UP
	}
	req := request(unix.RTM_NEWLINK, 0, body)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Name)))
	addLinkAttrs(req.AddData, l)
	if l.Alias != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(l.Alias)))
	}
	return req
}

// newLink is the request that makes a link, down and without its alias, which
// can't be set in it.
func newLink(l netstate.Link) *nl.NetlinkRequest {
	l.Up, l.Alias = false, ""
	req := setLink(l)
	req.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if l.Group != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(l.Group))))
	}
	return req
}

// setByIndex is the request that sets the group of a link, its alias unless that is
// empty, and whether it is up. A group is never set by a link's name: with one that
// nobody has any more, older kernels take the group for the links that the request
// is about (rtnl_group_changelink).
func setByIndex(index int, l netstate.Link) *nl.NetlinkRequest {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index, body.Change = int32(index), unix.IFF_UP
	if l.Up {
		body.Flags = unix.IFF_UP
	}
	req := request(unix.RTM_NEWLINK, 0, body)
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(l.Group))))
	if l.Alias != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(l.Alias)))
	}
	return req
}

// addLinkAttrs adds those attributes of a link that it can be made with, as far as they
// are known.
func addLinkAttrs(add func(nl.NetlinkRequestData), l netstate.Link) {
	if l.MAC != (netstate.MAC{}) {
		add(nl.NewRtAttr(unix.IFLA_ADDRESS, l.MAC[:]))
	}
	if l.MTU != 0 {
		add(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(l.MTU))))
	}
	if l.TxQueueLen != 0 {
		add(nl.NewRtAttr(unix.IFLA_TXQLEN, nl.Uint32Attr(uint32(l.TxQueueLen))))
	}
}

// addVeth makes a pair, with both MACs in the message that creates it: udev
// gives a new link whose address nobody set one of its own (systemd.link(5),
// MACAddressPolicy=). The alias can't be set at creation (rtnl_create_link
// doesn't look at it), so a second message does that; they go out as one, and
// no kill can leave a link without the alias by which GC knows it. The second
// reaches whatever has the name: that there is no such link was seen under the
// pod's lock, and no other pod's link has that name.
func (k *Kernel) addVeth(s *Space, l netstate.Link) error {
	req := newLink(l)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(l.Type))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Peer.Name))
	far := netstate.Link{MAC: l.Peer.MAC, MTU: l.MTU, TxQueueLen: l.TxQueueLen}
	addLinkAttrs(func(d nl.NetlinkRequestData) { peer.AddChild(d) }, far)
	if other := k.Space(l.Peer.NS); other != s {
		peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(other.nsFD())))
	}
	req.AddData(info)
	var made link
	// Asked for while it is down: of one that is up and has no carrier yet, the
	// kernel would tell all who listen first (linkwatch_sync_dev), and IPv6 would
	// go through all of the node's routes.
	err := s.conn.do(req, func(b []byte) { made = decodeLink(b) }, linkRequest(l.Name), setLink(netstate.Link{Name: l.Name, Alias: l.Alias, Up: l.Up}))
	if made.index != 0 {
		s.remember(made)
		k.Space(l.Peer.NS).remember(link{Link: netstate.Link{Name: l.Peer.Name}, index: made.peer})
	}
	return err
}

// addShared makes a vlan, a bond or a macvlan. Until it is known to be made, nothing
// may be said to a link of that name, which could be another's: the alias comes
// after, and until then the group tells whose it is.
func (s *Space) addShared(l netstate.Link) error {
	create := l
	create.Group = newGroup
	req := newLink(create)
	if l.Parent != "" {
		index, err := s.linkIndex(l.Parent)
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
	var made link
	if err := s.conn.do(req, func(b []byte) { made = decodeLink(b) }, linkRequest(l.Name)); err != nil {
		return err
	}
	err = s.conn.do(setByIndex(made.index, l), nil)
	if err == nil {
		s.remember(made)
		err = s.resolve(&made)
	}
	if err == nil {
		err = unheard(l.Details, made.Details)
	}
	if err == nil {
		return nil
	}
	// Without its alias it would not be known as ours by anybody but us, now.
	made, ok, gone := s.fetchLink(l.Name)
	if ok {
		gone = s.deleteIndex(made.index)
		s.forget(l.Name)
	}
	return errors.Join(err, gone)
}

// unheard is the error for details that were asked for and not set: a kernel
// passes over those that it is too old for. A member can only be named once it
// is one (bond_fill_info).
func unheard(want, got netstate.Details) error {
	for name, value := range want.Since(got).All() {
		if o, _ := netstate.FindBondOption(name); o.Form != netstate.BondLink {
			return fmt.Errorf("%s %s: %w by this kernel", name, value, unix.EOPNOTSUPP)
		}
	}
	return nil
}

func (s *Space) deleteIndex(index int) error {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index = int32(index)
	return s.conn.do(request(unix.RTM_DELLINK, 0, body), nil)
}

// CanMake returns an error if the kernel has no links of a type. It asks for one
// with a MAC that no link can have: the driver, if there is one, says so before
// anything is made (bond_validate, vlan_validate).
func (s *Space) CanMake(kind string) error {
	req := request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("mh-"+kind)))
	req.AddData(nl.NewRtAttr(unix.IFLA_ADDRESS, make([]byte, 6)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	req.AddData(info)
	if err := s.conn.do(req, nil); !errors.Is(err, unix.EADDRNOTAVAIL) {
		return fmt.Errorf("%s: links of type %s: %w", s.ns, kind, err)
	}
	return nil
}

// nsFD is the namespace as another one names it.
func (s *Space) nsFD() int {
	if s.fd < 0 {
		return s.home
	}
	return s.fd
}

// deleteLink deletes a link after making sure that it is still the one that was
// looked at, by its alias or its MAC: a name may have a new owner by now.
func (k *Kernel) deleteLink(s *Space, l netstate.Link) error {
	now, ok, err := s.fetchLink(l.Name)
	if err != nil || !ok {
		return err
	}
	if now.Type != l.Type || now.Alias != l.Alias && now.MAC != l.MAC && now.Alias != netstate.Unnamed {
		return fmt.Errorf("it is %s by now", now.Link)
	}
	err = s.deleteIndex(now.index)
	s.forget(l.Name)
	if l.Peer.Name != "" {
		k.Space(l.Peer.NS).forget(l.Peer.Name)
	}
	return err
}
