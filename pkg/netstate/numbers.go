// SPDX-License-Identifier: Apache-2.0

package netstate

// These are all the numbers that this suite uses. Other software on the node and
// in pods uses numbers, too. So there are gaps, and ADD checks that a table is
// free before it takes it.
//
// Rules, by priority. The kernel evaluates the lowest first:
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
// In a pod the tables are only preferred numbers. If other software or another
// plugin of ours uses a table, ADD takes the next free one from 100 or 101 on.
// Our rule for the table tells its number.
const (
	// HostRulePriority is the default priority of the node's rule for the way to
	// pods.
	HostRulePriority = 1000
	// ReplyPriority is the priority of the rule for replies to the node.
	ReplyPriority = 32763
	// FromPriority is the priority of the rules from an address to its NIC's own
	// table.
	FromPriority = 32764
	// LatePriority is the priority of the rules after those: to a table that the
	// configuration names, and veth's to a NIC's subnet.
	LatePriority = 32765

	// HostTable is the default table of the node's way to pods.
	HostTable = 500
	// ReplyTable routes replies to the node. The first NIC's own table is one
	// less. Tables of further NICs begin at one more.
	ReplyTable = 100
	// OlderReplyTable is veth's table for replies to the node.
	OlderReplyTable = 99
	// RouteTable is the first table of plugin route.
	RouteTable = 100

	// ReplyMark is the default bit of the packet mark of replies. No other bit is
	// ever touched. kube-proxy uses 0x4000 (--iptables-masquerade-bit 14).
	ReplyMark = 0x10000000
)

// Protocols mark our routes (rtm_protocol) and rules (FRA_PROTOCOL). Each plugin
// that makes any has a number of its own, and knows its objects by it. None of
// the numbers is in linux/rtnetlink.h or in iproute2's rt_protos. The drop-in
// deploy/rt_protos.d/multihome.conf gives them their names.
const (
	ProtoCoordinator Protocol = 109 // also of veth, which is coordinator under another name
	ProtoRoute       Protocol = 110
)

// SourceGroup is the group of the links whose packets the SourceCheck checks.
const SourceGroup = 109

// Protocols of linux/rtnetlink.h.
const (
	ProtoKernel Protocol = 2 // RTPROT_KERNEL: routes that the kernel makes from addresses
	protoBoot   Protocol = 3 // RTPROT_BOOT: ip(8)'s default, which it does not print
	ProtoRA     Protocol = 9 // RTPROT_RA: routes from router advertisements
)

// Tables of linux/rtnetlink.h.
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255
)
