// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/multihome/multihome/pkg/coordinator/keys"
)

func loadOlder(t *testing.T, text string) (*Config, error) {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	conf, err := LoadOlder(raw)
	if conf == nil {
		return nil, err
	}
	return conf.(*Config), err
}

func TestOlderKeys(t *testing.T) {
	cidr := func(s ...string) (out []netip.Prefix) {
		for _, s := range s {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	for _, tt := range []struct {
		text string
		set  func(c *Config)
	}{
		{`{}`, func(*Config) {}},
		{`{"service_cidr": "10.96.0.0/12", "cluster_cidr": ["10.244.0.0/16"], "additional_cidr": ["1.1.1.1"]}`, func(c *Config) {
			c.ServiceCIDR, c.OverlayPodCIDR, c.HijackCIDR = cidr("10.96.0.0/12"), cidr("10.244.0.0/16"), cidr("1.1.1.1/32")
		}},
		{`{"service_hijack_subnet": ["10.96.0.0/12"], "overlay_hijack_subnet": ["10.244.0.0/16"], "additional_hijack_subnet": ["fd00::/64"]}`, func(c *Config) {
			c.ServiceCIDR, c.OverlayPodCIDR, c.HijackCIDR = cidr("10.96.0.0/12"), cidr("10.244.0.0/16"), cidr("fd00::/64")
		}},
		{`{"rp_filter": {"enabled": false}}`, func(c *Config) { c.PodRPFilter, c.HostRPFilter = -1, -1 }},
		{`{"rp_filter": {"value": 2}}`, func(c *Config) { c.PodRPFilter, c.HostRPFilter = 2, 2 }},
		{`{"rp_filter": {"set_host": false, "value": 1}}`, func(c *Config) { c.PodRPFilter, c.HostRPFilter = 1, -1 }},
		{`{"move_routes": 0}`, func(*Config) {}},
		{`{"move_routes": 2}`, func(c *Config) { c.TunePodRoutes = false }},
		{`{"migrate_route": -1}`, func(*Config) {}},
		{`{"migrate_route": 0}`, func(c *Config) { c.TunePodRoutes = false }},
		{`{"mac_prefix": "0a-1b", "only_op_mac": true}`, func(c *Config) { c.MACPrefix, c.OnlyMAC = []byte{0x0a, 0x1b}, true }},
		{`{"hardware_prefix": "0a:1b", "only_hardware": true}`, func(c *Config) { c.MACPrefix, c.OnlyMAC = []byte{0x0a, 0x1b}, true }},
		{`{"ip_conflict": {"enabled": true, "interval": "1s", "retries": 5}}`, func(c *Config) {
			c.DetectIPConflict, c.Detect.Tries, c.Detect.Interval = true, 5, time.Second
		}},
		{`{"log_options": {"log_level": "debug", "log_file": "/var/log/veth.log", "log_max_size": 1}}`, func(*Config) {}},
	} {
		want := &Config{Config: *keys.OlderDefaults()}
		tt.set(want)
		got, err := loadOlder(t, tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		if d := cmp.Diff(want.Config, got.Config, cmpopts.IgnoreUnexported(keys.Config{}), cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}), cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, d)
		}
	}
	if c, err := loadOlder(t, `{"skip_call": true}`); c != nil || err != nil {
		t.Errorf("skip_call: %v, %v, want nothing to do", c, err)
	}
}

func TestOlderKeysErrors(t *testing.T) {
	for text, want := range map[string]string{
		`{"service_cidr": 5}`:                      "service_cidr: 5: want a list of CIDRs",
		`{"rp_filter": {"value": 3}}`:              `rp_filter: {"value": 3}: want an object like`,
		`{"rp_filter": 1}`:                         "rp_filter: 1: want an object like",
		`{"move_routes": 3}`:                       "move_routes: 3: want 0 (always)",
		`{"migrate_route": 2}`:                     "migrate_route: 2: want -1 (auto)",
		`{"mac_prefix": "03:1b"}`:                  "a group address",
		`{"ip_conflict": true}`:                    "ip_conflict: true: want an object like",
		`{"ip_conflict": {"enable": true}}`:        `nearest known one is "enabled"`,
		`{"skip_call": "yes"}`:                     `skip_call: "yes": want true or false`,
		`{"serviceCIDR": ["10.96.0.0/12"]}`:        `nearest known one is "service_cidr"`,
		`{"hardware_prefix": "0a1b", "mode": "x"}`: "not two bytes",
	} {
		if _, err := loadOlder(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
