// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/config"
)

func object(t *testing.T, text string) map[string]json.RawMessage {
	t.Helper()
	if text == "" {
		return nil
	}
	raw, err := config.Object([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// shown returns the values that aren't built in, as text.
func shown(c *Config) map[string]string {
	out := map[string]string{}
	for _, v := range c.Values() {
		if v.Origin != BuiltIn {
			out[v.Key] = string(v.Value) + " " + string(v.Origin)
		}
	}
	return out
}

// TestOrigins: the chain wins, key by key; then the node; then the built-in value.
func TestOrigins(t *testing.T) {
	for name, tt := range map[string]struct {
		older       bool
		chain, node string
		want        map[string]string
	}{
		"nothing":             {false, `{}`, ``, map[string]string{}},
		"an empty file":       {false, `{}`, `{}`, map[string]string{}},
		"the chain alone":     {false, `{"serviceCIDR": "10.96.0.0/12"}`, ``, map[string]string{"serviceCIDR": `["10.96.0.0/12"] chain`}},
		"the node alone":      {false, `{"type": "coordinator"}`, `{"serviceCIDR": "10.96.0.0/12", "mend": false}`, map[string]string{"serviceCIDR": `["10.96.0.0/12"] node file`}},
		"both, key by key":    {false, `{"serviceCIDR": "10.97.0.0/16", "txQueueLen": 5}`, `{"serviceCIDR": ["10.96.0.0/12"], "hijackCIDR": ["1.1.1.1"]}`, map[string]string{"serviceCIDR": `["10.97.0.0/16"] chain`, "hijackCIDR": `["1.1.1.1/32"] node file`, "txQueueLen": "5 chain"}},
		"an empty list":       {false, `{"serviceCIDR": []}`, `{"serviceCIDR": ["10.96.0.0/12"]}`, map[string]string{"serviceCIDR": "[] chain"}},
		"null is none":        {false, `{"serviceCIDR": null, "podMACPrefix": ""}`, `{"serviceCIDR": ["10.96.0.0/12"], "podMACPrefix": "0a:1b"}`, map[string]string{"serviceCIDR": `["10.96.0.0/12"] node file`, "podMACPrefix": `"0a:1b" node file`}},
		"nor from the node":   {false, `{}`, `{"serviceCIDR": null, "podMACPrefix": ""}`, map[string]string{}},
		"any case":            {false, `{"SERVICECIDR": "10.97.0.0/16"}`, `{"servicecidr": ["10.96.0.0/12"], "VethMTU": 1400}`, map[string]string{"serviceCIDR": `["10.97.0.0/16"] chain`, "vethMTU": "1400 node file"}},
		"false wins":          {false, `{"tunePodRoutes": false}`, `{"tunePodRoutes": true}`, map[string]string{"tunePodRoutes": "false chain"}},
		"zero wins":           {false, `{"podRPFilter": 0}`, `{"podRPFilter": 2}`, map[string]string{"podRPFilter": "0 chain"}},
		"lists aren't joined": {false, `{"nodeAddresses": ["10.6.0.1"]}`, `{"nodeAddresses": ["auto", "!10.7.0.0/16"]}`, map[string]string{"nodeAddresses": `["10.6.0.1"] chain`}},
		"nor objects":         {false, `{"detectOptions": {"retries": 5}}`, `{"detectOptions": {"interval": "1s"}}`, map[string]string{"detectOptions": `{"interval":"50ms","retries":5,"timeout":"200ms"} chain`}},

		"veth: the node alone": {true, `{}`, `{"serviceCIDR": ["10.96.0.0/12"], "vethMTU": 1400, "mode": "overlay"}`, map[string]string{"serviceCIDR": `["10.96.0.0/12"] node file`, "vethMTU": "1400 node file"}},
		"veth: its own names": {true, `{"service_cidr": "10.97.0.0/16", "overlay_hijack_subnet": [], "additional_cidr": "2.2.2.2"}`, `{"serviceCIDR": ["10.96.0.0/12"], "overlayPodCIDR": ["10.244.0.0/16"], "hijackCIDR": ["1.1.1.1"]}`,
			map[string]string{"serviceCIDR": `["10.97.0.0/16"] chain`, "overlayPodCIDR": "[] chain", "hijackCIDR": `["2.2.2.2/32"] chain`}},
		"veth: one key for two":  {true, `{"rp_filter": {"set_host": false}}`, `{"podRPFilter": 2, "hostRPFilter": 2}`, map[string]string{"podRPFilter": "0 chain", "hostRPFilter": "-1 chain"}},
		"veth: two keys for one": {true, `{"migrate_route": 1}`, `{"tunePodRoutes": false}`, map[string]string{"tunePodRoutes": "true chain"}},
		"veth: the rest":         {true, `{"mac_prefix": "0a:1c", "ip_conflict": {"enabled": false}}`, `{"podMACPrefix": "0a:1b", "detectIPConflict": true, "detectGateway": true}`, map[string]string{"podMACPrefix": `"0a:1c" chain`, "detectIPConflict": "false chain", "detectOptions": `{"interval":"50ms","retries":3,"timeout":"200ms"} chain`, "detectGateway": "true node file"}},
	} {
		t.Run(name, func(t *testing.T) {
			load := LoadWith
			if tt.older {
				load = LoadOlderWith
			}
			if err := CheckNode(object(t, tt.node), nil); err != nil {
				t.Error(err)
			}
			c, err := load(object(t, tt.chain), Others{Node: object(t, tt.node)})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, shown(c)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for chain, node := range map[string]string{`{"mode": "disabled"}`: `{}`, `{}`: `{"mode": "disable"}`} {
		if c, err := LoadWith(object(t, chain), Others{Node: object(t, node)}); c != nil || err != nil {
			t.Errorf("%s, %s: %v, %v, want nothing to do", chain, node, c, err)
		}
	}
	if c, err := LoadWith(object(t, `{"mode": "auto"}`), Others{Node: object(t, `{"mode": "disabled"}`)}); c == nil || err != nil {
		t.Errorf("the chain switches it on: %v, %v", c, err)
	}
}

// TestPodOrigin: the pod's annotations win over the node, and the chain over both.
func TestPodOrigin(t *testing.T) {
	others := Others{Pod: object(t, `{"podDefaultRouteNIC": "net1"}`), Node: object(t, `{"podDefaultRouteNIC": "net2", "vethMTU": 1400}`)}
	for _, tt := range []struct {
		load        func(map[string]json.RawMessage, Others) (*Config, error)
		chain, want string
	}{{LoadWith, `{}`, `"net1" pod`}, {LoadOlderWith, `{}`, `"net1" pod`}, {LoadWith, `{"podDefaultRouteNIC": "eth0"}`, `"eth0" chain`}} {
		c, err := tt.load(object(t, tt.chain), others)
		if err != nil {
			t.Fatal(err)
		}
		if got := shown(c); got["podDefaultRouteNIC"] != tt.want || got["vethMTU"] != "1400 node file" {
			t.Errorf("%s: %q, want %s", tt.chain, got, tt.want)
		}
	}
}

// TestValues: each key has its value in the list, in a form that the key takes.
func TestValues(t *testing.T) {
	c := Defaults()
	var names []string
	for _, k := range c.keys() {
		names = append(names, k.Name)
	}
	values := map[string]json.RawMessage{}
	for _, v := range c.Values() {
		values[v.Key] = v.Value
	}
	slices.Sort(names)
	if diff := cmp.Diff(names, slices.Sorted(maps.Keys(values))); diff != "" {
		t.Errorf("(-keys +values):\n%s", diff)
	}
	delete(values, "vethMTU") // 0, that of the NIC, can't be written
	again, err := LoadWith(values, Others{})
	if err != nil {
		t.Fatal(err)
	}
	of := func(c *Config) (out []string) {
		for _, v := range c.Values() {
			out = append(out, v.Key+" "+string(v.Value))
		}
		return out
	}
	if diff := cmp.Diff(of(c), of(again)); diff != "" {
		t.Errorf("(-built in +read back):\n%s", diff)
	}
}

func TestCheckNode(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.6.168.123/16"), netip.MustParsePrefix("fd00:6::123/64")}
	for node, want := range map[string]string{
		``: "",
		`{"serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "overlayPodCIDR": ["10.244.0.0/16"], "mend": true}`: "",
		`{"serviceCIDR": ["10.96"]}`:          `serviceCIDR: ["10.96"]: want a list of CIDRs or addresses`,
		`{"serviceCIDR": ["0.0.0.0/0"]}`:      "is the default route",
		`{"hijackCIDR": "::/0"}`:              "is the default route",
		`{"serviceCIDRs": ["10.96.0.0/12"]}`:  `unknown key "serviceCIDRs": the nearest known one is "serviceCIDR"`,
		`{"type": "coordinator"}`:             `unknown key "type"`,
		`{"ipam": {}}`:                        `unknown key "ipam"`,
		`{"mend": 1}`:                         "mend: 1: want true or false",
		`{"mode": "auto", "MODE": "overlay"}`: "another spelling of the same key",
		`{"policyRoutes": [{"dst": "10.96.0.0/12", "gw": "10.6.0.1"}], "serviceCIDR": "10.96.0.0/12"}`: "it is in serviceCIDR too",
		`{"hijackCIDR": ["10.6.0.0/16"]}`:               "hijackCIDR: 10.6.0.0/16: it overlaps 10.6.168.123/16, a subnet of the node itself: want CIDRs that don't, or set hijackCIDR in the networks that need it",
		`{"overlayPodCIDR": ["10.0.0.0/8"]}`:            "overlayPodCIDR: 10.0.0.0/8: it overlaps",
		`{"serviceCIDR": ["10.6.5.0/24"]}`:              "serviceCIDR: 10.6.5.0/24: it overlaps",
		`{"serviceCIDR": ["fd00::/16"]}`:                "it overlaps fd00:6::123/64",
		`{"serviceCIDR": ["0.0.0.0/1", "128.0.0.0/1"]}`: "it overlaps",
	} {
		err := CheckNode(object(t, node), own)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", node, err, want)
		}
	}
}

// TestCheckOverlap: a chain may lead the node's subnet through the node, the node's defaults may
// not. What a chain has in their place is no fault of theirs.
func TestCheckOverlap(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.6.168.123/16")}
	for _, tt := range []struct {
		chain, node string
		good        bool
	}{
		{`{"hijackCIDR": "10.6.0.0/16"}`, `{}`, true},
		{`{"hijackCIDR": "10.6.0.0/16"}`, `{"hijackCIDR": "10.6.7.0/24"}`, true},
		{`{"serviceCIDR": "10.6.0.0/16"}`, `{"hijackCIDR": "10.6.7.0/24"}`, false},
	} {
		c, err := LoadWith(object(t, tt.chain), Others{Node: object(t, tt.node)})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.CheckOverlap(own); (err == nil) != tt.good {
			t.Errorf("%s, %s: %v", tt.chain, tt.node, err)
		}
	}
}

// TestConflict: an error about a key that the user didn't write says who did.
func TestConflict(t *testing.T) {
	route := `"policyRoutes": [{"dst": "10.96.0.0/12", "gw": "10.6.0.1"}]`
	for _, tt := range []struct{ chain, node, want string }{
		{`{` + route + `}`, `{"serviceCIDR": "10.96.0.0/12"}`, "policyRoutes: dst 10.96.0.0/12: it is in serviceCIDR of the node's defaults too"},
		{`{"serviceCIDR": "10.96.0.0/12"}`, `{` + route + `}`, "policyRoutes of the node's defaults: dst 10.96.0.0/12: it is in serviceCIDR too"},
	} {
		if _, err := LoadWith(object(t, tt.chain), Others{Node: object(t, tt.node)}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

// FuzzNode: defaults that are valid make a configuration of any chain that is valid alone,
// or contradict its policyRoutes.
func FuzzNode(f *testing.F) {
	f.Add(`{"serviceCIDR": "10.96.0.0/12"}`, `{"serviceCIDR": ["10.97.0.0/16"], "mode": "disabled", "nodeAddresses": ["auto", "!10.6.0.0/24"], "mend": false}`)
	f.Add(`{"policyRoutes": [{"dst": "10.96.0.0/12", "gw": "10.6.0.1"}], "nodeAddresses": ["10.6.0.1"]}`, `{"hijackCIDR": "10.96.0.0/12", "detectOptions": {"retries": 5}}`)
	f.Add(`{"rp_filter": {"value": 2}, "move_routes": 2}`, `{"podRPFilter": 1, "tunePodRoutes": true}`)
	f.Fuzz(func(t *testing.T, chain, node string) {
		c, err := config.Object([]byte(chain))
		if err != nil || c == nil {
			return
		}
		n, err := config.Object([]byte(node))
		if err != nil || CheckNode(n, nil) != nil {
			return
		}
		for _, load := range []func(map[string]json.RawMessage, Others) (*Config, error){LoadWith, LoadOlderWith} {
			alone, err := load(c, Others{})
			if err != nil || alone == nil {
				continue
			}
			both, err := load(c, Others{Node: n})
			if err != nil && !strings.Contains(err.Error(), "of the node's defaults") {
				t.Errorf("%s, %s: %v", chain, node, err)
			}
			if both == nil {
				continue
			}
			values := both.Values()
			for i, v := range alone.Values() {
				if v.Origin == Chain && string(values[i].Value) != string(v.Value) {
					t.Errorf("%s, %s: %s is %s, want that of the chain, %s", chain, node, v.Key, values[i].Value, v.Value)
				}
			}
		}
	})
}
