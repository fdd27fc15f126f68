// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// vlanProtocols holds the EtherTypes of VLAN protocols. Netlink carries them in network
// byte order.
var vlanProtocols = map[string]uint16{"802.1Q": unix.ETH_P_8021Q, "802.1ad": unix.ETH_P_8021AD}

// bondAttr is the attribute number of a bond option (IFLA_BOND_* of linux/if_link.h) and
// the size of its value in bytes.
type bondAttr struct{ typ, size int }

// bondMode is the name of a bond's mode, the only detail that isn't in
// netstate.BondOptions.
const bondMode = "mode"

var bondAttrs = map[string]bondAttr{
	bondMode:             {nl.IFLA_BOND_MODE, 1},
	"active_slave":       {nl.IFLA_BOND_ACTIVE_SLAVE, 4},
	"miimon":             {nl.IFLA_BOND_MIIMON, 4},
	"updelay":            {nl.IFLA_BOND_UPDELAY, 4},
	"downdelay":          {nl.IFLA_BOND_DOWNDELAY, 4},
	"use_carrier":        {nl.IFLA_BOND_USE_CARRIER, 1},
	"arp_interval":       {nl.IFLA_BOND_ARP_INTERVAL, 4},
	"arp_ip_target":      {nl.IFLA_BOND_ARP_IP_TARGET, 4},
	"arp_validate":       {nl.IFLA_BOND_ARP_VALIDATE, 4},
	"arp_all_targets":    {nl.IFLA_BOND_ARP_ALL_TARGETS, 4},
	"primary":            {nl.IFLA_BOND_PRIMARY, 4},
	"primary_reselect":   {nl.IFLA_BOND_PRIMARY_RESELECT, 1},
	"fail_over_mac":      {nl.IFLA_BOND_FAIL_OVER_MAC, 1},
	"xmit_hash_policy":   {nl.IFLA_BOND_XMIT_HASH_POLICY, 1},
	"resend_igmp":        {nl.IFLA_BOND_RESEND_IGMP, 4},
	"num_grat_arp":       {nl.IFLA_BOND_NUM_PEER_NOTIF, 1},
	"all_slaves_active":  {nl.IFLA_BOND_ALL_SLAVES_ACTIVE, 1},
	"min_links":          {nl.IFLA_BOND_MIN_LINKS, 4},
	"lp_interval":        {nl.IFLA_BOND_LP_INTERVAL, 4},
	"packets_per_slave":  {nl.IFLA_BOND_PACKETS_PER_SLAVE, 4},
	"lacp_rate":          {nl.IFLA_BOND_AD_LACP_RATE, 1},
	"ad_select":          {nl.IFLA_BOND_AD_SELECT, 1},
	"ad_actor_sys_prio":  {nl.IFLA_BOND_AD_ACTOR_SYS_PRIO, 2},
	"ad_user_port_key":   {nl.IFLA_BOND_AD_USER_PORT_KEY, 2},
	"ad_actor_system":    {nl.IFLA_BOND_AD_ACTOR_SYSTEM, 6},
	"tlb_dynamic_lb":     {nl.IFLA_BOND_TLB_DYNAMIC_LB, 1},
	"peer_notify_delay":  {28, 4}, // IFLA_BOND_PEER_NOTIF_DELAY
	"lacp_active":        {29, 1}, // IFLA_BOND_AD_LACP_ACTIVE
	"arp_missed_max":     {30, 1}, // IFLA_BOND_MISSED_MAX
	"ns_ip6_target":      {31, 16},
	"coupled_control":    {32, 1},
	"broadcast_neighbor": {33, 1},
}

// decodeDetails reads the details of a link of a type (IFLA_INFO_DATA). It returns "" for
// a type without details.
func (s *Namespace) decodeDetails(kind string, info []byte) (netstate.Details, error) {
	switch kind {
	case "vlan":
		return decodeVLAN(info), nil
	case "bond":
		return s.decodeBond(info)
	case "macvlan":
		return decodeMacvlan(info), nil
	}
	return "", nil
}

