// SPDX-License-Identifier: Apache-2.0

package route

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/plugin"
)

func loaded(config string) (plugin.Conf, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(config), &raw); err != nil {
		return nil, err
	}
	return Load(raw)
}

func TestGoodConfigurations(t *testing.T) {
	for _, config := range []string{
		`{"master": "eno1", "bridge": "eno1.host"}`,
		`{"MASTER": "eno1", "Bridge": "eno1.host", "removeUnused": true}`,
		`{"sbr": true}`,
		`{"sbr": true, "table": 5000}`,
		`{"sbr": true, "gateways": []}`,
		`{"sbr": true, "gateways": "10.6.0.1", "addSourceHints": true}`,
		`{"sbr": true, "gateways": ["fd00:6::1", "10.6.0.1"]}`,
		`{"sbr": true, "gateways": ["fe80::1", "10.6.0.1", "10.6.0.1"]}`,
		`{"sbr": true, "ipam": {}, "dns": {}}`,
		`{"master": "eno1", "bridge": "eno1.host", "sbr": true}`,
		`{"master": "", "bridge": null, "sbr": true}`,
	} {
		if _, err := loaded(config); err != nil {
			t.Errorf("%s: %v", config, err)
		}
	}
}

// TestBadConfigurations: each is CNI's code 7, names the key, and says what is
// allowed.
func TestBadConfigurations(t *testing.T) {
	for _, tt := range []struct{ config, want string }{
		{`{}`, "want master and bridge, or sbr"},
		{`{"sbr": false}`, "want master and bridge, or sbr"},
		{`{"master": "eno1"}`, "bridge: missing: want"},
		{`{"bridge": "eno1.host"}`, "master: missing: want"},
		{`{"master": "eno1", "bridge": "eno1"}`, `bridge: "eno1": want another name`},
		{`{"master": "eno1", "bridge": "a-name-of-16-byt"}`, `bridge: "a-name-of-16-byt": want an interface name`},
		{`{"master": "a/b", "bridge": "eno1.host"}`, `master: "a/b": want an interface name`},
		{`{"master": 1, "bridge": "eno1.host"}`, `master: 1: want an interface name`},
		{`{"sbr": "yes"}`, `sbr: "yes": want true or false`},
		{`{"sbr": true, "removeUnused": true}`, "removeUnused: true: want a bridge"},
		{`{"master": "eno1", "bridge": "eno1.host", "removeUnused": 1}`, "removeUnused: 1: want true or false"},
		{`{"sbr": true, "table": 0}`, "table: 0: want a number from 1 to 2147483647"},
		{`{"sbr": true, "table": "main"}`, `table: "main": want a number`},
		{`{"sbr": true, "table": 255}`, "table: 255: want another one"},
		{`{"master": "eno1", "bridge": "eno1.host", "table": 100}`, "table: 100: want sbr"},
		{`{"sbr": true, "gateways": ["10.6.0.1", "10.6.0.2"]}`, "10.6.0.1 and 10.6.0.2 are of one family"},
		{`{"sbr": true, "gateways": ["fd00::1", "fd00::2"]}`, "are of one family"},
		{`{"sbr": true, "gateways": ["10.6.0.0/16"]}`, `"10.6.0.0/16" is not an address`},
		{`{"sbr": true, "gateways": ["fe80::1%eth0"]}`, `"fe80::1%eth0" has a zone: write fe80::1`},
		{`{"sbr": true, "gateways": ["0.0.0.0"]}`, `"0.0.0.0" is in 0.0.0.0/8: no machine has such an address`},
		{`{"sbr": true, "gateways": ["::ffff:10.6.0.1"]}`, `"::ffff:10.6.0.1" is an IPv4-mapped IPv6 address: write 10.6.0.1`},
		{`{"sbr": true, "gateways": ["127.0.0.1"]}`, `"127.0.0.1" is a loopback address`},
		{`{"sbr": true, "gateways": ["::1"]}`, `"::1" is a loopback address`},
		{`{"sbr": true, "gateways": ["255.255.255.255"]}`, `"255.255.255.255" is the broadcast address`},
		{`{"sbr": true, "gateways": ["ff02::2"]}`, `"ff02::2" is a multicast address`},
		{`{"sbr": true, "gateways": ["10.6.0.01"]}`, "leading zero"},
		{`{"sbr": true, "SBR": true}`, "another spelling of the same key"},
		{`{"sbr": true, "SBR": false}`, "another spelling of the same key"},
		{`{"sbr": true, "table": 1e2}`, "table: 1e2: want a number from 1 to 2147483647 (digits alone"},
		{`{"sbr": true, "mode": "bridge"}`, `unknown key "mode": it is another plugin's: put it into the configuration of the plugin macvlan or ipvlan`},
		{`{"sbr": true, "mtu": 1500}`, `unknown key "mtu": it is another plugin's: put it into the configuration of the plugin that makes the NIC`},
		{`{"sbr": true, "gateways": 5}`, "gateways: 5: want a list of at most one IPv4 and one IPv6 address"},
		{`{"sbr": true, "table": 100, "gateways": ["10.6.0.1"]}`, "gateways: with table 100"},
		{`{"sbr": true, "table": 100, "addSourceHints": true}`, "addSourceHints: with table 100"},
		{`{"master": "eno1", "bridge": "eno1.host", "gateways": ["10.6.0.1"]}`, "gateways: want sbr"},
		{`{"master": "eno1", "bridge": "eno1.host", "addSourceHints": true}`, "addSourceHints: true: want sbr"},
		{`{"sbr": true, "addSourceHints": "x"}`, `addSourceHints: "x": want true or false`},
		{`{"srb": true}`, `unknown key "srb": the nearest known one is "sbr"`},
	} {
		_, err := loaded(tt.config)
		var e *types.Error
		if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, tt.want) {
			t.Errorf("%s: %v, want code 7 with %q", tt.config, err, tt.want)
		}
	}
}

// FuzzLoad reads any configuration: what is refused is CNI's code 7.
func FuzzLoad(f *testing.F) {
	f.Add(`{"master": "eno1", "bridge": "eno1.host", "removeUnused": true, "sbr": true, "gateways": ["10.6.0.1"], "addSourceHints": true}`)
	f.Add(`{"sbr": true, "table": 5000}`)
	f.Fuzz(func(t *testing.T, config string) {
		_, err := loaded(config)
		var raw map[string]json.RawMessage
		var e *types.Error
		if err != nil && json.Unmarshal([]byte(config), &raw) == nil && (!errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig) {
			t.Errorf("%s: %v is not code 7", config, err)
		}
	})
}

// FuzzPlan plans for any configuration in each situation that a NIC can be in.
func FuzzPlan(f *testing.F) {
	for _, config := range []string{
		`{"master": "ens192", "bridge": "ens192.host", "sbr": true}`,
		`{"sbr": true, "gateways": ["10.6.0.2", "fe80::1"], "addSourceHints": true}`,
		`{"sbr": true, "gateways": ["10.6.0.172", "fd00:6::172"]}`,
		`{"sbr": true, "gateways": ["192.0.2.1", "2001:db8::1"]}`,
		`{"sbr": true, "table": 254}`,
	} {
		f.Add(config)
	}
	suite.Fuzz(f, "sbr", "sbr-several", "sbr-single", "bridge")
}
