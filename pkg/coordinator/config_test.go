// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/plugin"
)

// badValues are values that a key refuses, with what the error says of them.
var badValues = map[string][][2]string{
	"mode":             {{`"magic"`, "one of auto, underlay, overlay, disabled, disable"}, {`1`, "one of"}},
	"podDefaultCNINIC": {{`"two words"`, "an interface name of 1 to 127 bytes"}, {`5`, "an interface name"}},
	"serviceCIDR": {
		{`["10.96.0.0/40"]`, "a list of CIDRs or addresses"},
		{`{}`, "a list of CIDRs"},
		{`["0.0.0.0/0"]`, `"0.0.0.0/0" is the default route`},
		{`"10.0.0.1/0"`, `"10.0.0.1/0" is the default route`},
		{`["::ffff:10.96.0.0/108"]`, `"::ffff:10.96.0.0/108" is an IPv4-mapped IPv6 CIDR`},
	},
	"overlayPodCIDR":     {{`["pods"]`, "a list of CIDRs or addresses"}},
	"hijackCIDR":         {{`["1.1.1.1.1"]`, "a list of CIDRs or addresses"}},
	"hostRuleTable":      {{`0`, "a number from 1 to"}, {`254`, "but not 253 (default), 254 (main) or 255 (local)"}, {`"500"`, "a number"}},
	"hostRulePriority":   {{`0`, "a number from 1 to 32765"}, {`32766`, "a number from 1 to 32765"}},
	"podRPFilter":        {{`3`, "a number from -1 to 2"}, {`-2`, "a number from -1 to 2"}},
	"hostRPFilter":       {{`3`, "a number from -1 to 2"}},
	"vethMTU":            {{`0`, "a number from 68 to 65535"}, {`65536`, "a number from 68 to 65535"}},
	"replyMark":          {{`3`, "one bit of 32"}, {`"0x0"`, "one bit of 32"}},
	"markBackend":        {{`"ebtables"`, "one of"}},
	"nodeAddresses":      {{`["auto", "10.6.0.1"]`, "exclude each other"}, {`["!x"]`, "neither a CIDR nor an address"}, {`["x"]`, "not an address"}, {`["10.6.0.1", "!10.6.0.2"]`, `"!" excludes`}},
	"hostLink":           {{`"bridge"`, "one of veth, macvlan"}},
	"podDefaultRouteNIC": {{`"a/b"`, "an interface name"}},
	"tunePodRoutes":      {{`"false"`, "true or false"}, {`0`, "true or false"}},
	"policyRoutes": {
		{`[{"dst": "192.168.0.0/16", "gw": "fd00::1"}]`, "of different families"},
		{`[{"dst": "192.168.0.0/99", "gw": "10.6.0.1"}]`, "dst: "},
		{`[{"dst": "192.168.0.0/16", "gw": "router"}]`, "gw: "},
		{`{"dst": "192.168.0.0/16"}`, "not a list of routes"},
		{`[{"dst": "192.168.0.0/16", "gw": "10.6.0.1"}, {"dst": "192.168.9.9/16", "gw": "10.6.0.2"}]`, "dst 192.168.0.0/16 has two gateways, 10.6.0.1 and 10.6.0.2"},
		{`[{"dst": "fd00::/8", "gw": "fd00::1"}, {"dst": "fd99::1/8", "gw": "fe80::1"}]`, "dst fd00::/8 has two gateways, fd00::1 and fe80::1"},
		{`[{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]`, `dst: "0.0.0.0/0" is the default route`},
		{`[{"dst": "192.168.0.0/16", "gw": "10.6.0.1", "dev": "net1"}]`, `unknown key "dev"`},
		{`[{"dst": "192.168.0.0/16", "gw": "10.6.0.1", "GW": "10.6.0.2"}]`, "another spelling of the same key"},
		{`[{"dst": "192.168.0.0/16"}]`, `gw: "" is not an address`},
		{`[{"dst": 5, "gw": "10.6.0.1"}]`, "dst: 5: want a string"},
		{`[null]`, `dst: "" is neither`},
	},
	"txQueueLen":       {{`-1`, "a number from 0 to"}},
	"vethLinkAddress":  {{`"fe80::1"`, "an IPv4 address"}, {`"169.254.1.1/32"`, "an IPv4 address"}, {`"127.0.0.1"`, "a loopback address"}, {`"239.0.0.1"`, "a multicast address"}},
	"podMACPrefix":     {{`"03:1b"`, "a group address"}, {`"0a:1b:2c"`, "not two bytes"}, {`"0,:1b"`, "not two bytes"}},
	"detectIPConflict": {{`1`, "true or false"}},
	"detectGateway":    {{`"yes"`, "true or false"}},
	"detectOptions":    {{`{"retries": 0}`, "a number from 1 to 10"}, {`{"interval": 5}`, "a unit is needed"}, {`[]`, "not an object"}},
}

