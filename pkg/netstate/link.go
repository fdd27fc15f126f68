// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// MAC is an Ethernet address. The zero MAC means none.
type MAC [6]byte

// ParseMAC reads six bytes in hexadecimal, separated by ':' or '-'.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	if len(s) != 17 {
		return m, fmt.Errorf("MAC %q: want six bytes like 02:00:5e:10:00:01", s)
	}
	for i := range m {
		if i > 0 && s[3*i-1] != ':' && s[3*i-1] != '-' {
			return MAC{}, fmt.Errorf("MAC %q: want six bytes like 02:00:5e:10:00:01", s)
		}
		if _, err := hex.Decode(m[i:i+1], []byte(s[3*i:3*i+2])); err != nil {
			return MAC{}, fmt.Errorf("MAC %q: %w", s, err)
		}
	}
	return m, nil
}

func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// End is the far end of a veth pair.
type End struct {
	NS   NS
	Name string
	MAC  MAC
}

// Link is a network interface. A zero MAC, MTU, TxQueueLen, Group, Alias, Type,
// Peer, Parent or Master in a plan leaves that attribute as it is. So does a
// false Up: no plan ever wants a link down. Attributes that Details do not name
// stay as they are, too.
type Link struct {
	Name       string
	AltNames   string // alternative names, separated by blanks; no plan changes them
	Type       string // IFLA_INFO_KIND: veth, macvlan, …; "" for a physical device
	MAC        MAC
	MTU        int // bytes
	TxQueueLen int // packets
	Group      int // IFLA_GROUP: rules of netfilter match all links of a group at once
	Up         bool
	Alias      string // IFLA_IFALIAS
	Peer       End    // of a veth, if its far end is in one of the two namespaces
	Parent     string // of a macvlan or vlan: the link below it, in the same namespace
	Master     string // bridge, bond or VRF that has the link as a port
	Details    Details
}

// AliasPrefix is the start of the ifalias of every link that this suite makes.
const AliasPrefix = "multihome:"

// Unnamed is the alias of a link of this suite that does not name its attachment:
// the process was killed after it made the link and before it set the alias.
const Unnamed = AliasPrefix + "new"

func (l Link) Kind() Kind     { return KindLink }
func (l Link) Key() Object    { return Link{Name: l.Name} }
func (l Link) Device() string { return "" }
func (l Link) Owned() bool    { return strings.HasPrefix(l.Alias, AliasPrefix) }

func (l Link) String() string {
	var b strings.Builder
	b.WriteString(l.Name)
	if l.Parent != "" {
		fmt.Fprintf(&b, " link %s", l.Parent)
	}
	if l.MAC != (MAC{}) {
		fmt.Fprintf(&b, " address %s", l.MAC)
	}
	if l.MTU != 0 {
		fmt.Fprintf(&b, " mtu %d", l.MTU)
	}
	if l.TxQueueLen != 0 {
		fmt.Fprintf(&b, " txqueuelen %d", l.TxQueueLen)
	}
	if l.Group != 0 {
		fmt.Fprintf(&b, " group %d", l.Group)
	}
	if l.Up {
		b.WriteString(" up")
	}
	if l.Master != "" {
		fmt.Fprintf(&b, " master %s", l.Master)
	}
	if l.Alias != "" {
		fmt.Fprintf(&b, " alias %q", l.Alias)
	}
	for _, name := range strings.Fields(l.AltNames) {
		fmt.Fprintf(&b, " altname %s", name)
	}
	if l.Type != "" {
		fmt.Fprintf(&b, " type %s", l.Type)
	}
	if l.Details != "" {
		fmt.Fprintf(&b, " %s", l.Details)
	}
	if l.Peer.Name != "" {
		fmt.Fprintf(&b, " peer name %s netns %s", l.Peer.Name, l.Peer.NS)
		if l.Peer.MAC != (MAC{}) {
			fmt.Fprintf(&b, " address %s", l.Peer.MAC)
		}
	}
	return b.String()
}

func (l Link) filledFrom(have Object) Object {
	h := have.(Link)
	l.AltNames = h.AltNames
	if l.Type == "" {
		l.Type = h.Type
	}
	if l.MAC == (MAC{}) {
		l.MAC = h.MAC
	}
	if l.MTU == 0 {
		l.MTU = h.MTU
	}
	if l.TxQueueLen == 0 {
		l.TxQueueLen = h.TxQueueLen
	}
	if l.Group == 0 {
		l.Group = h.Group
	}
	if !l.Up {
		l.Up = h.Up
	}
	if l.Alias == "" {
		l.Alias = h.Alias
	}
	if l.Peer.Name == "" || l.Peer.NS == h.Peer.NS && l.Peer.Name == h.Peer.Name {
		l.Peer = h.Peer // the far end has a Link of its own, which sets its MAC
	}
	if l.Parent == "" {
		l.Parent = h.Parent
	}
	if l.Master == "" {
		l.Master = h.Master
	}
	l.Details = h.Details.With(l.Details)
	return l
}

// NamedLink returns the link with this name or alternative name
// (IFLA_ALT_IFNAME). The kernel finds a link the same way (__dev_get_by_name of
// net/core/dev.c).
func NamedLink(s *Snapshot, ns NS, name string) (Link, bool) {
	if l, ok := Get(s, ns, Link{Name: name}); ok {
		return l, true
	}
	for _, l := range All[Link](s, ns) {
		if slices.Contains(strings.Fields(l.AltNames), name) {
			return l, true
		}
	}
	return Link{}, false
}

// RealName returns the real name of the link with this name or alternative name.
// Addresses and routes refer to their link by its real name. A name that no link
// has is returned unchanged.
func RealName(s *Snapshot, ns NS, name string) string {
	if l, ok := NamedLink(s, ns, name); ok {
		return l.Name
	}
	return name
}

// sameDevice reports whether two links of one name differ only in attributes that
// can be changed on an existing device.
func (l Link) sameDevice(o Link) bool {
	return l.Type == o.Type && l.Parent == o.Parent && l.Peer.NS == o.Peer.NS && l.Peer.Name == o.Peer.Name &&
		(l.Type != "vlan" || l.Details == o.Details)
}

// ThroughDown reports whether a link goes down and up again on the way from
// before to l. A bond refuses a new member that is up (bond_enslave), and takes
// down a member that leaves.
func (l Link) ThroughDown(before Link) bool { return before.Up && l.Master != before.Master }

// peerOf returns the far end of a veth as it is in a new pair.
func peerOf(ns NS, l Link) Link {
	return Link{
		Name: l.Peer.Name, Type: l.Type, MAC: l.Peer.MAC, MTU: l.MTU, TxQueueLen: l.TxQueueLen,
		Peer: End{NS: ns, Name: l.Name, MAC: l.MAC},
	}
}
