// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"net/netip"
)

// NS names a network namespace by its role in an attachment.
type NS string

const (
	Host NS = "host" // of the node, where the plugin is started
	Pod  NS = "pod"  // of CNI_NETNS
)

// Kind is the type of an object, by its name in ip(8), sysctl(8), nft(8) or
// iptables(8).
type Kind string

// The kinds of object.
const (
	KindLink   Kind = "link"
	KindAddr   Kind = "addr"
	KindRoute  Kind = "route"
	KindRule   Kind = "rule"
	KindNeigh  Kind = "neigh"
	KindSysctl Kind = "sysctl"

	// The kinds of a Mark, by its backend and family.
	KindNft       Kind = "nft"
	KindIptables  Kind = "iptables"
	KindIP6tables Kind = "ip6tables"
)

// Object is one thing that the kernel holds in a network namespace. Objects are
// comparable values: two describe the same state if and only if they are ==.
type Object interface {
	Kind() Kind
	// Key returns the object reduced to the fields by which the kernel
	// distinguishes it from others of its kind.
	Key() Object
	// Device names the link that the object is deleted with, "" if there is
	// none.
	Device() string
	// Owned reports whether the object carries a mark of this suite. The Proto
	// of a rule or route tells the plugin.
	Owned() bool
	// String returns the object in the syntax of ip(8), nft(8) or sysctl(8).
	String() string
}

// partial is an object that may leave attributes open. filledFrom returns it with
// the open attributes taken from have, which has the same key.
type partial interface {
	filledFrom(have Object) Object
}

// fill returns want with the attributes that it leaves open taken from have.
func fill(want, have Object) Object {
	if p, ok := want.(partial); ok {
		return p.filledFrom(have)
	}
	return want
}

// keyInNamespace identifies an object of a snapshot.
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

// Ours reports whether the number belongs to a plugin of this suite.
func (p Protocol) Ours() bool { return p == ProtoCoordinator || p == ProtoRoute }

func (p Protocol) String() string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return fmt.Sprint(uint8(p))
}

// tableName returns a table as ip(8) prints it.
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

// Single returns the prefix that holds only the address: /32 or /128.
func Single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// prefixText returns a prefix as ip(8) prints it: "default" for all addresses, and
// no length for a single address.
func prefixText(p netip.Prefix) string {
	switch {
	case p.Bits() == 0:
		return "default"
	case p.IsSingleIP():
		return p.Addr().String()
	}
	return p.String()
}
