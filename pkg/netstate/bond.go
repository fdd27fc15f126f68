// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// BondModes lists the modes of a bond. The index is the kernel's number
// (linux/if_bonding.h).
var BondModes = []string{"balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"}

// BondOption describes an option of the kernel's bonding driver that netlink can
// set (drivers/net/bonding/bond_options.c).
type BondOption struct {
	Name  string   // in ip(8)
	Also  []string // names in sysfs, in the driver's documentation and in other programs
	Form  BondForm
	Words []string // names of the values of a BondNumber or BondWord; the index is the number
	Min   int      // of a BondNumber
	Max   int
	Modes []string // modes that allow the option; nil: all
	// Live options can be changed while the bond carries traffic. No packet is
	// lost or takes another way.
	Live bool
}

// BondForm is the form of an option's values.
type BondForm int

// The forms of values, as ip(8) prints them.
const (
	BondNumber BondForm = iota
	BondWord            // one of Words
	BondLink            // the name of a member
	BondMAC
	BondIPv4 // addresses, separated by commas
	BondIPv6
)

var (
	offOn   = []string{"off", "on"}
	backups = []string{"active-backup", "balance-tlb", "balance-alb"}
	lacp    = []string{"802.3ad"}
	arps    = []string{"balance-rr", "active-backup", "balance-xor", "broadcast"}
)

// BondOptions lists all options except the mode, in the order in which the
// kernel takes them from one request.
var BondOptions = []BondOption{
	{Name: "active_slave", Form: BondLink, Modes: backups},
	{Name: "miimon", Max: math.MaxInt32, Live: true},
	{Name: "updelay", Also: []string{"up_delay"}, Max: math.MaxInt32, Live: true},
	{Name: "downdelay", Also: []string{"down_delay"}, Max: math.MaxInt32, Live: true},
	{Name: "peer_notify_delay", Also: []string{"peer_notif_delay"}, Max: 300000, Live: true},
	{Name: "use_carrier", Words: offOn, Max: 1},
	{Name: "arp_interval", Max: math.MaxInt32, Modes: arps},
	{Name: "arp_ip_target", Form: BondIPv4},
	{Name: "ns_ip6_target", Form: BondIPv6},
	{Name: "arp_validate", Form: BondWord, Words: []string{"none", "active", "backup", "all", "filter", "filter_active", "filter_backup"}, Modes: arps},
	{Name: "arp_all_targets", Form: BondWord, Words: []string{"any", "all"}},
	{Name: "primary", Form: BondLink, Modes: backups},
	{Name: "primary_reselect", Form: BondWord, Words: []string{"always", "better", "failure"}},
	{Name: "fail_over_mac", Form: BondWord, Words: []string{"none", "active", "follow"}},
	{Name: "xmit_hash_policy", Form: BondWord, Words: []string{"layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"}},
	{Name: "resend_igmp", Max: 255, Live: true},
	{Name: "num_grat_arp", Also: []string{"num_unsol_na", "num_peer_notif"}, Max: 255, Live: true},
	{Name: "all_slaves_active", Words: []string{"dropped", "delivered"}, Max: 1},
	{Name: "min_links", Max: math.MaxInt32},
	{Name: "lp_interval", Min: 1, Max: math.MaxInt32, Live: true},
	{Name: "packets_per_slave", Max: 65535, Modes: []string{"balance-rr"}, Live: true},
	{Name: "lacp_rate", Form: BondWord, Words: []string{"slow", "fast"}, Modes: lacp},
	{Name: "ad_select", Form: BondWord, Words: []string{"stable", "bandwidth", "count"}},
	{Name: "ad_actor_sys_prio", Min: 1, Max: 65535, Modes: lacp},
	{Name: "ad_user_port_key", Max: 1023, Modes: lacp},
	{Name: "ad_actor_system", Form: BondMAC, Modes: lacp},
	{Name: "tlb_dynamic_lb", Words: offOn, Max: 1, Modes: []string{"balance-tlb", "balance-alb"}},
	{Name: "lacp_active", Form: BondWord, Words: offOn, Modes: lacp},
	{Name: "arp_missed_max", Also: []string{"missed_max"}, Min: 1, Max: 255, Modes: arps},
	{Name: "coupled_control", Form: BondWord, Words: offOn, Modes: lacp},
	{Name: "broadcast_neighbor", Also: []string{"broadcast_neigh"}, Form: BondWord, Words: offOn, Modes: lacp},
}

// FindBondOption returns the option with this name, which may be one of its
// other names.
func FindBondOption(name string) (BondOption, bool) {
	i := slices.IndexFunc(BondOptions, func(o BondOption) bool { return o.Name == name || slices.Contains(o.Also, name) })
	if i < 0 {
		return BondOption{}, false
	}
	return BondOptions[i], true
}

// maxBondTargets is BOND_MAX_ARP_TARGETS and BOND_MAX_NS_TARGETS.
const maxBondTargets = 16

// Canonical returns a value as ip(8) prints it. The value may be a number or a
// name. The error says what is allowed.
func (o BondOption) Canonical(value string) (string, error) {
	ok := false
	switch o.Form {
	case BondNumber, BondWord:
		n, err := strconv.Atoi(value)
		if i := slices.Index(o.Words, value); i >= 0 {
			n, err = i, nil
		}
		value = strconv.Itoa(n)
		if ok = err == nil && n >= o.Min && n <= o.most(); ok && o.Form == BondWord {
			value = o.Words[n]
		}
	case BondLink:
		ok = value != "" && !strings.ContainsAny(value, " \t,/")
	case BondMAC:
		m, err := ParseMAC(value)
		// bond_option_ad_actor_system_set
		value, ok = m.String(), err == nil && m != MAC{} && m[0]&1 == 0
	case BondIPv4, BondIPv6:
		value, ok = o.targets(value)
	}
	if !ok {
		return "", fmt.Errorf("want %s", o.want())
	}
	return value, nil
}

// most returns the highest number that is allowed.
func (o BondOption) most() int {
	if o.Form == BondWord {
		return len(o.Words) - 1
	}
	return o.Max
}

// targets returns a list of addresses in canonical form, and whether it is valid.
func (o BondOption) targets(value string) (string, bool) {
	var out []string
	for _, s := range strings.Split(strings.Trim(value, "[]"), ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil || a.Is4() != (o.Form == BondIPv4) || a.Is4In6() || a.Zone() != "" || a.IsUnspecified() || slices.Contains(out, a.String()) {
			return "", false
		}
		out = append(out, a.String())
	}
	return strings.Join(out, ","), len(out) <= maxBondTargets
}

// want returns the values that are allowed, in words.
func (o BondOption) want() string {
	switch o.Form {
	case BondLink:
		return "the name of a member"
	case BondMAC:
		return "a unicast MAC like 02:00:5e:10:00:01"
	case BondIPv4:
		return fmt.Sprintf("up to %d IPv4 addresses with commas between", maxBondTargets)
	case BondIPv6:
		return fmt.Sprintf("up to %d IPv6 addresses with commas between", maxBondTargets)
	}
	if o.Words == nil {
		return fmt.Sprintf("a number from %d to %d", o.Min, o.Max)
	}
	var words []string
	for i, w := range o.Words {
		words = append(words, fmt.Sprintf("%s (%d)", w, i))
	}
	return "one of " + strings.Join(words, ", ")
}
