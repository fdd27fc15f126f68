// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// MAC is an Ethernet address; the zero MAC means that none is given.
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
// Peer, Parent or Master in a plan leaves that attribute as it is, and so does Up
// when it is false: nothing here ever wants a link down. Details leave open what
// they don't name.
type Link struct {
	Name       string
	AltNames   string // other names of it, separated by blanks; no plan changes them
	Type       string // IFLA_INFO_KIND: veth, macvlan, …; "" for a physical device
	MAC        MAC
	MTU        int // bytes
	TxQueueLen int // packets
	Group      int // IFLA_GROUP: links that rules of netfilter have in common
	Up         bool
	Alias      string // IFLA_IFALIAS
	Peer       End    // of a veth, where it is in one of the two namespaces
	Parent     string // of a macvlan or vlan: the link it sits on, in the same namespace
	Master     string // the bridge, bond or VRF it is a port of
	Details    Details
}

// AliasPrefix begins the ifalias of every link this suite makes.
const AliasPrefix = "multihome:"

// Unnamed is the alias that stands for the lack of one: the link was made by this
// suite, and whoever made it was killed before it could say for whom.
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

func (l Link) over(have Object) Object {
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
		l.Peer = h.Peer // its MAC is the business of the far end's own Link
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

// NamedLink returns the link of that name, which may be one of its other names
// (IFLA_ALT_IFNAME), as the kernel finds it (__dev_get_by_name of net/core/dev.c).
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

// RealName returns the name by which all that is on a link names it; a name that no
// link has stays as it is.
func RealName(s *Snapshot, ns NS, name string) string {
	if l, ok := NamedLink(s, ns, name); ok {
		return l.Name
	}
	return name
}

// sameDevice reports whether two links of one name differ only in what can be
// changed on a living device.
func (l Link) sameDevice(o Link) bool {
	return l.Type == o.Type && l.Parent == o.Parent && l.Peer.NS == o.Peer.NS && l.Peer.Name == o.Peer.Name &&
		(l.Type != "vlan" || l.Details == o.Details)
}

// ThroughDown reports whether a link goes down and up again on the way from
// before to l: a bond takes none as a member that is up (bond_enslave), and one
// that leaves is taken down.
func (l Link) ThroughDown(before Link) bool { return before.Up && l.Master != before.Master }

// peerOf returns the far end of a veth as it is right after the pair was made.
func peerOf(ns NS, l Link) Link {
	return Link{
		Name: l.Peer.Name, Type: l.Type, MAC: l.Peer.MAC, MTU: l.MTU, TxQueueLen: l.TxQueueLen,
		Peer: End{NS: ns, Name: l.Name, MAC: l.MAC},
	}
}
