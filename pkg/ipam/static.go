// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Annotations of a pod with NICs of static-macvlan-cni. Each has an entry for each such NIC, in
// the order in which Multus attaches them, with commas between the entries.
const (
	VLANAnnotation      = "vlan"       // the name of a VLANSubnet
	StaticIPAnnotation  = "static-ip"  // auto, an address, or a list: 10.6.0.5-10.6.0.9 are two
	StaticMACAnnotation = "static-mac" // a MAC, or a list with one for each address
)

const (
	staticPlugin = "static-macvlan-cni"
	staticIPAM   = "static-ipam"
	auto         = "auto"
	maxStatic    = 1024 // addresses of a list
)

// StaticNIC is what the annotations vlan, static-ip and static-mac of a pod ask for.
//
// +kubebuilder:object:generate=true
type StaticNIC struct {
	VLANSubnet string `json:"vlanSubnet"`
	// The first of these that is free; any of the VLANSubnet without one. A length is that of
	// the VLANSubnet's cidr.
	IPs []string `json:"ips,omitempty"`
	// One, or as many as ips: the MAC beside the address that the NIC gets.
	MACs []string `json:"macs,omitempty"`
}

// Addresses returns the addresses of which the NIC wants one, none for any.
func (s StaticNIC) Addresses() []netip.Addr {
	var out []netip.Addr
	for _, text := range s.IPs {
		if a, _, ok := parseAddress(text); ok {
			out = append(out, a)
		}
	}
	return out
}

// MAC returns the MAC of a NIC that got an address, "" if any will do.
func (s StaticNIC) MAC(a netip.Addr) string {
	if i := slices.Index(s.Addresses(), a); i >= 0 && i < len(s.MACs) {
		return s.MACs[i]
	}
	if len(s.IPs) == 0 && len(s.MACs) == 1 {
		return s.MACs[0]
	}
	return ""
}

// RefusesNIC says why no pod can have what the NIC asks for, "" if one can.
func (v VLANSubnet) RefusesNIC(n NIC) string {
	for _, text := range n.Static.IPs {
		if why := v.Refuses(text); why != "" {
			return annotation(StaticIPAnnotation) + ": " + why
		}
	}
	return ""
}

// Need returns the address that a NIC on a VLANSubnet needs.
func (v VLANSubnet) Need(n NIC) Need {
	return Need{
		Interface: n.Interface, IPv6: prefixOf(v.Spec.CIDR).Addr().Is6(), Pools: []string{VLANSubnetPool(v.Name)}, Addresses: n.Static.Addresses(),
	}
}

// fromStatic completes the NICs at some places by the annotations vlan, static-ip and
// static-mac.
func fromStatic(pod PodFacts, nics []NIC, at []int) error {
	if len(at) == 0 {
		return nil
	}
	var names []string
	for _, i := range at {
		names = append(names, nics[i].Interface)
	}
	vlans, err := staticEntries(pod, VLANAnnotation, names, "the name of a VLANSubnet, such as mv1.100")
	if err != nil {
		return err
	}
	ips, err := staticEntries(pod, StaticIPAnnotation, names, "auto, an address such as 192.168.1.100/24, or a list with '-' between the addresses")
	if err != nil {
		return err
	}
	macs, err := staticEntries(pod, StaticMACAnnotation, names, "a MAC such as 0a:00:27:00:00:00, or a list with '-' between the MACs")
	if err != nil {
		return err
	}
	for n, i := range at {
		s, err := staticNIC(vlans[n], ips[n], macs[n])
		if err != nil {
			return fmt.Errorf("%w (NIC %s)", err, names[n])
		}
		if err := s.pick(pod.Ordinal, pod.Start); err != nil {
			return err
		}
		nics[i].Static, nics[i].From = s, annotation(VLANAnnotation)
		if nics[i].Routes, err = podRoutes(pod); err != nil {
			return err
		}
	}
	return nil
}

