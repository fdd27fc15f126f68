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
	// Owned reports whether the object carries a mark of this suite. Whose of its
	// plugins it is, the Proto of a rule or route tells.
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

// keyInNamespace is a key in a namespace.
type keyInNamespace struct {
	ns  NS
	key Object
}

// Protocol is a routing protocol number of linux/rtnetlink.h.
type Protocol uint8

var protoNames = map[Protocol]string{
	0: "unspec", 1: "redirect", ProtoKernel: "kernel", protoBoot: "boot", 4: "static", ProtoRA: "ra", 16: "dhcp",
	ProtoCoordinator: "multihome", ProtoRoute: "multihome-route",
}

// Ours reports whether the number is one of this suite's.
func (p Protocol) Ours() bool { return p == ProtoCoordinator || p == ProtoRoute }

func (p Protocol) String() string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return fmt.Sprint(uint8(p))
}

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
