// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// values is a configuration with a key of every sort of Value.
type values struct {
	Bool  bool
	Int   int
	Word  string
	Link  string
	Bit   uint32
	CIDRs []netip.Prefix
}

func (v *values) keys() []Key {
	return []Key{
		{Name: "bool", Value: Bool(&v.Bool)},
		{Name: "number", Value: Int(&v.Int, -1, 9), Also: "numero"},
		{Name: "mode", Value: OneOf(&v.Word, "auto", "manual")},
		{Name: "link", Value: Interface(&v.Link)},
		{Name: "mark", Value: Bit(&v.Bit)},
		{Name: "cidrs", Value: Prefixes(&v.CIDRs)},
	}
}

func decode(t *testing.T, text string) (values, error) {
	t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	var v values
	return v, Decode(raw, v.keys())
}

func TestDecode(t *testing.T) {
	p := netip.MustParsePrefix
	for _, tt := range []struct {
		text string
		want values
	}{
		{`{}`, values{}},
		{`{"bool": true, "number": -1, "mode": "manual", "link": "eth0.100", "mark": "0x40"}`, values{Bool: true, Int: -1, Word: "manual", Link: "eth0.100", Bit: 64}},
		{`{"mark": 2147483648}`, values{Bit: 1 << 31}},
		{`{"BOOL": true, "nUmBeR": 9}`, values{Bool: true, Int: 9}},
		{`{"numero": 3, "number": 3}`, values{Int: 3}},
		{`{"number": -0}`, values{}},
		{`{"type": "x", "ipam": {}, "dns": {}, "capabilities": null, "routes": []}`, values{}},
		{`{"ipam": {"type": "host-local"}, "dns": {"nameservers": ["1.1.1.1"]}, "capabilities": {"mac": true}}`, values{}},
		{`{"bool": null, "link": "", "cidrs": null}`, values{}},
		{`{"cidrs": "10.96.0.0/12"}`, values{CIDRs: []netip.Prefix{p("10.96.0.0/12")}}},
		{`{"cidrs": ["10.6.0.9/16", "1.1.1.1", "fd00::1", "10.6.0.0/16"]}`, values{CIDRs: []netip.Prefix{p("10.6.0.0/16"), p("1.1.1.1/32"), p("fd00::1/128")}}},
		{`{"type": "x", "cniVersion": "1.1.0", "prevResult": {}, "runtimeConfig": {}, "cni.dev/x": 1, "example.com/y": 2, "logOptions": {}}`, values{}},
		{`{"type": "x", "args": {"cni": {"ips": ["10.6.0.172/16"]}}, "deviceID": "0000:3b:02.1", "pciBusID": "0000:3b:02.1"}`, values{}},
	} {
		got, err := decode(t, tt.text)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
		}
		if d := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.text, d)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{"bool": 1}`, `bool: 1: want true or false`},
		{`{"bool": "true"}`, `bool: "true": want true or false`},
		{`{"number": 10}`, `number: 10: want a number from -1 to 9`},
		{`{"number": 1.5}`, `number: 1.5: want a number from -1 to 9`},
		{`{"number": 1.0}`, `number: 1.0: want a number from -1 to 9 (digits alone, without a point or an exponent)`},
		{`{"number": 1e0}`, `number: 1e0: want a number from -1 to 9 (digits alone`},
		{`{"number": 99999999999999999999}`, `want a number from -1 to 9`},
		{`{"number": 1, "numero": 2}`, `numero: 2: want it once: number, another spelling of the same key, is 1`},
		{`{"ipMasq": true}`, `unknown key "ipMasq": it is another plugin's: put it into the configuration of the plugin bridge or ptp`},
		{`{"isDefaultGateway": false}`, `of the plugin bridge`},
		{`{"PROMISCMODE": true}`, `of the plugin bridge`},
		{`{"vlan": 5}`, `of the plugin bridge, sriov or ovs`},
		{`{"mtu": 1500}`, `of the plugin that makes the NIC, or of tuning`},
		{`{"hijackCIDR": "1.1.1.1"}`, `of coordinator`},
		{`{"modes": "auto"}`, `the nearest known one is "mode"`},
		{`{"number": "1"}`, `number: "1": want a number from -1 to 9`},
		{`{"mode": "magic"}`, `mode: "magic": want one of auto, manual`},
		{`{"link": "sixteen-bytes-00"}`, `link: "sixteen-bytes-00": want an interface name`},
		{`{"link": "a/b"}`, `want an interface name`},
		{`{"link": ".."}`, `want an interface name`},
		{`{"link": "eth%d"}`, `want an interface name`},
		{`{"mark": 3}`, `mark: 3: want one bit of 32`},
		{`{"mark": 0}`, `mark: 0: want one bit of 32`},
		{`{"mark": "0x100000000"}`, `want one bit of 32`},
		{`{"cidrs": ["10.96.0.0/33"]}`, `"10.96.0.0/33" is neither a CIDR nor an address`},
		{`{"cidrs": 5}`, `cidrs: 5: want a list of CIDRs or addresses`},
		{`{"cidrs": ["fe80::1%eth0"]}`, `"fe80::1%eth0" has a zone`},
		{`{"cidrs": ["10.096.0.0/12"]}`, `"10.096.0.0/12" is neither a CIDR nor an address: IPv4 field has octet with leading zero`},
		{`{"nmber": 1}`, `unknown key "nmber": the nearest known one is "number"`},
		{`{"CIDR": []}`, `the nearest known one is "cidrs"`},
	} {
		_, err := decode(t, tt.text)
		var e *types.Error
		if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, tt.want) {
			t.Errorf("%s: %v, want code 7 with %q", tt.text, err, tt.want)
		}
	}
}