// TestBadValues: each is CNI's code 7 and names the key, the value and what is
// allowed, and no key goes without.
func TestBadValues(t *testing.T) {
	source, err := os.ReadFile("keys/config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range regexp.MustCompile(`(?m)^\t\t\{Name: "(\w+)", Value`).FindAllStringSubmatch(string(source), -1) {
		if len(badValues[k[1]]) == 0 {
			t.Errorf("no bad value of %s is tried", k[1])
		}
	}
	for key, values := range badValues {
		for _, v := range values {
			_, err := Load(map[string]json.RawMessage{key: json.RawMessage(v[0])})
			var e *types.Error
			if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig {
				t.Errorf("%s: %s: %v, want code 7", key, v[0], err)
				continue
			}
			for _, want := range []string{key + ": " + v[0], v[1]} {
				if !strings.Contains(e.Msg, want) {
					t.Errorf("%s: %s: %q doesn't say %q", key, v[0], e.Msg, want)
				}
			}
		}
	}
}

// addressKeys are those whose value is an address of some kind, %q, and which kind.
var addressKeys = map[string]string{
	`{"serviceCIDR": [%q]}`:                                          "destination",
	`{"overlayPodCIDR": %q}`:                                         "destination",
	`{"hijackCIDR": ["10.1.0.0/16", %q]}`:                            "destination",
	`{"policyRoutes": [{"dst": %q, "gw": "GATEWAY"}]}`:               "destination",
	`{"policyRoutes": [{"dst": "SUBNET", "gw": %q}]}`:                "neighbour",
	`{"nodeAddresses": [%q]}`:                                        "host",
	`{"service_cidr": %q}`:                                           "destination",
	`{"overlay_hijack_subnet": [%q]}`:                                "destination",
	`{"additional_cidr": [%q], "additional_hijack_subnet": [%[1]q]}`: "destination",
}

// TestAddresses gives every key every sort of address.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct{ address, goodFor string }{
		{"10.6.0.1", "destination neighbour host"},
		{"169.254.1.1", "destination neighbour host"}, // Calico's gateway, node-local DNS
		{"240.0.0.1", "destination neighbour host"},   // GKE's pods
		{"fd00:6::1", "destination neighbour host"},
		{"fe80::1", "neighbour"}, // routers
		{"fe80::1%net1", ""},
		{"::ffff:10.6.0.1", ""},
		{"0.0.0.0", ""},
		{"0.1.2.3", ""},
		{"::", ""},
		{"127.0.0.1", ""},
		{"127.9.9.9", ""},
		{"::1", ""},
		{"224.0.0.1", ""},
		{"239.255.255.255", ""},
		{"ff02::1", ""},
		{"255.255.255.255", ""},
		{"10.06.0.1", ""},
		{"10.6.0", ""},
		{"10.6.0.1 ", ""},
		{"10.6.0.1/16", "destination"},
		{"10.6.0.1/016", ""},
		{"fd00:6::9/64", "destination"},
		{"0.0.0.0/1", "destination"},
		{"128.0.0.0/1", "destination"}, // with groups in it
		{"127.0.0.0/8", ""},
		{"127.0.0.0/16", ""},
		{"224.0.0.0/4", ""},
		{"239.0.0.0/8", ""},
		{"ff00::/8", ""},
		{"fe80::/10", ""},
		{"fe80::/64", ""},
		{"0.0.0.0/0", ""},
		{"::/0", ""},
		{"0.0.0.0/8", ""},
		{"::ffff:0:0/96", ""},
		{"::ffff:10.6.0.0/112", ""},
		{"10.6.0.0/33", ""},
		{"10.6.0.0/-1", ""},
		{"fd00::/129", ""},
	} {
		for config, kind := range addressKeys {
			gateway, subnet := "10.6.0.9", "192.168.0.0/16"
			if strings.Contains(tt.address, ":") && !strings.Contains(tt.address, ".") {
				gateway, subnet = "fd00:6::9", "fd99::/16"
			}
			text := strings.NewReplacer("GATEWAY", gateway, "SUBNET", subnet).Replace(fmt.Sprintf(config, tt.address))
			var raw map[string]json.RawMessage
			if err := json.Unmarshal([]byte(text), &raw); err != nil {
				t.Fatal(err)
			}
			load := Load
			if strings.Contains(config, "_") {
				load = LoadOlder
			}
			_, err := load(raw)
			var e *types.Error
			switch {
			case strings.Contains(tt.goodFor, kind):
				if err != nil {
					t.Errorf("%s: %v", text, err)
				}
			case !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, strconv.Quote(tt.address)) || !strings.Contains(e.Msg, ": want "):
				t.Errorf("%s: %v, want code 7 with the address", text, err)
			}
		}
	}
}

