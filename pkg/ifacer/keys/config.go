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

// Config holds the values of the keys.
type Config struct {
	Interfaces   []string // links of the node
	VLAN         int      // 0: none
	VLANProtocol string   // as ip(8) prints it
	As           string   // the VLAN's name, "" for that of its parent with the number
	BondName     string   // "": none
	BondMode     string
	BondOptions  netstate.Details // in the order of netstate.BondOptions
	MTU          int              // of the bond and the VLAN; 0: the kernel's default
	Force        bool             // take NICs that the node itself uses
	RemoveUnused bool             // delete links with their last attachment
}

// nameLen is the maximum length of a link's name: IFNAMSIZ without the zero.
const nameLen = 15

// Load reads and checks the configuration.
func Load(raw map[string]json.RawMessage) (*Config, error) {
	c := &Config{VLANProtocol: "802.1Q", BondMode: netstate.BondModes[0]}
	raw, hasBond, err := flatten(raw)
	if err != nil {
		return nil, err
	}
	err = config.Decode(raw, []config.Key{
		{Name: "interfaces", Value: interfaces(&c.Interfaces)},
		{Name: "vlanID", Value: config.Int(&c.VLAN, 0, 4094)},
		{Name: "vlanName", Value: config.Interface(&c.As)},
		{Name: "vlanProtocol", Value: vlanProtocol(&c.VLANProtocol)},
		{Name: "bond.name", Value: config.Interface(&c.BondName)},
		{Name: "bond.mode", Value: bondMode(&c.BondMode)},
		{Name: "bond.options", Value: bondOptions(&c.BondOptions)},
		{Name: "mtu", Value: config.Int(&c.MTU, 68, 65535)},
		{Name: "force", Value: config.Bool(&c.Force)},
		{Name: "removeUnused", Value: config.Bool(&c.RemoveUnused)},
	})
	if err != nil {
		return nil, err
	}
	return c, c.check(hasBond)
}

// check checks which keys need or exclude each other.
func (c *Config) check(hasBond bool) error {
	switch n := len(c.Interfaces); {
	case n == 0:
		return config.Invalid("interfaces: missing: want the name of at least one interface of the node")
	case n == 1 && hasBond:
		return config.Invalid("bond: with one interface (%s): want two or more in interfaces, or no bond", c.Interfaces[0])
	case n > 1 && !hasBond:
		return config.Invalid("interfaces: %s without a bond: want one interface, or a bond with its name", strings.Join(c.Interfaces, ", "))
	case hasBond && c.BondName == "":
		return config.Invalid("bond.name: missing: want the name of the bond")
	case slices.Contains(c.Interfaces, c.BondName):
		return config.Invalid("bond.name: %s: want another name than those in interfaces", c.BondName)
	case c.As != "" && c.VLAN == 0:
		return config.Invalid("vlanName: %s: want a vlanID with it", c.As)
	case c.As != "" && (c.As == c.BondName || slices.Contains(c.Interfaces, c.As)):
		return config.Invalid("vlanName: %s: want another name than those of the interfaces and the bond", c.As)
	case hasBond && c.TooLong() != nil:
		return c.TooLong()
	case c.MTU != 0 && c.VLAN == 0 && !hasBond:
		return config.Invalid("mtu: %d: want a vlanID or a bond with it: ifacer doesn't change the MTU of a NIC", c.MTU)
	}
	return c.checkOptions()
}

// TooLong returns an error if the name of the VLAN is too long. Without a bond, call it
// again with the interface's real name: the VLAN is named after that one.
func (c *Config) TooLong() error {
	if c.VLAN == 0 || len(c.VLANName()) <= nameLen {
		return nil
	}
	return config.Invalid("vlanID: %d: the name %s has %d bytes: want at most %d", c.VLAN, c.VLANName(), len(c.VLANName()), nameLen)
}

// Parent returns the link below the VLAN: the bond or the interface.
func (c *Config) Parent() string {
	if c.BondName != "" {
		return c.BondName
	}
	return c.Interfaces[0]
}

// VLANName returns the name of the VLAN: that of vlanName, or one like ens192.100.
func (c *Config) VLANName() string {
	if c.As != "" {
		return c.As
	}
	return c.Parent() + "." + strconv.Itoa(c.VLAN)
}

// Links returns the links that ifacer makes, the bond before its VLAN.
func (c *Config) Links() []string {
	var out []string
	if c.BondName != "" {
		out = append(out, c.BondName)
	}
	if c.VLAN != 0 {
		out = append(out, c.VLANName())
	}
	return out
}

// flatten puts the keys of the object bond beside the others, as "bond.name" and so on,
// so that errors give their full names.
func flatten(raw map[string]json.RawMessage) (flat map[string]json.RawMessage, hasBond bool, err error) {
	flat = map[string]json.RawMessage{}
	given := ""
	for name, value := range raw {
		if !strings.EqualFold(name, "bond") {
			flat[name] = value
			continue
		}
		if given != "" {
			return nil, false, config.Invalid("%s: %s: want it once: %s, another spelling of the same key, is %s", name, value, given, raw[given])
		}
		given = name
		var bond map[string]json.RawMessage
		if json.Unmarshal(value, &bond) != nil {
			return nil, false, config.Invalid("bond: %s: want an object with name, mode and options", value)
		}
		for key, value := range bond {
			flat["bond."+key] = value
			hasBond = true
		}
	}
	return flat, hasBond, nil
}

// interfaces reads a list of different link names.
func interfaces(p *[]string) config.Value {
	return config.Value{
		Want: `a list of different interface names of 1 to 127 bytes, like ["ens192", "ens224"]`,
		Set: func(raw json.RawMessage) error {
			list, err := config.Strings(raw)
			if err != nil {
				return err
			}
			var out []string
			for _, name := range list {
				quoted, err := json.Marshal(name)
				if err != nil {
					return err
				}
				if config.Link(&name).Set(quoted) != nil {
					return fmt.Errorf("%q is none", name)
				}
				if slices.Contains(out, name) {
					return fmt.Errorf("%s is there twice", name)
				}
				out = append(out, name)
			}
			*p = out
			return nil
		},
	}
}

// vlanProtocol reads 802.1q or 802.1ad, in upper or lower case.
func vlanProtocol(p *string) config.Value {
	names := map[string]string{"802.1q": "802.1Q", "802.1ad": "802.1ad"}
	return config.Value{
		Want: "one of 802.1q, 802.1ad",
		Set: func(raw json.RawMessage) error {
			var s string
			if json.Unmarshal(raw, &s) != nil || names[strings.ToLower(s)] == "" {
				return fmt.Errorf("not allowed")
			}
			*p = names[strings.ToLower(s)]
			return nil
		},
	}
}
