// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"maps"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
)

// OlderDefaults returns the numbers of veth's forerunners. Further NICs get the tables
// from 100 on, so replies need another table. Each further NIC has a rule to its subnet
// too.
func OlderDefaults() *Config {
	c := Defaults()
	c.Mode = "underlay"
	c.ReplyTable, c.FirstTable, c.ToRules = netstate.OlderReplyTable, netstate.OlderReplyTable+1, true
	return c
}

// LoadOlder reads the keys of veth, coordinator's older name, on a node without defaults.
// There are two plugins of this name, with different keys for the same setting; LoadOlder
// understands both. It returns nil if skip_call is set.
func LoadOlder(raw map[string]json.RawMessage) (*Config, error) { return LoadOlderWith(raw, Others{}) }

// stands lists the keys of coordinator that a key of veth stands for. The node's defaults
// have coordinator's names.
var stands = map[string][]string{
	"service_cidr":    {"serviceCIDR"},
	"cluster_cidr":    {"overlayPodCIDR"},
	"additional_cidr": {"hijackCIDR"},
	"rp_filter":       {"podRPFilter", "hostRPFilter"},
	"move_routes":     {"tunePodRoutes"},
	"migrate_route":   {"tunePodRoutes"},
	"hardware_prefix": {"podMACPrefix"},
	"ip_conflict":     {"detectIPConflict", "detectOptions"},
}

// LoadOlderWith reads the keys of veth. The value of a key that the chain lacks is that of
// others, or else the built-in one. veth takes no mode from the node: it has none but
// underlay. It returns nil if skip_call is set.
func LoadOlderWith(chain map[string]json.RawMessage, others Others) (*Config, error) {
	c := OlderDefaults()
	skip := false
	var moved, migrated *bool
	older := []config.Key{
		{Name: "service_cidr", Value: config.Prefixes(&c.ServiceCIDR), Also: "service_hijack_subnet"},
		{Name: "cluster_cidr", Value: config.Prefixes(&c.OverlayPodCIDR), Also: "overlay_hijack_subnet"},
		{Name: "additional_cidr", Value: config.Prefixes(&c.HijackCIDR), Also: "additional_hijack_subnet"},
		{Name: "rp_filter", Value: rpFilter(c)},
		{Name: "move_routes", Value: tune(&moved, "0 (always), 1 (auto) or 2 (never)", 0, 2, 2)},
		{Name: "migrate_route", Value: tune(&migrated, "-1 (auto), 0 (never) or 1 (always)", -1, 1, 0)},
		{Name: "skip_call", Value: config.Bool(&skip)},
		{Name: "hardware_prefix", Value: macPrefix(&c.MACPrefix), Also: "mac_prefix"},
		{Name: "only_hardware", Value: config.Bool(&c.OnlyMAC), Also: "only_op_mac"},
		{Name: "ip_conflict", Value: ipConflict(c)},
	}
	given := map[string]Origin{}
	for _, k := range older {
		if config.Has(chain, k) {
			for _, name := range stands[k.Name] {
				given[name] = Chain
			}
		}
	}
	if err := c.take(others, func(k config.Key) bool { return k.Name != "mode" && given[k.Name] == "" }); err != nil {
		return nil, err
	}
	maps.Copy(c.origins, given)
	err := config.Decode(chain, older)
	if err != nil || skip {
		return nil, err
	}
	if moved != nil && migrated != nil && *moved != *migrated {
		return nil, config.Invalid("move_routes: want the same as migrate_route, or one of the two keys: one says never, the other doesn't")
	}
	for _, given := range []*bool{moved, migrated} {
		if given != nil {
			c.TunePodRoutes = *given
		}
	}
	return c, c.check()
}

// rpFilter accepts {"enabled", "value"} of one forerunner or {"set_host", "value"} of the
// other. Both forerunners wrote the value to every link of the node; veth writes it to
// the pod's links and to the host end.
func rpFilter(c *Config) config.Value {
	return config.Value{
		Want: `an object like {"enabled": true, "set_host": true, "value": 0}, value from 0 to 2`,
		Set: func(raw json.RawMessage) error {
			enabled, setHost, value := true, true, -1
			err := config.Fields(raw, []config.Key{
				{Name: "enabled", Value: config.Bool(&enabled)},
				{Name: "set_host", Value: config.Bool(&setHost)},
				{Name: "value", Value: config.Int(&value, 0, 2)},
			})
			if value >= 0 {
				c.PodRPFilter, c.HostRPFilter = value, value
			}
			if !setHost {
				c.HostRPFilter = -1
			}
			if !enabled {
				c.PodRPFilter, c.HostRPFilter = -1, -1
			}
			return err
		},
	}
}

// ipConflict accepts {"enabled", "retries", "interval"}.
func ipConflict(c *Config) config.Value {
	return config.Value{
		Want: `an object like {"enabled": true, "retries": 3, "interval": "50ms"}`,
		Set: func(raw json.RawMessage) error {
			return config.Fields(raw, []config.Key{
				{Name: "enabled", Value: config.Bool(&c.DetectIPConflict)},
				{Name: "retries", Value: config.Int(&c.Detect.Tries, 1, 10)},
				{Name: "interval", Value: duration(&c.Detect.Interval)},
			})
		},
	}
}

// tune accepts a number from least to most. The number never means that a further NIC
// gets no table of its own. The forerunners' auto is the same as their always: neither
// ever read the interface names that auto was meant to decide by.
func tune(p **bool, want string, least, most, never int) config.Value {
	return config.Value{Want: want, Set: func(raw json.RawMessage) error {
		n := 0
		if err := config.Int(&n, least, most).Set(raw); err != nil {
			return err
		}
		tunes := n != never
		*p = &tunes
		return nil
	}}
}
