// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"net/netip"
)

// NS names a network namespace by the part it plays in an attachment.
type NS string

const (
	Host NS = "host" // the node's: the one the plugin is started in
	Pod  NS = "pod"  // the one CNI_NETNS names
)

// Kind is the word ip(8), sysctl(8), nft(8) or iptables(8) uses for a sort of
// object.
type Kind string

// The kinds of object there are, by the names ip(8), sysctl(8), nft(8) and
// iptables(8) give them.
const (
	KindLink   Kind = "link"
	KindAddr   Kind = "addr"
	KindRoute  Kind = "route"
	KindRule   Kind = "rule"
	KindNeigh  Kind = "neigh"
	KindSysctl Kind = "sysctl"

	// Those of a Mark, by its backend.
	KindNft       Kind = "nft"
	KindIptables  Kind = "iptables"
	KindIP6tables Kind = "ip6tables"
)

// Object is one thing the kernel holds in a network namespace. Objects are
// comparable values: two are the same state if and only if they are ==.
type Object interface {
	Kind() Kind
	// Key is the object reduced to the fields by which the kernel tells it
	// from others of its kind.
	Key() Object
	// Device names the link that takes the object along when it goes, "" if
	// none does.
	Device() string
	// Owned reports whether the object carries the mark of this suite.
	Owned() bool
	// String is the object in the syntax of ip(8), nft(8) or sysctl(8).
	String() string
}

// partial is an object that leaves attributes open: over returns it with those
// taken from have, which has the same key. An object that is not partial says
// everything.
type partial interface {
	over(have Object) Object
}

// over returns want with the attributes it leaves open taken from have.
func over(want, have Object) Object {
	if p, ok := want.(partial); ok {
		return p.over(have)
	}
	return want
}

// ref is a key in a namespace.
type ref struct {
	ns  NS
	key Object
}

// Proto is the number that marks our routes (rtm_protocol) and rules
// (FRA_PROTOCOL). It is none of those in linux/rtnetlink.h or iproute2's
// rt_protos; the drop-in deploy/rt_protos.d/multihome.conf gives it its name.
const Proto = 109

// Protocol is a routing protocol number of linux/rtnetlink.h.
type Protocol uint8

// protoBoot is RTPROT_BOOT, what ip(8) gives a route when nothing is said, and
// what it therefore doesn't print.
const protoBoot Protocol = 3

var protoNames = map[Protocol]string{
	0: "unspec", 1: "redirect", 2: "kernel", protoBoot: "boot", 4: "static", 9: "ra", 16: "dhcp", Proto: "multihome",
}

func (p Protocol) String() string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return fmt.Sprint(uint8(p))
}

// Tables of linux/rtnetlink.h.
const (
	TableDefault = 253
	TableMain    = 254
	TableLocal   = 255
)

// tableName is a table as ip(8) prints it.
func tableName(t int) string {
	switch t {
	case TableMain:
		return "main"
	case TableLocal:
		return "local"
	case TableDefault:
		return "default"
	}
	return fmt.Sprint(t)
}

// Single returns the prefix that holds the address alone: /32 or /128.
func Single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// prefixText is a prefix as ip(8) prints it: "default" for everything, an
// address without its length when it stands for itself alone.
func prefixText(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