// macvlanModes are MACVLAN_MODE_* of linux/if_link.h.
var macvlanModes = map[string]uint32{"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}

func decodeMacvlan(info []byte) netstate.Details {
	var d netstate.Details
	netlink.Attrs(info, func(typ uint16, v []byte) {
		for name, mode := range macvlanModes {
			if typ == nl.IFLA_MACVLAN_MODE && nl.NativeEndian().Uint32(v) == mode {
				d = netstate.NewDetails("mode", name)
			}
		}
	})
	return d
}

func decodeVLAN(info []byte) netstate.Details {
	protocol, id := "802.1Q", ""
	netlink.Attrs(info, func(typ uint16, v []byte) {
		switch typ {
		case nl.IFLA_VLAN_ID:
			id = strconv.Itoa(int(nl.NativeEndian().Uint16(v)))
		case nl.IFLA_VLAN_PROTOCOL:
			for name, ethertype := range vlanProtocols {
				if ethertype == binary.BigEndian.Uint16(v) {
					protocol = name
				}
			}
		}
	})
	return netstate.VLAN(protocol, id)
}

func (s *Namespace) decodeBond(info []byte) (netstate.Details, error) {
	values := map[int][]byte{}
	netlink.Attrs(info, func(typ uint16, v []byte) { values[int(typ)] = v })
	var words []string
	if v := values[nl.IFLA_BOND_MODE]; len(v) == 1 && int(v[0]) < len(netstate.BondModes) {
		words = append(words, bondMode, netstate.BondModes[v[0]])
	}
	for _, o := range netstate.BondOptions {
		v, ok := values[bondAttrs[o.Name].typ]
		if !ok {
			continue
		}
		text, err := s.decodeOption(o, v)
		if err != nil {
			return "", err
		}
		if text != "" {
			words = append(words, o.Name, text)
		}
	}
	return netstate.NewDetails(words...), nil
}

// decodeOption returns the value of an option as ip(8) prints it, "" for an empty list.
func (s *Namespace) decodeOption(o netstate.BondOption, v []byte) (string, error) {
	switch o.Form {
	case netstate.BondLink:
		name, _, err := s.LinkName(int(uintOf(v)))
		return name, err
	case netstate.BondMAC:
		var m netstate.MAC
		copy(m[:], v)
		return m.String(), nil
	case netstate.BondIPv4, netstate.BondIPv6:
		var list []string
		netlink.Attrs(v, func(_ uint16, v []byte) {
			if a, ok := netip.AddrFromSlice(v); ok {
				list = append(list, a.String())
			}
		})
		return strings.Join(list, ","), nil
	}
	n := uintOf(v)
	if o.Form == netstate.BondWord && n < uint64(len(o.Words)) {
		return o.Words[n], nil
	}
	return strconv.FormatUint(n, 10), nil
}

// uintOf decodes an unsigned integer of 1, 2 or 4 bytes in the machine's byte order. It
// returns 0 for any other length.
func uintOf(v []byte) uint64 {
	switch e := nl.NativeEndian(); len(v) {
	case 1:
		return uint64(v[0])
	case 2:
		return uint64(e.Uint16(v))
	case 4:
		return uint64(e.Uint32(v))
	}
	return 0
}

// encodeNumber encodes an unsigned integer of 1, 2 or 4 bytes.
func encodeNumber(n uint64, size int) []byte {
	switch size {
	case 1:
		return nl.Uint8Attr(uint8(n))
	case 2:
		return nl.Uint16Attr(uint16(n))
	}
	return nl.Uint32Attr(uint32(n))
}

// linkInfo returns the attribute IFLA_LINKINFO with the type of a link, the details to set
// and the details to reset.
func (s *Namespace) linkInfo(kind string, set, unset netstate.Details) (*nl.RtAttr, error) {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	switch kind {
	case "vlan":
		return info, encodeVLAN(data, set)
	case "macvlan":
		data.AddRtAttr(nl.IFLA_MACVLAN_MODE, nl.Uint32Attr(macvlanModes[set.Get("mode")]))
		return info, nil
	}
	for name, value := range set.All() {
		if err := s.encodeOption(data, name, value); err != nil {
			return nil, fmt.Errorf("%s %s: %w", name, value, err)
		}
	}
	for name := range unset.All() {
		if o, _ := netstate.FindBondOption(name); o.Form == netstate.BondLink {
			data.AddRtAttr(bondAttrs[name].typ, nl.Uint32Attr(0))
		} else if o.Form == netstate.BondIPv4 || o.Form == netstate.BondIPv6 {
			data.AddRtAttr(bondAttrs[name].typ|unix.NLA_F_NESTED, nil)
		}
	}
	return info, nil
}

func encodeVLAN(data *nl.RtAttr, set netstate.Details) error {
	id, err := strconv.ParseUint(set.Get("id"), 10, 12)
	if err != nil {
		return err
	}
	data.AddRtAttr(nl.IFLA_VLAN_ID, nl.Uint16Attr(uint16(id)))
	data.AddRtAttr(nl.IFLA_VLAN_PROTOCOL, binary.BigEndian.AppendUint16(nil, vlanProtocols[set.Get("protocol")]))
	return nil
}

func (s *Namespace) encodeOption(data *nl.RtAttr, name, value string) error {
	attr := bondAttrs[name]
	o, _ := netstate.FindBondOption(name)
	switch {
	case name == bondMode:
		data.AddRtAttr(attr.typ, nl.Uint8Attr(uint8(slices.Index(netstate.BondModes, value))))
	case o.Form == netstate.BondLink:
		index, err := s.LinkIndex(value)
		if err != nil {
			return err
		}
		data.AddRtAttr(attr.typ, nl.Uint32Attr(uint32(index)))
	case o.Form == netstate.BondMAC:
		m, err := netstate.ParseMAC(value)
		if err != nil {
			return err
		}
		data.AddRtAttr(attr.typ, m[:])
	case o.Form == netstate.BondIPv4 || o.Form == netstate.BondIPv6:
		list := data.AddRtAttr(attr.typ|unix.NLA_F_NESTED, nil)
		for i, s := range strings.Split(value, ",") {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return err
			}
			list.AddRtAttr(i, a.AsSlice())
		}
	default:
		n, err := strconv.ParseUint(value, 10, 32)
		if i := slices.Index(o.Words, value); i >= 0 {
			n, err = uint64(i), nil
		}
		if err != nil {
			return err
		}
		data.AddRtAttr(attr.typ, encodeNumber(n, attr.size))
	}
	return nil
}
