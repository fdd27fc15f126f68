// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/plugin"
)

// older returns the numbers that the forerunners used: further NICs get the
// tables from 100 on, so that replies need another one, and each has a rule
// towards its subnet as well.
func older() *Config {
	c := Defaults()
	c.Mode = "underlay"
	c.ReplyTable, c.FirstTable, c.ToRules = 99, 100, true
	return c
}

// LoadOlder reads the keys of veth, coordinator's older name. Two plugins of this
// name are around, with different keys for one thing; both are understood.
func LoadOlder(raw map[string]json.RawMessage) (plugin.Conf, error) {
	c := older()
	skip := false
	var services, pods, others [2][]netip.Prefix
	err := plugin.Decode(raw, []plugin.Key{
		{Name: "service_cidr", Value: plugin.Prefixes(&services[0])},
		{Name: "service_hijack_subnet", Value: plugin.Prefixes(&services[1])},
		{Name: "cluster_cidr", Value: plugin.Prefixes(&pods[0])},
		{Name: "overlay_hijack_subnet", Value: plugin.Prefixes(&pods[1])},
		{Name: "additional_cidr", Value: plugin.Prefixes(&others[0])},
		{Name: "additional_hijack_subnet", Value: plugin.Prefixes(&others[1])},
		{Name: "rp_filter", Value: rpFilter(c)},
		{Name: "move_routes", Value: moveRoutes(c)},
		{Name: "migrate_route", Value: migrateRoute(c)},
		{Name: "skip_call", Value: plugin.Bool(&skip)},
		{Name: "hardware_prefix", Value: macPrefix(&c.MACPrefix)},
		{Name: "mac_prefix", Value: macPrefix(&c.MACPrefix)},
		{Name: "only_hardware", Value: plugin.Bool(&c.OnlyMAC)},
		{Name: "only_op_mac", Value: plugin.Bool(&c.OnlyMAC)},
		{Name: "ip_conflict", Value: ipConflict(c)},
	})
	if err != nil || skip {
		return nil, err
	}
	c.ServiceCIDR = append(services[0], services[1]...)
	c.OverlayPodCIDR = append(pods[0], pods[1]...)
	c.HijackCIDR = append(others[0], others[1]...)
	return c, nil
}

// rpFilter is {"enabled", "value"} of the one or {"set_host", "value"} of the
// other forerunner. Both wrote it to every link of the node; here it is for the
// pod's links and for the host end.
func rpFilter(c *Config) plugin.Value {
	return plugin.Value{
		Want: `an object like {"enabled": true, "set_host": true, "value": 0}, value from 0 to 2`,
		Set: func(raw json.RawMessage) error {
			v := struct {
				Enabled *bool `json:"enabled"`
				SetHost *bool `json:"set_host"`
				Value   *int  `json:"value"`
			}{}
			if err := json.Unmarshal(raw, &v); err != nil {
				return fmt.Errorf("not such an object")
			}
			if v.Value != nil {
				if *v.Value < 0 || *v.Value > 2 {
					return fmt.Errorf("value %d", *v.Value)
				}
				c.PodRPFilter, c.HostRPFilter = *v.Value, *v.Value
			}
			if v.SetHost != nil && !*v.SetHost {
				c.HostRPFilter = -1
			}
			if v.Enabled != nil && !*v.Enabled {
				c.PodRPFilter, c.HostRPFilter = -1, -1
			}
			return nil
		},
	}
}

// ipConflict is {"enabled", "retries", "interval"}.
func ipConflict(c *Config) plugin.Value {
	return plugin.Value{
		Want: `an object like {"enabled": true, "retries": 3, "interval": "50ms"}`,
		Set: func(raw json.RawMessage) error {
			var options map[string]json.RawMessage
			if err := json.Unmarshal(raw, &options); err != nil {
				return fmt.Errorf("not an object")
			}
			return plugin.Decode(options, []plugin.Key{
				{Name: "enabled", Value: plugin.Bool(&c.DetectIPConflict)},
				{Name: "retries", Value: plugin.Int(&c.Detect.Tries, 1, 10)},
				{Name: "interval", Value: duration(&c.Detect.Interval)},
			})
		},
	}
}

// moveRoutes is 0 (always), 1 (auto) or 2 (never).
func moveRoutes(c *Config) plugin.Value {
	return tune(c, "0 (always), 1 (auto) or 2 (never)", 0, 2, 2)
}

// migrateRoute is -1 (auto), 0 (never) or 1 (always).
func migrateRoute(c *Config) plugin.Value {
	return tune(c, "-1 (auto), 0 (never) or 1 (always)", -1, 1, 0)
}

// tune is a number from least to most, one of which means never to give a
// further NIC a table of its own. What the forerunners call auto is what they
// call always: neither ever looked at the names it was to decide by.
func tune(c *Config, want string, least, most, never int) plugin.Value {
	return plugin.Value{Want: want, Set: func(raw json.RawMessage) error {
		n := 0
		if err := plugin.Int(&n, least, most).Set(raw); err != nil {
			return err
		}
		c.TunePodRoutes = n != never
		return nil
	}}
}
