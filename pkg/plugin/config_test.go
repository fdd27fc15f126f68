// SPDX-License-Identifier: Apache-2.0

package plugin

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
		{"bool", Bool(&v.Bool)},
		{"number", Int(&v.Int, -1, 9)},
		{"mode", OneOf(&v.Word, "auto", "manual")},
		{"link", Interface(&v.Link)},
		{"mark", Bit(&v.Bit)},
		{"cidrs", Prefixes(&v.CIDRs)},
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
		{`{"number": "1"}`, `number: "1": want a number from -1 to 9`},
		{`{"mode": "magic"}`, `mode: "magic": want one of auto, manual`},
		{`{"link": "sixteen-bytes-00"}`, `link: "sixteen-bytes-00": want an interface name`},
		{`{"link": "a/b"}`, `want an interface name`},
		{`{"link": ".."}`, `want an interface name`},
		{`{"mark": 3}`, `mark: 3: want one bit of 32`},
		{`{"mark": 0}`, `mark: 0: want one bit of 32`},
		{`{"mark": "0x100000000"}`, `want one bit of 32`},
		{`{"cidrs": ["10.96.0.0/33"]}`, `"10.96.0.0/33" is neither a CIDR nor an address`},
		{`{"cidrs": 5}`, `cidrs: 5: want a list of CIDRs or addresses`},
		{`{"cidrs": ["fe80::1%eth0"]}`, `neither a CIDR nor an address`},
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

func FuzzDecode(f *testing.F) {
	f.Add(`{"bool": true, "number": 3, "mode": "auto", "link": "eth0", "mark": "0x40", "cidrs": ["10.0.0.0/8"]}`)
	f.Add(`{"logOptions": {"logFile": "/x", "logLevel": "debug"}}`)
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
		for name, value := range raw {
			if strings.EqualFold(name, "logOptions") {
				_, _, _ = logOptions(name, value) // must not panic
			}
		}
	})
}
