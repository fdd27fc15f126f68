// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
)

// Bridge names the node's own macvlan and the link that it is on.
type Bridge struct {
	Name   string
	Parent string
}

// Config is what the keys of a configuration say.
type Config struct {
	Bridge       Bridge // of the node; without a name: none
	RemoveUnused bool   // GC removes it when nothing uses it

	SBR         bool
	Table       int                            // that exists, for all addresses; 0: one of its own for each
	Gateways    map[netstate.Family]netip.Addr // before those of prevResult
	SourceHints bool                           // leave main the subnets, with the address as their source
}

// Load reads and checks the configuration.
func Load(raw map[string]json.RawMessage) (*Config, error) {
	c := &Config{Gateways: map[netstate.Family]netip.Addr{}}
	err := config.Decode(raw, []config.Key{
		{Name: "master", Value: config.Link(&c.Bridge.Parent)},
		{Name: "bridge", Value: config.Interface(&c.Bridge.Name)},
		{Name: "removeUnused", Value: config.Bool(&c.RemoveUnused)},
		{Name: "sbr", Value: config.Bool(&c.SBR)},
		{Name: "table", Value: config.Int(&c.Table, 1, 1<<31-1)},
		{Name: "gateways", Value: gateways(c.Gateways)},
		{Name: "addSourceHints", Value: config.Bool(&c.SourceHints)},
	})
	if err != nil {
		return nil, err
	}
	return c, c.check()
}

// check is about what keys must be together.
func (c *Config) check() error {
	b := c.Bridge
	switch {
	case b == Bridge{} && !c.SBR:
		return config.Invalid("sbr: false, without master and bridge there is nothing to do: want master and bridge, or sbr, or all of them")
	case b.Name == "" && b.Parent != "":
		return config.Invalid("bridge: missing: want the name of the node's macvlan on master %s", b.Parent)
	case b.Name != "" && b.Parent == "":
		return config.Invalid("master: missing: want the link of the node that bridge %s is on", b.Name)
	case b.Name != "" && b.Name == b.Parent:
		return config.Invalid("bridge: %q: want another name than master's", b.Name)
	case c.RemoveUnused && b.Name == "":
		return config.Invalid("removeUnused: true: want a bridge that it is for")
	case c.SBR:
		return c.checkTable()
	case c.Table != 0:
		return config.Invalid("table: %d: want sbr with it", c.Table)
	case len(c.Gateways) > 0:
		return config.Invalid("gateways: want sbr with them")
	case c.SourceHints:
		return config.Invalid("addSourceHints: true: want sbr with it")
	}
	return nil
}

// checkTable is about keys that are for tables of a NIC's own: with a table that
// exists no route is made or moved.
func (c *Config) checkTable() error {
	switch {
	case c.Table == 0:
		return nil
	case c.Table == netstate.TableLocal:
		return config.Invalid("table: %d: want another one than the kernel's own (local)", c.Table)
	case len(c.Gateways) > 0:
		return config.Invalid("gateways: with table %d, in which no route is made: want one of them", c.Table)
	case c.SourceHints:
		return config.Invalid("addSourceHints: with table %d, to which no route is moved: want one of them", c.Table)
	}
	return nil
}

// gateways is a list of at most one address of each family.
func gateways(p map[netstate.Family]netip.Addr) config.Value {
	return config.Value{
		Want: `a list of at most one IPv4 and one IPv6 address, like ["10.6.0.1", "fd00:6::1"]`,
		Set: func(raw json.RawMessage) error {
			list, err := config.Strings(raw)
			if err != nil {
				return err
			}
			for _, s := range list {
				a, err := config.ParseNeighbour(s)
				if err != nil {
					return err
				}
				f := netstate.FamilyOf(a)
				if p[f].IsValid() && p[f] != a {
					return fmt.Errorf("%s and %s are of one family", p[f], a)
				}
				p[f] = a
			}
			return nil
		},
	}
}
