// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// Key is one key of a plugin's configuration. It is matched without regard to case, as in
// encoding/json.
type Key struct {
	Name  string
	Value Value
	Also  string // another spelling of the same key, "" if there is none
}

// Is reports whether name is one of the key's spellings.
func (k Key) Is(name string) bool {
	return strings.EqualFold(k.Name, name) || k.Also != "" && strings.EqualFold(k.Also, name)
}

// Value reads and checks the value of a key.
type Value struct {
	Want string // names the allowed values; an error says "want" and this
	Set  func(raw json.RawMessage) error
}

// cniKeys lists the keys of CNI itself and of runtimes. Every key with a '/' in it is a
// runtime's too. Multus gives the last two to each plugin of a network with a device
// plugin's resource, for example SR-IOV's (multus-cni, pkg/types/conf.go,
// addDeviceIDInConfList).
var cniKeys = []string{
	"cniVersion", "cniVersions", "name", "type", "args", "capabilities", "dns", "ipam", "runtimeConfig", "prevResult",
	"disableCheck", "disableGC", "deviceID", "pciBusID",
}

// LogKey is the key that the driver reads for every plugin.
var LogKey = Key{Name: "logOptions", Also: "log_options"}

// elsewhere lists well-known keys of other plugins, and these plugins.
var elsewhere = []struct {
	plugins string
	keys    []string
}{
	{"the plugin bridge or ptp", []string{"ipMasq", "ipMasqBackend"}},
	{"the plugin bridge", []string{
		"isGateway", "isDefaultGateway", "forceAddress", "hairpinMode", "promiscMode", "vlanTrunk", "preserveDefaultVlan",
		"macspoofchk", "enabledad", "disableContainerInterface", "portIsolation",
	}},
	{"the plugin bridge, sriov or ovs", []string{"vlan"}},
	{"the plugin vlan", []string{"vlanId"}},
	{"the plugin macvlan, ipvlan or vlan", []string{"master", "linkInContainer"}},
	{"the plugin macvlan or ipvlan", []string{"mode"}},
	{"the plugin bridge, or route", []string{"bridge"}},
	{"the plugin that makes the NIC, or of tuning", []string{"mtu", "mac"}},
	{"the plugin host-device", []string{"device", "hwaddr", "kernelpath"}},
	{"the plugin sriov", []string{"vlanQoS", "vlanProto", "spoofchk", "trust", "link_state", "min_tx_rate", "max_tx_rate"}},
	{"the plugin tuning", []string{"sysctl", "promisc", "allmulti", "txQLen", "dataDir"}},
	{"the plugin portmap", []string{"snat", "masqAll", "markMasqBit", "externalSetMarkChain", "conditionsV4", "conditionsV6", "portMappings"}},
	{"the plugin firewall or portmap", []string{"backend"}},
	{"the plugin firewall", []string{"iptablesAdminChainName", "firewalldZone", "ingressPolicy"}},
	{"the plugin bandwidth", []string{"ingressRate", "ingressBurst", "egressRate", "egressBurst"}},
	{"the plugin vrf", []string{"vrfname"}},
	{"the IPAM, in ipam of the plugin that makes the NIC", []string{
		"subnet", "ranges", "rangeStart", "rangeEnd", "gateway", "routes", "addresses", "resolvConf", "range", "exclude",
	}},
	{"coordinator", []string{
		"serviceCIDR", "overlayPodCIDR", "hijackCIDR", "nodeAddresses", "policyRoutes", "podDefaultCNINIC", "podDefaultRouteNIC",
		"tunePodRoutes", "hostLink", "hostRuleTable", "detectIPConflict", "detectGateway",
	}},
	{"route", []string{"sbr", "table", "gateways", "addSourceHints"}},
	{"ifacer", []string{"interfaces", "bond", "vlanID", "vlanProtocol"}},
}

// errValue is the error for a value that isn't allowed, if Want says enough about it.
var errValue = errors.New("not allowed")

// ErrNoObject is the error for a value that is not a JSON object.
var ErrNoObject = errors.New("not an object")

// Decode gives the value of every key to its Value. It returns an error for an unknown
// key, which names its plugin or the nearest known key; for a value that isn't allowed;
// for a key that is there in two spellings (mode and MODE); and for a key under an older
// and a newer name with two values.
func Decode(raw map[string]json.RawMessage, keys []Key) error {
	return assign(raw, keys, func(name string) bool {
		return strings.Contains(name, "/") || Among(name, cniKeys) || LogKey.Is(name)
	})
}

// DecodeAll does the same as Decode for an object without keys of CNI and of runtimes, such
// as a file of the suite's own.
func DecodeAll(raw map[string]json.RawMessage, keys []Key) error { return assign(raw, keys, nil) }