// staticEntries returns the entries of an annotation, one for each NIC. One that isn't there
// has empty ones.
func staticEntries(pod PodFacts, key string, nics []string, want string) ([]string, error) {
	text, ok := pod.Annotations[key]
	if !ok && key != VLANAnnotation {
		return make([]string, len(nics)), nil
	}
	what := annotation(key)
	switch {
	case strings.TrimSpace(text) == "" && key == VLANAnnotation:
		return nil, fmt.Errorf("%s: missing: want %s, for NIC %s", what, want, few(nics))
	case len(text) > maxAnnotation:
		return nil, tooLong(what, text)
	}
	out := strings.Split(text, ",")
	if len(out) != len(nics) {
		return nil, fmt.Errorf("%s: %s: want as many entries as the pod has NICs of %s, with commas between them: %d for %s", what, quote(text), staticPlugin, len(nics), few(nics))
	}
	for i, entry := range out {
		out[i] = strings.TrimSpace(entry)
	}
	return out, nil
}

// staticNIC reads an entry of each of the annotations.
func staticNIC(vlan, ips, macs string) (*StaticNIC, error) {
	out := &StaticNIC{VLANSubnet: vlan}
	if checkPools([]string{vlan}) != nil || isPattern(vlan) {
		return nil, fmt.Errorf("%s: %s: want the name of a VLANSubnet, such as mv1.100", annotation(VLANAnnotation), quote(vlan))
	}
	list, err := dashed(StaticIPAnnotation, ips, func(text string) (string, error) {
		if _, _, ok := parseAddress(text); !ok {
			return "", fmt.Errorf("%s: want auto, an address such as 192.168.1.100/24, or a list with '-' between the addresses", quote(text))
		}
		return text, nil
	})
	if err != nil {
		return nil, err
	}
	out.IPs = list
	seen := map[netip.Addr]bool{}
	for i, a := range out.Addresses() {
		if seen[a] {
			return nil, fmt.Errorf("%s: %s is there twice: want each address once", annotation(StaticIPAnnotation), out.IPs[i])
		}
		seen[a] = true
	}
	if out.MACs, err = dashed(StaticMACAnnotation, macs, parseMAC); err != nil {
		return nil, err
	}
	for i, mac := range out.MACs {
		if slices.Contains(out.MACs[:i], mac) {
			return nil, fmt.Errorf("%s: %s is there twice: want each MAC once", annotation(StaticMACAnnotation), mac)
		}
	}
	if n := max(1, len(out.IPs)); len(out.MACs) > 0 && len(out.MACs) != n {
		return nil, fmt.Errorf("%s: %d: want as many as %s has addresses: %d", annotation(StaticMACAnnotation), len(out.MACs), StaticIPAnnotation, n)
	}
	return out, nil
}

// dashed reads a list with '-' between its entries. auto, or nothing, is an empty one.
func dashed(key, text string, read func(string) (string, error)) ([]string, error) {
	if text == "" || text == auto {
		return nil, nil
	}
	list := strings.Split(text, "-")
	if len(list) > maxStatic {
		return nil, fmt.Errorf("%s: %d entries: want at most %d", annotation(key), len(list), maxStatic)
	}
	for i, entry := range list {
		var err error
		if list[i], err = read(entry); err != nil {
			return nil, fmt.Errorf("%s: %w", annotation(key), err)
		}
	}
	return list, nil
}

// parseMAC reads the MAC of a single host (IEEE 802, a group's has the lowest bit of the first
// byte).
func parseMAC(text string) (string, error) {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || slices.Max(mac) == 0 {
		return "", fmt.Errorf("%s: want a MAC of a single host such as 0a:00:27:00:00:00, with ':' between its bytes, or a list with '-' between the MACs", quote(text))
	}
	return mac.String(), nil
}

// pick leaves a StatefulSet's pod the entry of the lists that is its own: the first one is that of
// the StatefulSet's first pod, whose ordinal is start.
func (s *StaticNIC) pick(ordinal *int, start int) error {
	if ordinal == nil || len(s.IPs) < 2 {
		return nil
	}
	i := *ordinal - start
	if i < 0 || i >= len(s.IPs) {
		return fmt.Errorf("%s: it has %d addresses, the first of which is pod %d's, and this is pod %d of the StatefulSet: want an address for each pod", annotation(StaticIPAnnotation), len(s.IPs), start, *ordinal)
	}
	s.IPs = s.IPs[i : i+1]
	if len(s.MACs) > 0 {
		s.MACs = s.MACs[i : i+1]
	}
	return nil
}
