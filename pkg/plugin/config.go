// SPDX-License-Identifier: Apache-2.0

package plugin

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

// Key is one key of a plugin's configuration. Keys are matched as encoding/json
// does, without regard to case.
type Key struct {
	Name  string
	Value Value
}

// Value reads the value of a key.
type Value struct {
	Want string // what is allowed, behind "want" in an error
	Set  func(raw json.RawMessage) error
}

// cniKeys are those that belong to CNI itself or to a runtime, next to every
// key with a '/' in it, which is how runtimes name theirs. The last two Multus gives
// to each plugin of a network that is a device plugin's resource, SR-IOV's for
// instance (multus-cni, pkg/types/conf.go, addDeviceIDInConfList).
var cniKeys = []string{
	"cniVersion", "cniVersions", "name", "type", "args", "capabilities", "runtimeConfig", "ipam", "dns", "prevResult",
	"disableCheck", "disableGC", "deviceID", "pciBusID",
}

// commonKeys are those that the driver reads for every plugin.
var commonKeys = []string{"logOptions", "log_options"}

// errValue is what a Value returns for a value that it doesn't allow and has
// nothing more to say about.
var errValue = errors.New("not allowed")

// Decode gives every key's value to its Value. A key that nobody knows is an
// error that names the nearest one; so is a value that isn't allowed.
func Decode(raw map[string]json.RawMessage, keys []Key) error {
	names := make([]string, 0, len(raw))
	for name := range raw {
		names = append(names, name)
	}
	sort.Strings(names) // the same error every time
	for _, name := range names {
		i := slices.IndexFunc(keys, func(k Key) bool { return strings.EqualFold(k.Name, name) })
		if i < 0 {
			if strings.Contains(name, "/") || known(name, cniKeys) || known(name, commonKeys) {
				continue
			}
			return Invalid("unknown key %q: the nearest known one is %q", name, nearest(name, keys))
		}
		value := bytes.TrimSpace(raw[name])
		if string(value) == "null" || string(value) == `""` {
			continue // as if it were not there: what generators write for "unset"
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

// Invalid is the error for a configuration that can't be meant: CNI's code 7.
func Invalid(format string, a ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Errorf(format, a...).Error(), "")
}

func known(name string, keys []string) bool {
	return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, name) })
}

// nearest returns the known key with the least edit distance.
func nearest(name string, keys []Key) string {
	best, distance := "", -1
	for _, k := range keys {
		if d := edits(strings.ToLower(name), strings.ToLower(k.Name)); distance < 0 || d < distance {
			best, distance = k.Name, d
		}
	}
	return best
}

// edits is the Levenshtein distance.
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

// Bool is true or false.
func Bool(p *bool) Value {
	return Value{"true or false", func(raw json.RawMessage) error { return parse(raw, p) }}
}

// Int is a whole number from least to most.
func Int(p *int, least, most int) Value {
	return Value{fmt.Sprintf("a number from %d to %d", least, most), func(raw json.RawMessage) error {
		n, err := strconv.Atoi(string(raw))
		if err != nil || n < least || n > most {
			return errValue
		}
		*p = n
		return nil
	}}
}

// OneOf is one of these words.
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

// Interface is the name of a network interface (dev_valid_name of
// net/core/dev.c).
func Interface(p *string) Value {
	return Value{"an interface name of 1 to 15 bytes without '/', ':' and spaces", func(raw json.RawMessage) error {
		var s string
		if err := parse(raw, &s); err != nil {
			return err
		}
		if len(s) == 0 || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r") {
			return errValue
		}
		*p = s
		return nil
	}}
}

// Bit is a number with exactly one bit set, decimal or, as a string, in any
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

// Prefixes is a list of CIDRs and addresses, or a single one. An address stands
// for itself alone; bits behind the mask are dropped.
func Prefixes(p *[]netip.Prefix) Value {
	return Value{`a list of CIDRs or addresses, like ["10.96.0.0/12"]`, func(raw json.RawMessage) error {
		list, err := Strings(raw)
		if err != nil {
			return err
		}
		var out []netip.Prefix
		for _, s := range list {
			prefix, err := ParsePrefix(s)
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

// ParsePrefix reads a CIDR or an address.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(s)
	if err != nil || prefix.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither a CIDR nor an address", s)
	}
	return prefix.Masked(), nil
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

// parse is json.Unmarshal without the words of encoding/json about Go types.
func parse(raw json.RawMessage, v any) error {
	if json.Unmarshal(raw, v) != nil {
		return errValue
	}
	return nil
}
