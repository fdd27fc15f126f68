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

// SkipStats is RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h: the kernel leaves out the
// counters, which are most of an answer about a link.
const SkipStats = 1 << 3

// nameLen is the greatest length of a link's name: IFNAMSIZ without the final zero.
const nameLen = unix.IFNAMSIZ - 1

// LinkRequest returns the request for one link, by its name or an alternative name, or for
// all links with name "".
func LinkRequest(name string) *nl.NetlinkRequest {
	req := netlink.NewRequest(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(SkipStats)))
	switch {
	case len(name) > nameLen: // only an alternative name can be that long (ALTIFNAMSIZ)
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
	Elsewhere   bool // LinkIndex is an index in another namespace
	NetnsID     int  // the ID of that namespace (IFLA_LINK_NETNSID)
	Loopback    bool
	ARP         bool   // an Ethernet link that resolves addresses by ARP and NDP
	Info        []byte // IFLA_INFO_DATA, for types that have details
	Settings    Settings
}

// GroupOfNew is the group (ip-link(8), GROUP) of a new link until its alias is set, which
// needs a second request. A link in this group without an alias is ours.
const GroupOfNew = 0x6d68 // "mh"

// DecodeLink decodes an answer to a LinkRequest.
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

// SetLink returns the request that sets attributes of the link with that name. Attributes
// that are zero stay as they are, except Up, which is always set.
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

// NewLink returns the request that makes a link, down and without its alias. The kernel
// ignores an alias in this request.
func NewLink(l netstate.Link) *nl.NetlinkRequest {
	l.Up, l.Alias = false, ""
	req := SetLink(l)
	req.Flags |= unix.NLM_F_CREATE | unix.NLM_F_EXCL
	if l.Group != 0 {
		req.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(l.Group))))
	}
	return req
}

// SetByIndex returns the request that sets a link's group, its alias unless that is empty,
// and whether it is up. Never set a group by a link's name: if no link has the name any
// more, older kernels apply the request to all links of the group (rtnl_group_changelink).
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

// AddLinkAttrs adds the MAC, MTU and length of the transmit queue of a link to a request,
// those that aren't zero. A link can be made with them.
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
