// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
)

// Bridge names a macvlan of the node, and its parent.
type Bridge struct {
	Name   string
	Parent string
}

// Config holds the values of the keys.
type Config struct {
	Bridge       Bridge // on the node; without a name: none
	RemoveUnused bool   // GC removes the bridge when nothing uses it

	SBR         bool
	Table       int                            // an existing table for all addresses; 0: a new one for each
	Gateways    map[netstate.Family]netip.Addr // preferred to those of prevResult
	SourceHints bool                           // keep routes to the subnets in main, with the address as source
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

// check checks which keys need or exclude each other.
func (c *Config) check() error {
	b := c.Bridge
	switch {
	case b == Bridge{} && !c.SBR:
		return config.Invalid("sbr: false: without master and bridge there is nothing to do: want master and bridge, or sbr, or all three")
	case b.Name == "" && b.Parent != "":
		return config.Invalid("bridge: missing: want the name of the node's macvlan on master %s", b.Parent)
	case b.Name != "" && b.Parent == "":
		return config.Invalid("master: missing: want the parent of bridge %s, a link of the node", b.Name)
	case b.Name != "" && b.Name == b.Parent:
		return config.Invalid("bridge: %q: want another name than master's", b.Name)
	case c.RemoveUnused && b.Name == "":
		return config.Invalid("removeUnused: true: want a bridge with it")
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

// checkTable checks table, and the keys that exclude it: in an existing table route
// makes no routes and moves none there.
func (c *Config) checkTable() error {
	switch {
	case c.Table == 0:
		return nil
	case c.Table == netstate.TableLocal:
		return config.Invalid("table: %d: want another one: this is table local, which the kernel needs for itself", c.Table)
	case len(c.Gateways) > 0:
		return config.Invalid("gateways: with table %d: want one of the two: no route is made in an existing table", c.Table)
	case c.SourceHints:
		return config.Invalid("addSourceHints: with table %d: want one of the two: no route is moved to an existing table", c.Table)
	}
	return nil
}

// gateways reads a list of at most one address of each family.
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
