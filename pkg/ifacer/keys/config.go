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

// Config is what the keys of a configuration say.
type Config struct {
	Interfaces   []string // of the node
	VLAN         int      // 0: none
	VLANProtocol string   // as ip(8) prints it
	BondName     string   // "": none
	BondMode     string
	BondOptions  netstate.Details // in the order of netstate.BondOptions
	MTU          int              // of what is made; 0: what the kernel gives it
	Force        bool             // take NICs that the node itself uses
	RemoveUnused bool             // remove what was made with its last attachment
}

// nameLen is how long a link's name may be: IFNAMSIZ without the zero.
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

// check is about what keys must be together.
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
	case hasBond && c.TooLong() != nil:
		return c.TooLong()
	case c.MTU != 0 && c.VLAN == 0 && !hasBond:
		return config.Invalid("mtu: %d: want a vlanID or a bond that it is for", c.MTU)
	}
	return c.checkOptions()
}

// TooLong is about the name of the VLAN. Without a bond, that is known when the interface
// was found: it may be called by another of its names.
func (c *Config) TooLong() error {
	if c.VLAN == 0 || len(c.VLANName()) <= nameLen {
		return nil
	}
	return config.Invalid("vlanID: %d: the name %s has %d bytes: want at most %d", c.VLAN, c.VLANName(), len(c.VLANName()), nameLen)
}

// Parent is what a VLAN is made of.
func (c *Config) Parent() string {
	if c.BondName != "" {
		return c.BondName
	}
	return c.Interfaces[0]
}

func (c *Config) VLANName() string { return c.Parent() + "." + strconv.Itoa(c.VLAN) }

// Links are those that ifacer makes, what is needed first coming first.
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

// flatten puts the keys of the object bond beside the others, as "bond.name" and
// so on, so that errors name them whole.
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

// vlanProtocol is 802.1q or 802.1ad, in any case.
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