// TestTwice has two values for one thing.
func TestTwice(t *testing.T) {
	for text, want := range map[string]string{
		`{"mode": "underlay", "MODE": "overlay"}`:                                                      `mode: "underlay": want it once: MODE, another spelling of the same key, is "overlay"`,
		`{"serviceCIDR": "10.96.0.0/12", "servicecidr": ["10.96.0.0/12"]}`:                             "another spelling",
		`{"name": "a", "Name": "b"}`:                                                                   "another spelling",
		`{"logOptions": {"logLevel": "info"}, "log_options": {}}`:                                      "another spelling",
		`{"detectOptions": {"retries": 3, "retry": 4}}`:                                                "another spelling",
		`{"policyRoutes": [{"dst": "10.96.0.1/12", "gw": "10.6.0.1"}], "serviceCIDR": "10.96.0.0/12"}`: "policyRoutes: dst 10.96.0.0/12: it is in serviceCIDR too: want it by the NIC or by the node",
		`{"policyRoutes": [{"dst": "1.1.1.1", "gw": "10.6.0.1"}], "hijackCIDR": "1.1.1.1"}`:            "it is in hijackCIDR too",
		`{"mode": "underlay", "MODE": "underlay"}`:                                                     "another spelling",
		`{"mode": "underlay", "MODE": null}`:                                                           "",
		`{"nodeAddresses": ["10.6.0.1", "10.6.0.1"], "NodeAddresses": ["10.6.0.1", "10.6.0.1"]}`:       "another spelling",
		`{"serviceCIDR": ["10.96.0.0/12", "10.96.0.0/12", "10.96.0.0/16"]}`:                            "",
		`{"policyRoutes": [{"dst": "10.9.0.0/16", "gw": "10.6.0.1"}, {"dst": "10.9.9.9/16", "gw": "10.6.0.1"}, {"dst": "10.9.9.0/24", "gw": "10.6.0.2"}]}`: "",
		`{"service_cidr": "10.96.0.0/12", "service_hijack_subnet": "10.97.0.0/16"}`:                                                                        `service_hijack_subnet: "10.97.0.0/16": want it once: service_cidr, another spelling`,
		`{"hardware_prefix": "0a:1b", "mac_prefix": "0a:1c"}`:                                                                                              "another spelling",
		`{"only_hardware": true, "only_op_mac": false}`:                                                                                                    "another spelling",
		`{"move_routes": 0, "migrate_route": 0}`:                                                                                                           "move_routes: want the same as migrate_route",
		`{"move_routes": 2, "migrate_route": 0}`:                                                                                                           "",
		`{"rp_filter": {"value": 2, "Value": 1}}`:                                                                                                          "another spelling",
		`{"rp_filter": {"valu": 2}}`:                                                                                                                       `nearest known one is "value"`,
	} {
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &raw); err != nil {
			t.Fatal(err)
		}
		load := Load
		if strings.Contains(text, "_") && !strings.Contains(text, "log_options") {
			load = LoadOlder
		}
		_, err := load(raw)
		var e *types.Error
		if want == "" && err != nil || want != "" && (!errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzLoad reads any configuration: what is refused is CNI's code 7.
func FuzzLoad(f *testing.F) {
	for key, values := range badValues {
		f.Add(fmt.Sprintf("{%q: %s}", key, values[0][0]))
	}
	f.Add(`{"mode": "underlay", "nodeAddresses": ["auto", "!10.6.0.0/24"], "policyRoutes": [{"dst": "fd00::/8", "gw": "fd00::1"}], "detectOptions": {"interval": "1s"}}`)
	f.Add(`{"service_cidr": "10.96.0.0/12", "rp_filter": {"set_host": true, "value": 2}, "move_routes": 2, "mac_prefix": "0a:1b", "ip_conflict": {"enabled": true}}`)
	f.Fuzz(func(t *testing.T, config string) {
		var raw map[string]json.RawMessage
		if json.Unmarshal([]byte(config), &raw) != nil {
			return
		}
		for _, load := range []plugin.Load{Load, LoadOlder} {
			conf, err := load(raw)
			var e *types.Error
			if err != nil && (!errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || conf != nil) {
				t.Errorf("%s: %v is not code 7", config, err)
			}
		}
	})
}

// FuzzPlan plans for any configuration in each situation that a NIC can be in.
func FuzzPlan(f *testing.F) {
	for _, config := range []string{
		`{"serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "hijackCIDR": ["10.6.168.123", "fd00:6::123", "169.254.20.10"]}`,
		`{"policyRoutes": [{"dst": "10.6.168.123", "gw": "10.6.0.1"}]}`,
		`{"policyRoutes": [{"dst": "192.168.9.0/24", "gw": "10.7.0.2"}, {"dst": "fd09::/64", "gw": "fe80::1"}]}`,
		`{"policyRoutes": [{"dst": "10.7.0.0/16", "gw": "10.7.0.2"}], "serviceCIDR": "10.7.0.0/16"}`,
		`{"nodeAddresses": ["10.6.168.200", "10.6.168.200", "fd00:6::123"], "hijackCIDR": ["10.6.168.200/32"]}`,
		`{"nodeAddresses": ["!10.6.168.123", "!fd00:6::/64"]}`,
		`{"nodeAddresses": ["10.6.0.172"]}`,
		`{"service_cidr": "0.0.0.0/1", "additional_cidr": ["128.0.0.0/1", "8000::/1"]}`,
		`{"vethLinkAddress": "10.6.0.172", "podDefaultRouteNIC": "net1"}`,
	} {
		f.Add(config)
	}
	suite.Fuzz(f, "underlay-dual", "further-dual", "overlay-calico", "hostlink-macvlan")
}