// Has reports whether an object has a value for a key: neither null nor "", which
// generators write for a key that is not set.
func Has(raw map[string]json.RawMessage, key Key) bool {
	for name, value := range raw {
		if key.Is(name) && !unset(value) {
			return true
		}
	}
	return false
}

// unset reports whether a value stands for none.
func unset(value []byte) bool {
	value = bytes.TrimSpace(value)
	return len(value) == 0 || string(value) == "null" || string(value) == `""`
}

// Fields does the same as Decode for an object within a configuration. It returns
// [ErrNoObject] if the value is not an object.
func Fields(raw json.RawMessage, keys []Key) error {
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil {
		return ErrNoObject
	}
	return DecodeAll(fields, keys)
}

// assign gives each value to its key, and skips keys that others reports as another
// reader's. others is nil within an object.
func assign(raw map[string]json.RawMessage, keys []Key, others func(name string) bool) error {
	names := make([]string, 0, len(raw))
	for name := range raw {
		names = append(names, name)
	}
	sort.Strings(names) // the same error every time
	given := make(map[string]string, len(raw))
	for _, name := range names {
		value := bytes.TrimSpace(raw[name])
		if unset(value) {
			value = nil
		}
		i := slices.IndexFunc(keys, func(k Key) bool { return k.Is(name) })
		if i < 0 && (others == nil || !others(name)) {
			if err := unknown(name, value, keys, others != nil); err != nil {
				return err
			}
			continue
		}
		if value == nil {
			continue
		}
		key := strings.ToLower(name)
		if i >= 0 {
			key = keys[i].Name
		} else if LogKey.Is(name) {
			key = LogKey.Name
		}
		if other, twice := given[key]; twice {
			// A configuration for two versions of a plugin may have the older and the newer name, with the same value.
			if strings.EqualFold(name, other) || !bytes.Equal(value, bytes.TrimSpace(raw[other])) {
				return Invalid("%s: %s: want it once: %s, another spelling of the same key, is %s", name, value, other, raw[other])
			}
			continue
		}
		given[key] = name
		if i < 0 {
			continue
		}
		if err := keys[i].Value.Set(value); err != nil {
			detail := ""
			if !errors.Is(err, errValue) {
				detail = " (" + err.Error() + ")"
			}
			return Invalid("%s: %s: want %s%s", name, value, keys[i].Value.Want, detail)
		}
	}
	return nil
}

// unknown returns an error for an unknown key that names its plugin, or else the nearest
// known key. It accepts an empty value of another plugin's key: generators that know only
// the fields of types.PluginConf write "ipam": {} and "dns": {}.
func unknown(name string, value []byte, keys []Key, whole bool) error {
	near, distance := nearest(name, keys)
	if whole && (distance > 2 || 2*distance > len(name)) {
		for _, e := range elsewhere {
			if !Among(name, e.keys) {
				continue
			}
			if s := string(value); s == "" || s == "{}" || s == "[]" {
				return nil
			}
			return Invalid("unknown key %q: it is another plugin's: put it into the configuration of %s", name, e.plugins)
		}
	}
	return Invalid("unknown key %q: the nearest known one is %q", name, near)
}

// Object parses a JSON object. It returns an error, beside the object, if a key is twice
// in it or in an object within it.
func Object(text []byte) (map[string]json.RawMessage, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	if key := repeatedKey(text); key != "" {
		return raw, Invalid("%s: there twice: want every key once", key)
	}
	return raw, nil
}

// repeatedKey returns a key that is twice in one object of a JSON text, "" if there is
// none. Readers disagree about such a key: encoding/json takes the last one, others the
// first.
func repeatedKey(text []byte) string {
	var keys []string // of all open objects
	var opened []int  // the index in keys of each open object's first key; -1 for a list
	expectKey := false
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{':
			opened, expectKey = append(opened, len(keys)), true
		case '[':
			opened, expectKey = append(opened, -1), false
		case '}', ']':
			if first := opened[len(opened)-1]; first >= 0 {
				keys = keys[:first]
			}
			opened, expectKey = opened[:len(opened)-1], false
		case ',':
			expectKey = opened[len(opened)-1] >= 0
		case '"':
			start := i
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if !expectKey {
				continue
			}
			expectKey = false
			var key string
			if json.Unmarshal(text[start:i+1], &key) != nil || slices.Contains(keys[opened[len(opened)-1]:], key) {
				return key
			}
			keys = append(keys, key)
		}
	}
	return ""
}

