// SPDX-License-Identifier: Apache-2.0

package netstate

// The numbers that this suite uses, all of them. A node and a pod hold those of
// other software too, so there is room for that, and an ADD looks whether a table
// is somebody else's before it takes it.
//
// Rules, by priority. The kernel looks at the lowest first:
//
//	        on the node                       in a pod
//	0       all lookup local, the kernel's    the same
//	1…      for admins: before our pods       for admins: before all of ours
//	1000    all lookup 500: the way to pods   for admins
//	        (hostRulePriority)
//	…       for admins: behind our pods       for admins, to 32762
//	32763   for admins                        coordinator: fwmark, replies to what the node sent
//	32764   for admins                        from an address of a NIC: its own table
//	32765   for admins                        route with "table": from an address; veth: to a NIC's subnet
//	32766   all lookup main, the kernel's     the same
//	32767   all lookup default, the kernel's  the same
//
// Routing tables:
//
//	        on the node                       in a pod
//	1…97    for admins                        for admins
//	98      for admins                        veth: the first NIC's own
//	99      for admins                        coordinator: the first NIC's own; veth: replies
//	100     for admins                        coordinator: replies, or the own table of an eth0 that an
//	                                          overlay made; route and veth: NICs, from here on
//	101…    for admins                        coordinator: NICs, from here on, to 252
//	253…255 the kernel's                      the kernel's
//	256…    for admins                        for admins
//	500     the way to pods (hostRuleTable)   for admins
//
// In a pod each is a wish: where somebody else uses a table, or another plugin of
// ours, the next free one from 100 or 101 on is taken. A rule of ours tells which
// one it is.
const (
	// HostRulePriority is that of the node's rule for the way to pods, unless the
	// configuration says otherwise.
	HostRulePriority = 1000
	// ReplyPriority is that of the rule for replies to what the node sent.
	ReplyPriority = 32763
	// FromPriority is that of the rules from an address to its NIC's own table.
	FromPriority = 32764
	// LatePriority is that of the rules that come after those: to a table that the
	// configuration names, and the older veth's to a NIC's subnet.
	LatePriority = 32765

	// HostTable holds the node's way to pods, unless the configuration says
	// otherwise.
	HostTable = 500
	// ReplyTable leads to the node what replies to it. One less is the first NIC's
	// own, one more is where tables of further NICs begin.
	ReplyTable = 100
	// OlderReplyTable is the same for veth.
	OlderReplyTable = 99
	// RouteTable is where the tables of route begin.
	RouteTable = 100

	// ReplyMark is the bit of the packet mark that replies have, unless the
	// configuration says otherwise. No other bit is ever touched; kube-proxy's is
	// 0x4000 (--iptables-masquerade-bit 14).
	ReplyMark = 0x10000000
)

// Protocols are the marks of our routes (rtm_protocol) and rules (FRA_PROTOCOL),
// one for each plugin that makes any, by which each knows its own. They are none
// of those in linux/rtnetlink.h or iproute2's rt_protos; the drop-in
// deploy/rt_protos.d/multihome.conf gives them their names.
const (
	ProtoCoordinator Protocol = 109 // and veth, which is coordinator by another name
	ProtoRoute       Protocol = 110
)

// SourceGroup is the group of the links that the SourceCheck is about.
const SourceGroup = 109

// Protocols of linux/rtnetlink.h: RTPROT_KERNEL, which the kernel gives the routes
// it makes of addresses, RTPROT_BOOT, what ip(8) gives a route when nothing is
// said, and what it therefore doesn't print, and RTPROT_RA, which the kernel gives
// those out of router advertisements.
const (
	ProtoKernel Protocol = 2
	protoBoot   Protocol = 3
	ProtoRA     Protocol = 9
)

// Tables of linux/rtnetlink.h.
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255
)