// TestObject finds keys that are there twice, wherever.
func TestObject(t *testing.T) {
	for text, want := range map[string]string{
		`{}`: "", `{"a": 1, "b": {"a": 1, "c": [{"a": 1}, {"a": 2}]}}`: "",
		`{"a": ["a", "a"], "b": "a", "c": "{\"a\": 1, \"a\": 2}"}`:        "",
		`{"a": {"x": [1, {"y": 2}]}, "x": "\\", "y": [[], [{}]], "z": 1}`: "",
		`{"a": 1, "a": 1}`: "a",
		`{"a": 1, "b": [0, {"c": 1, "d": {}, "c": 2}]}`: "c",
		`{"a": {"b": 1}, "c": [], "a": 2}`:              "a",
		"{\"mode\": 1, \"\\u006dode\": 2}":              "mode",
	} {
		raw, err := Object([]byte(text))
		if raw == nil || want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want+": there twice")) {
			t.Errorf("%s: %v, %v, want %q", text, raw, err, want)
		}
	}
	if raw, err := Object([]byte(`{"a": 1}, {}`)); raw != nil || err == nil {
		t.Errorf("something behind it: %v, %v", raw, err)
	}
}

// FuzzObject holds the search for repeated keys against encoding/json, which knows a
// text by its tokens.
func FuzzObject(f *testing.F) {
	f.Add(`{"a": 1, "b": [0, {"c": 1, "d": {}, "c": 2}]}`)
	f.Add(`{"\u0061": "\\\"", "a": [[], {}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if raw, err := Object([]byte(text)); raw != nil && (err != nil) != repeats(t, json.NewDecoder(strings.NewReader(text))) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

// repeats reports whether an object of the value that comes next has a key twice.
func repeats(t *testing.T, d *json.Decoder) (found bool) {
	t.Helper()
	d.UseNumber()
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for token == json.Delim('{') || token == json.Delim('[') {
		if !d.More() {
			_, _ = d.Token()
			break
		}
		if token == json.Delim('{') {
			key, _ := d.Token()
			found = found || seen[key.(string)]
			seen[key.(string)] = true
		}
		found = repeats(t, d) || found
	}
	return found
}

func FuzzDecode(f *testing.F) {
	f.Add(`{"bool": true, "number": 3, "mode": "auto", "link": "eth0", "mark": "0x40", "cidrs": ["10.0.0.0/8"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		var raw map[string]json.RawMessage
		if json.Unmarshal([]byte(text), &raw) != nil {
			return
		}
		var v values
		err := Decode(raw, v.keys())
		var e *types.Error
		if err != nil && (!errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig) {
			t.Errorf("%s: %v is not code 7", text, err)
		}
		for _, p := range v.CIDRs {
			if p != p.Masked() {
				t.Errorf("%s: %s has bits behind its mask", text, p)
			}
		}
	})
}
