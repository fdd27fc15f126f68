// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/plugin"
)

// badValues are values that a key refuses, with what the error says of them.
var badValues = map[string][][2]string{
	"mode":               {{`"magic"`, "one of auto, underlay, overlay, disabled, disable"}, {`1`, "one of"}},
	"podDefaultCNINIC":   {{`"sixteen-bytes-00"`, "an interface name of 1 to 15 bytes"}, {`5`, "an interface name"}},
	"serviceCIDR":        {{`["10.96.0.0/40"]`, "a list of CIDRs or addresses"}, {`{}`, "a list of CIDRs"}},
	"overlayPodCIDR":     {{`["pods"]`, "a list of CIDRs or addresses"}},
	"hijackCIDR":         {{`["1.1.1.1.1"]`, "a list of CIDRs or addresses"}},
	"hostRuleTable":      {{`0`, "a number from 1 to"}, {`254`, "but not 253 (default), 254 (main) or 255 (local)"}, {`"500"`, "a number"}},
	"hostRulePriority":   {{`0`, "a number from 1 to 32765"}, {`32766`, "a number from 1 to 32765"}},
	"podRPFilter":        {{`3`, "a number from -1 to 2"}, {`-2`, "a number from -1 to 2"}},
	"hostRPFilter":       {{`3`, "a number from -1 to 2"}},
	"vethMTU":            {{`0`, "a number from 68 to 65535"}, {`65536`, "a number from 68 to 65535"}},
	"replyMark":          {{`3`, "one bit of 32"}, {`"0x0"`, "one bit of 32"}},
	"markBackend":        {{`"ebtables"`, "one of"}},
	"nodeAddresses":      {{`["auto", "10.6.0.1"]`, "exclude each other"}, {`["!x"]`, "neither a CIDR nor an address"}, {`["x"]`, "not an address"}},
	"hostLink":           {{`"bridge"`, "one of veth, macvlan"}},
	"podDefaultRouteNIC": {{`"a/b"`, "an interface name"}},
	"tunePodRoutes":      {{`"false"`, "true or false"}, {`0`, "true or false"}},
	"policyRoutes": {
		{`[{"dst": "192.168.0.0/16", "gw": "fd00::1"}]`, "of different families"},
		{`[{"dst": "192.168.0.0/99", "gw": "10.6.0.1"}]`, "dst: "},
		{`[{"dst": "192.168.0.0/16", "gw": "router"}]`, "gw: "},
		{`{"dst": "192.168.0.0/16"}`, "not a list of routes"},
	},
	"txQueueLen":       {{`-1`, "a number from 0 to"}},
	"vethLinkAddress":  {{`"fe80::1"`, "an IPv4 address"}, {`"169.254.1.1/32"`, "an IPv4 address"}},
	"podMACPrefix":     {{`"03:1b"`, "for groups"}, {`"0a:1b:2c"`, "not two bytes"}, {`"0,:1b"`, "not two bytes"}},
	"detectIPConflict": {{`1`, "true or false"}},
	"detectGateway":    {{`"yes"`, "true or false"}},
	"detectOptions":    {{`{"retries": 0}`, "a number from 1 to 10"}, {`{"interval": 5}`, "a unit is needed"}, {`[]`, "not an object"}},
}

// TestBadValues: each is CNI's code 7 and names the key, the value and what is
// allowed, and no key goes without.
func TestBadValues(t *testing.T) {
	source, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range regexp.MustCompile(`\{Name: "(\w+)", Value`).FindAllStringSubmatch(string(source), -1) {
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
