// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// numbered lists the settings that are read from the answer about their link, with their
// places in it: IPV4_DEVCONF_* of linux/ip.h, which begin with 1, and DEVCONF_* of
// linux/ipv6.h. Reading them from files gets slower with the number of namespaces: files of
// one name in all namespaces are in one hash chain of the kernel's cache
// (proc_sys_compare).
var numbered = [...]struct {
	family netstate.Family
	name   string
	place  int
}{
	{netstate.IPv4, "forwarding", 0},
	{netstate.IPv4, "send_redirects", 5},
	{netstate.IPv4, "rp_filter", 7},
	{netstate.IPv4, "arp_announce", 17},
	{netstate.IPv4, "arp_ignore", 18},
	{netstate.IPv4, "arp_notify", 21},
	{netstate.IPv4, "accept_local", 22},
	{netstate.IPv4, "src_valid_mark", 23},
	{netstate.IPv4, "route_localnet", 25},
	{netstate.IPv6, "accept_ra", 3},
	{netstate.IPv6, "use_tempaddr", 10},
	{netstate.IPv6, "accept_ra_defrtr", 17},
	{netstate.IPv6, "disable_ipv6", 26},
	{netstate.IPv6, "ndisc_notify", 29},
	{netstate.IPv6, "use_oif_addrs_only", 37},
	{netstate.IPv6, "ra_defrtr_metric", 52}, // since Linux 5.12
}

// Settings holds a link's values of the settings that are listed in numbered. Known is
// false for a setting that wasn't in the answer.
type Settings [len(numbered)]struct {
	Value int
	Known bool
}

// PlaceOf returns the index of a setting in Settings. ok is false if there is none, or if
// the setting isn't one of a link.
func PlaceOf(c netstate.Sysctl) (i int, ok bool) {
	for i, n := range numbered {
		if n.family == c.Family && n.name == c.Name {
			return i, c.Device() != ""
		}
	}
	return 0, false
}

// decodeSettings decodes the attribute IFLA_AF_SPEC of a link.
func decodeSettings(spec []byte) Settings {
	const inetConf, inet6Conf = 1, 2 // IFLA_INET_CONF, IFLA_INET6_CONF
	var out Settings
	netlink.Attrs(spec, func(family uint16, v []byte) {
		netlink.Attrs(v, func(typ uint16, v []byte) {
			switch {
			case family == unix.AF_INET && typ == inetConf:
				out.read(netstate.IPv4, v)
			case family == unix.AF_INET6 && typ == inet6Conf:
				out.read(netstate.IPv6, v)
			}
		})
	})
	return out
}

// Of returns the value of a setting, 0 if it wasn't in the answer.
func (s *Settings) Of(f netstate.Family, name string) int {
	i, _ := PlaceOf(netstate.Sysctl{Family: f, Name: name})
	return s[i].Value
}

func (s *Settings) read(f netstate.Family, conf []byte) {
	for i, n := range numbered {
		if at := 4 * n.place; n.family == f && at+4 <= len(conf) {
			s[i].Value, s[i].Known = int(int32(nl.NativeEndian().Uint32(conf[at:]))), true
		}
	}
}