// ValidAttachments reads GC's list of living attachments under both of its names:
// cni.dev/valid-attachments of the specification and cni.dev/attachments of older
// versions of libcni. The value null is an empty list, which libcni writes so. A missing
// list is an error: it would turn every attachment into garbage.
func ValidAttachments(raw map[string]json.RawMessage) ([]types.GCAttachment, error) {
	var out []types.GCAttachment
	found := false
	for _, key := range []string{"cni.dev/valid-attachments", "cni.dev/attachments"} {
		value, ok := raw[key]
		if !ok {
			continue
		}
		var list []types.GCAttachment
		if err := json.Unmarshal(value, &list); err != nil {
			return nil, Invalid("%s: %s: want a list of containerID and ifname", key, value)
		}
		found = true
		out = append(out, list...)
	}
	if !found {
		return nil, Invalid("cni.dev/valid-attachments: missing: want a list of containerID and ifname")
	}
	return out, nil
}

// Invalid returns an error for an invalid configuration, with CNI's code 7.
func Invalid(format string, a ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Errorf(format, a...).Error(), "")
}

// Among reports whether a key is in a list, without regard to case.
func Among(name string, keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, name) })
}

// nearest returns the known key with the least edit distance.
func nearest(name string, keys []Key) (best string, distance int) {
	distance = -1
	for _, k := range keys {
		for _, spelling := range []string{k.Name, k.Also} {
			if d := edits(strings.ToLower(name), strings.ToLower(spelling)); spelling != "" && (distance < 0 || d < distance) {
				best, distance = spelling, d
			}
		}
	}
	return best, distance
}

// edits returns the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d++
			}
			diagonal = row[j+1]
			row[j+1] = min(d, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Bool accepts true or false.
func Bool(p *bool) Value {
	return Value{"true or false", func(raw json.RawMessage) error { return parse(raw, p) }}
}

// Int accepts a whole number from least to most.
func Int(p *int, least, most int) Value {
	return Value{fmt.Sprintf("a number from %d to %d", least, most), func(raw json.RawMessage) error {
		n, err := strconv.Atoi(string(raw))
		if err != nil && isNumber(raw) {
			return errors.New("digits alone, without a point or an exponent")
		}
		if err != nil || n < least || n > most {
			return errValue
		}
		*p = n
		return nil
	}}
}

// isNumber reports whether a value is a number with a point or an exponent.
func isNumber(raw json.RawMessage) bool {
	var n float64
	return json.Unmarshal(raw, &n) == nil && strings.ContainsAny(string(raw), ".eE")
}

// OneOf accepts one of the words.
func OneOf(p *string, words ...string) Value {
	return Value{"one of " + strings.Join(words, ", "), func(raw json.RawMessage) error {
		var s string
		if err := parse(raw, &s); err != nil {
			return err
		}
		if !slices.Contains(words, s) {
			return errValue
		}
		*p = s
		return nil
	}}
}

// Interface accepts a name that a network interface can have (dev_valid_name in
// net/core/dev.c).
func Interface(p *string) Value {
	// The kernel replaces %d by a number and refuses any other % (dev_get_valid_name in net/core/dev.c).
	return Value{"an interface name of 1 to 15 bytes without '/', ':', '%' and spaces", func(raw json.RawMessage) error {
		var s string
		if err := parse(raw, &s); err != nil {
			return err
		}
		if len(s) == 0 || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/:% \t\n\v\f\r") {
			return errValue
		}
		*p = s
		return nil
	}}
}

// Link accepts a name of an existing link: its own, or an alternative one (`ip link
// property add dev ens192 altname enp1s0`), which may be longer (ALTIFNAMSIZ in
// linux/if.h).
func Link(p *string) Value {
	return Value{"an interface name of 1 to 127 bytes without '/', ':' and spaces", func(raw json.RawMessage) error {
		var s string
		if err := parse(raw, &s); err != nil {
			return err
		}
		if len(s) == 0 || len(s) > 127 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r") {
			return errValue
		}
		*p = s
		return nil
	}}
}

// Bit accepts a number with exactly one bit set: a decimal number, or a string in any
// notation of strconv.ParseUint.
func Bit(p *uint32) Value {
	return Value{`one bit of 32, like "0x10000000"`, func(raw json.RawMessage) error {
		s := string(raw)
		if strings.HasPrefix(s, `"`) {
			if err := parse(raw, &s); err != nil {
				return err
			}
		}
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil || n == 0 || n&(n-1) != 0 {
			return errValue
		}
		*p = uint32(n)
		return nil
	}}
}

// Prefixes accepts a list of destinations or a single one: see [ParseDestination].
func Prefixes(p *[]netip.Prefix) Value {
	return Value{`a list of CIDRs or addresses, like ["10.96.0.0/12"]`, func(raw json.RawMessage) error {
		list, err := Strings(raw)
		if err != nil {
			return err
		}
		var out []netip.Prefix
		for _, s := range list {
			prefix, err := ParseDestination(s)
			if err != nil {
				return err
			}
			if !slices.Contains(out, prefix) {
				out = append(out, prefix)
			}
		}
		*p = out
		return nil
	}}
}

