// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
)

// bondMode reads a mode of a bond, by name or by number.
func bondMode(p *string) config.Value {
	mode := netstate.BondOption{Form: netstate.BondWord, Words: netstate.BondModes}
	return config.Value{
		Want: "a mode of a bond by name or number",
		Set: func(raw json.RawMessage) (err error) {
			s, err := config.Text(raw)
			if err == nil {
				*p, err = mode.Canonical(s)
			}
			return err
		},
	}
}

// bondOptions reads the options of a bond: "k=v;k=v", with or without spaces, or an
// object. It refuses unknown options, and options that are set twice.
func bondOptions(p *netstate.Details) config.Value {
	return config.Value{
		Want: `options like "miimon=100;lacp_rate=fast" or {"miimon": 100, "lacp_rate": "fast"}`,
		Set: func(raw json.RawMessage) error {
			pairs, err := optionPairs(raw)
			if err != nil {
				return err
			}
			values := map[string]string{}
			for _, pair := range pairs {
				o, ok := netstate.FindBondOption(pair[0])
				if !ok {
					return fmt.Errorf("unknown option %q: want some of %s", pair[0], optionNames())
				}
				if values[o.Name] != "" {
					return fmt.Errorf("%s is there twice", o.Name)
				}
				if values[o.Name], err = o.Canonical(pair[1]); err != nil {
					return fmt.Errorf("%s=%s: %w", pair[0], pair[1], err)
				}
			}
			*p = ordered(values)
			return nil
		},
	}
}

// ordered returns options in the order of netstate.BondOptions.
func ordered(values map[string]string) netstate.Details {
	var words []string
	for _, o := range netstate.BondOptions {
		if v := values[o.Name]; v != "" {
			words = append(words, o.Name, v)
		}
	}
	return netstate.NewDetails(words...)
}

// optionPairs splits options into names and values.
func optionPairs(raw json.RawMessage) (pairs [][2]string, err error) {
	var list string
	if json.Unmarshal(raw, &list) == nil {
		for _, option := range strings.Split(list, ";") {
			if option = strings.TrimSpace(option); option == "" {
				continue
			}
			name, value, ok := strings.Cut(option, "=")
			name, value = strings.TrimSpace(name), strings.TrimSpace(value)
			if !ok || name == "" || value == "" {
				return nil, fmt.Errorf("%q: want name=value", option)
			}
			pairs = append(pairs, [2]string{name, value})
		}
		return pairs, nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(raw, &object) != nil {
		return nil, fmt.Errorf("neither a string nor an object")
	}
	for name, value := range object {
		s, err := config.Text(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		pairs = append(pairs, [2]string{name, s})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) }) // so that the first error is the same every time
	return pairs, nil
}

func optionNames() string {
	var names []string
	for _, o := range netstate.BondOptions {
		names = append(names, o.Name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// checkOptions checks the options against the mode, the members and each other. The
// kernel would refuse bad ones halfway, or round their values.
func (c *Config) checkOptions() error {
	bad := func(name, value, want string) error {
		return config.Invalid("bond.options: %s=%s: want %s", name, value, want)
	}
	miimon, _ := strconv.Atoi(c.BondOptions.Get("miimon"))
	if miimon == 0 && c.BondOptions.Get("miimon") == "" && c.arpInterval() == 0 {
		miimon, _ = strconv.Atoi(defaultMiimon)
	}
	for name, value := range c.BondOptions.All() {
		o, _ := netstate.FindBondOption(name)
		n, _ := strconv.Atoi(value)
		switch {
		case o.Modes != nil && !slices.Contains(o.Modes, c.BondMode):
			return bad(name, value, fmt.Sprintf("it only in mode %s, not in %s", strings.Join(o.Modes, ", "), c.BondMode))
		case o.Form == netstate.BondLink && !slices.Contains(c.Interfaces, value):
			return bad(name, value, "one of interfaces: "+strings.Join(c.Interfaces, ", "))
		case name == "arp_interval" && n > 0 && miimon > 0:
			return bad(name, value, "either it or miimon")
		case name == "arp_validate" && value != "none" && miimon > 0:
			return bad(name, value, "arp_interval beside it, and no miimon")
		case slices.Contains([]string{"updelay", "downdelay", "peer_notify_delay"}, name) && n > 0 && (miimon == 0 || n%miimon != 0):
			return bad(name, value, fmt.Sprintf("a multiple of miimon, which is %d", miimon))
		}
	}
	return nil
}

func (c *Config) arpInterval() int {
	n, _ := strconv.Atoi(c.BondOptions.Get("arp_interval"))
	return n
}

// defaultMiimon is the miimon, in milliseconds, of a bond that ifacer makes if neither
// miimon nor arp_interval is set. The kernel's default is 0 in most modes: such a bond
// does not monitor its members and does not fail over.
const defaultMiimon = "100"

// ExistingBond returns the mode and options that an existing bond must have. It leaves
// out the active member, which changes at run time.
func (c *Config) ExistingBond() netstate.Details {
	values := map[string]string{}
	for name, value := range c.BondOptions.All() {
		if name != ActiveSlave {
			values[name] = value
		}
	}
	return netstate.NewDetails("mode", c.BondMode).With(ordered(values))
}

// NewBond returns the mode and options of a new bond.
func (c *Config) NewBond() netstate.Details {
	values := map[string]string{}
	for name, value := range c.ExistingBond().All() {
		values[name] = value
	}
	if values["miimon"] == "" && c.arpInterval() == 0 {
		values["miimon"] = defaultMiimon
	}
	return netstate.NewDetails("mode", c.BondMode).With(ordered(values))
}

// ActiveSlave is the option that can only be set after its member has joined.
const ActiveSlave = "active_slave"
