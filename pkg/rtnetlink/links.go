// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// SkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: leave out
// the counters, which are most of a link's answer.
const SkipStats = 1 << 3

// nameLen is how long a link's name may be: IFNAMSIZ without the zero.
const nameLen = unix.IFNAMSIZ - 1

// LinkRequest asks for one link, by any of its names, or for all with name "".
func LinkRequest(name string) *nl.NetlinkRequest {
	req := netlink.NewRequest(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(SkipStats)))
	switch {
	case len(name) > nameLen: // only another name can be that long (ALTIFNAMSIZ)
		req.AddData(nl.NewRtAttr(unix.IFLA_ALT_IFNAME, nl.ZeroTerminated(name)))
	case name != "":
		req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	}
	return req
}

// Link is an answer to a LinkRequest.
type Link struct {
	netstate.Link
	Index       int
	LinkIndex   int  // IFLA_LINK
	MasterIndex int  // IFLA_MASTER
	Elsewhere   bool // IFLA_LINK counts in another namespace
	NetnsID     int  // of that one (IFLA_LINK_NETNSID)
	Loopback    bool
	ARP         bool   // an Ethernet link that resolves addresses by ARP and NDP
	Info        []byte // IFLA_INFO_DATA of a type that has details
	Settings    Settings
}

// GroupOfNew is the group (ip-link(8), GROUP) that a link is in between its making,
// which can't set an alias, and its alias: what is in it and has none is ours.
const GroupOfNew = 0x6d68 // "mh"

// DecodeLink reads an answer.
func DecodeLink(b []byte) Link {
	msg := nl.DeserializeIfInfomsg(b)
	l := Link{Index: int(msg.Index), Loopback: msg.Flags&unix.IFF_LOOPBACK != 0}
	l.Up = msg.Flags&unix.IFF_UP != 0
	l.ARP = msg.Type == unix.ARPHRD_ETHER && msg.Flags&unix.IFF_NOARP == 0
	netlink.Attrs(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
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
			l.LinkIndex = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_MASTER:
			l.MasterIndex = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_LINK_NETNSID:
			l.Elsewhere, l.NetnsID = true, int(int32(nl.NativeEndian().Uint32(v)))
		case unix.IFLA_PROP_LIST:
			netlink.Attrs(v, func(typ uint16, v []byte) {
				if typ == unix.IFLA_ALT_IFNAME {
					l.AltNames = strings.TrimSpace(l.AltNames + " " + unix.ByteSliceToString(v))
				}
			})
		case unix.IFLA_LINKINFO:
			netlink.Attrs(v, func(typ uint16, v []byte) {
				switch {
				case typ == unix.IFLA_INFO_KIND:
					l.Type = unix.ByteSliceToString(v)
				case typ == unix.IFLA_INFO_DATA && netstate.HasDetails(l.Type):
					l.Info = slices.Clone(v) // the buffer is used again
				}
			})
		case unix.IFLA_AF_SPEC:
			l.Settings = decodeSettings(v)
		}
	})
	if l.Group == GroupOfNew && l.Alias == "" {
		l.Group, l.Alias = 0, netstate.Unnamed
	}
	return l
}

// SetLink is the request that gives a link of that name these attributes; a
// zero one stays as it is, but Up is always set.
func SetLink(l netstate.Link) *nl.NetlinkRequest {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Change = unix.IFF_UP
	if l.Up {
		body.Flags = unix.IFF_UP
	}
	req := netlink.NewRequest(unix.RTM_NEWLINK, 0, body)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(l.Name)))
	AddLinkAttrs(req.AddData, l)
	if l.Alias != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(l.Alias)))
	}
	return req
}

// NewLink is the request that makes a link, down and without its alias, which
// can't be set in it.
func NewLink(l netstate.Link) *nl.NetlinkRequest {
	l.Up, l.Alias = false, ""
	req := SetLink(l)
	req.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if l.Group != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(l.Group))))
	}
	return req
}

// SetByIndex is the request that sets the group of a link, its alias unless that is
// empty, and whether it is up. A group is never set by a link's name: with one that
// nobody has any more, older kernels take the group for the links that the request
// is about (rtnl_group_changelink).
func SetByIndex(index int, l netstate.Link) *nl.NetlinkRequest {
	body := nl.NewIfInfomsg(unix.AF_UNSPEC)
	body.Index, body.Change = int32(index), unix.IFF_UP
	if l.Up {
		body.Flags = unix.IFF_UP
	}
	req := netlink.NewRequest(unix.RTM_NEWLINK, 0, body)
	req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(l.Group))))
	if l.Alias != "" {
		req.AddData(nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(l.Alias)))
	}
	return req
}

// AddLinkAttrs adds those attributes of a link that it can be made with, as far as they
// are known.
func AddLinkAttrs(add func(nl.NetlinkRequestData), l netstate.Link) {
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