// ParseDestination reads a CIDR or an address that a route by a gateway can lead to. An
// address is a destination of one address. Bits behind the mask are dropped; ip(8)
// refuses them. It refuses the default route: the pod's NICs decide about that.
func ParseDestination(s string) (netip.Prefix, error) {
	p, err := ParsePrefix(s)
	switch {
	case err != nil:
		return p, err
	case p.Bits() == 0:
		return p, fmt.Errorf("%q is the default route: the IPAM gives it to a NIC, and podDefaultRouteNIC chooses the NIC", s)
	case p.Addr().Is6() && p.Addr().IsLinkLocalUnicast():
		return p, fmt.Errorf("%q is link-local: no router forwards it", s)
	}
	for _, of := range noHosts {
		if of.prefix.Bits() <= p.Bits() && of.prefix.Contains(p.Addr()) {
			return p, fmt.Errorf("%q is %s", s, of.what)
		}
	}
	return p, nil
}

// ParsePrefix reads a CIDR or an address. Bits behind the mask are dropped.
func ParsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := parseAddr(s, "neither a CIDR nor an address")
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("%q is neither a CIDR nor an address: %s", s, reason(err))
	case prefix.Addr().Is4In6():
		return prefix, fmt.Errorf("%q is an IPv4-mapped IPv6 CIDR: write it as IPv4", s)
	}
	return prefix.Masked(), nil
}

// ParseHost reads the address of a machine that is valid on all of its links.
func ParseHost(s string) (netip.Addr, error) {
	a, err := ParseNeighbour(s)
	if err == nil && a.Is6() && a.IsLinkLocalUnicast() {
		err = fmt.Errorf("%q is link-local: it is valid on one link only", s)
	}
	return a, err
}

// ParseNeighbour reads the address of a machine on a NIC's own link, for example a
// gateway.
func ParseNeighbour(s string) (netip.Addr, error) {
	a, err := parseAddr(s, "not an address")
	if err != nil {
		return a, err
	}
	return a, CheckHost(a)
}

// noHosts lists the addresses that no single machine has (RFC 1122, section 3.2.1.3; RFC
// 4291, section 2.4).
var noHosts = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "in 0.0.0.0/8: no machine has such an address"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("::/128"), "the unspecified address: no machine has it"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

// CheckHost returns an error for an address that can't be a single machine's.
func CheckHost(a netip.Addr) error {
	for _, of := range noHosts {
		if of.prefix.Contains(a) {
			return fmt.Errorf("%q is %s", a, of.what)
		}
	}
	return nil
}

// parseAddr reads an address in the form of its own family. It refuses a zone: the NIC of
// the address is the link already. The error for a text that is no address says not.
func parseAddr(s, not string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return a, fmt.Errorf("%q is %s: %s", s, not, reason(err))
	case a.Zone() != "":
		return a, fmt.Errorf("%q has a zone: write %s", s, a.WithZone(""))
	case a.Is4In6():
		return a, fmt.Errorf("%q is an IPv4-mapped IPv6 address: write %s", s, a.Unmap())
	}
	return a, nil
}

// reason returns netip's message about a text, without the text.
func reason(err error) string {
	text := err.Error()
	return strings.TrimPrefix(text[strings.LastIndex(text, "): ")+1:], ": ")
}

// Strings reads a list of strings, or a single string as a list of one.
func Strings(raw json.RawMessage) ([]string, error) {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	return list, parse(raw, &list)
}

// parse is json.Unmarshal without the messages of encoding/json about Go types.
func parse(raw json.RawMessage, v any) error {
	if json.Unmarshal(raw, v) != nil {
		return errValue
	}
	return nil
}

// Text reads a string, a whole number, or a list of strings, which it joins with commas.
func Text(raw json.RawMessage) (string, error) {
	var n int
	if json.Unmarshal(raw, &n) == nil && string(raw) != "null" {
		return strconv.Itoa(n), nil
	}
	list, err := Strings(raw)
	if s := strings.Join(list, ","); err == nil && s != "" {
		return s, nil
	}
	return "", fmt.Errorf("%s: want a string or a whole number", raw)
}

// AbsolutePath accepts the absolute path of a file.
func AbsolutePath(p *string) Value {
	return Value{"an absolute path", func(raw json.RawMessage) error {
		var s string
		if err := parse(raw, &s); err != nil {
			return err
		}
		if !strings.HasPrefix(s, "/") || strings.ContainsRune(s, 0) {
			return errValue
		}
		*p = s
		return nil
	}}
}
