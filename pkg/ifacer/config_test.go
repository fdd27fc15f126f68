// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/ifacer/keys"
	"github.com/multihome/multihome/pkg/netstate"
)

func loaded(config string) (*Config, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(config), &raw); err != nil {
		return nil, err
	}
	c, err := Load(raw)
	if err != nil {
		return nil, err
	}
	return c.(*Config), nil
}

// bonded is a configuration with that bond.
func bonded(bond string) string {
	return fmt.Sprintf(`{"interfaces": ["ens192", "ens224"], "bond": %s}`, bond)
}

// TestBadConfigurations: each is CNI's code 7, names the key, and says what is
// allowed.
func TestBadConfigurations(t *testing.T) {
	for _, tt := range []struct{ config, want string }{
		{`{}`, "interfaces: missing"},
		{`{"interfaces": []}`, "interfaces: missing"},
		{`{"interfaces": 7}`, "interfaces: 7: want a list"},
		{`{"interfaces": ["ens192", "ens192"], "bond": {"name": "bond0"}}`, "interfaces: [\"ens192\", \"ens192\"]: want a list of different interface names of 1 to 127 bytes, like [\"ens192\", \"ens224\"] (ens192 is there twice)"},
		{`{"interfaces": ["` + strings.Repeat("n", 128) + `"]}`, "n\" is none"},
		{`{"interfaces": ["a/b"]}`, `"a/b" is none`},
		{`{"interfaces": [""]}`, `"" is none`},
		{`{"interfaces": ["ens192"], "vlanID": -1}`, "vlanID: -1: want a number from 0 to 4094"},
		{`{"interfaces": ["ens192"], "vlanID": 4095}`, "vlanID: 4095: want a number from 0 to 4094"},
		{`{"interfaces": ["ens192"], "vlanID": "100"}`, "vlanID"},
		{`{"interfaces": ["ens192", "ens224"], "vlanID": 4000, "bond": {"name": "storagebond1"}}`, "storagebond1.4000 has 17 bytes"},
		{`{"interfaces": ["ens192"], "bond": {"name": "bond0"}}`, "bond: with one interface"},
		{`{"interfaces": ["ens192", "ens224"]}`, "interfaces: ens192, ens224 without a bond"},
		{`{"interfaces": ["ens192", "ens224"], "bond": {}}`, "without a bond"},
		{bonded(`"bond0"`), "bond: \"bond0\": want an object"},
		{bonded(`{"mode": 1}`), "bond.name: missing"},
		{bonded(`{"name": "ens192"}`), "bond.name: ens192: want another name"},
		{bonded(`{"name": "a bond"}`), "bond.name"},
		{bonded(`{"name": "bond0", "nam": "x"}`), `unknown key "bond.nam": the nearest known one is "bond.name"`},
		{bonded(`{"name": "bond0", "mode": 7}`), "bond.mode: 7: want a mode of a bond by name or number (want one of balance-rr (0), active-backup (1)"},
		{bonded(`{"name": "bond0", "mode": "lacp"}`), "802.3ad (4)"},
		{bonded(`{"name": "bond0", "options": "fast"}`), `bond.options: "fast": want options`},
		{bonded(`{"name": "bond0", "options": "miimon="}`), `"miimon=": want name=value`},
		{bonded(`{"name": "bond0", "options": "mimon=100"}`), `unknown option "mimon": want some of active_slave, ad_actor_sys_prio`},
		{bonded(`{"name": "bond0", "options": "miimon=100;miimon=50"}`), "miimon is there twice"},
		{bonded(`{"name": "bond0", "options": "miimon=often"}`), "miimon=often: want a number from 0 to 2147483647"},
		{bonded(`{"name": "bond0", "mode": 4, "options": "lacp_rate=quick"}`), "lacp_rate=quick: want one of slow (0), fast (1)"},
		{bonded(`{"name": "bond0", "mode": 4, "options": {"lacp_rate": true}}`), "lacp_rate: true: want a string or a whole number"},
		{bonded(`{"name": "bond0", "mode": 1, "options": "lacp_rate=fast"}`), "bond.options: lacp_rate=fast: want it only in mode 802.3ad, not in active-backup"},
		{bonded(`{"name": "bond0", "mode": 1, "options": "primary=ens256"}`), "bond.options: primary=ens256: want one of interfaces: ens192, ens224"},
		{bonded(`{"name": "bond0", "mode": 1, "options": "arp_interval=100;miimon=100"}`), "arp_interval=100: want either it or miimon"},
		{bonded(`{"name": "bond0", "mode": 1, "options": "arp_validate=all"}`), "arp_validate=all: want arp_interval beside it, and no miimon"},
		{bonded(`{"name": "bond0", "mode": 1, "options": "updelay=150"}`), "updelay=150: want a multiple of miimon, which is 100"},
		{bonded(`{"name": "bond0", "mode": 1, "options": "arp_ip_target=fd00::1"}`), "arp_ip_target=fd00::1: want up to 16 IPv4 addresses"},
		{bonded(`{"name": "bond0", "mode": 4, "options": "ad_actor_system=01:00:00:00:00:01"}`), "want a unicast MAC"},
		{`{"interfaces": ["ens192"], "vlanProtocol": "802.1x"}`, "vlanProtocol: \"802.1x\": want one of 802.1q, 802.1ad"},
		{`{"interfaces": ["ens192"], "vlanID": 5, "mtu": 67}`, "mtu: 67: want a number from 68 to 65535"},
		{`{"interfaces": ["ens192"], "vlanName": "mv1.100"}`, "vlanName: mv1.100: want a vlanID with it"},
		{`{"interfaces": ["ens192"], "vlanID": 5, "vlanName": "ens192"}`, "vlanName: ens192: want another name than those of the interfaces and the bond"},
		{`{"interfaces": ["ens192"], "vlanID": 5, "vlanName": "a-name-that-is-long"}`, `vlanName: "a-name-that-is-long": want an interface name of 1 to 15 bytes`},
		{`{"interfaces": ["ens192"], "mtu": 1500}`, "mtu: 1500: want a vlanID or a bond"},
		{`{"interfaces": ["ens192"], "force": "yes"}`, "force: \"yes\": want true or false"},
		{`{"interfaces": ["ens192"], "vlan": 5}`, `unknown key "vlan": the nearest known one is "vlanID"`},
	} {
		_, err := loaded(tt.config)
		var e *types.Error
		if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, tt.want) {
			t.Errorf("%s:\n got %v\nwant code 7 with %q", tt.config, err, tt.want)
		}
	}
}

// TestOptions: every option by every name that it has, and every value by number
// and by name, in a string and in an object, with and without spaces.
func TestOptions(t *testing.T) {
	for _, o := range netstate.BondOptions {
		mode := "active-backup"
		if o.Modes != nil {
			mode = o.Modes[0]
		}
		given := map[string]string{} // and what it means
		switch o.Form {
		case netstate.BondLink:
			given["ens224"] = "ens224"
		case netstate.BondMAC:
			given["02:00:5E:10:00:01"] = "02:00:5e:10:00:01"
		case netstate.BondIPv4:
			given["[10.0.0.1, 10.0.0.2]"] = "10.0.0.1,10.0.0.2"
		case netstate.BondIPv6:
			given["fd00::1,fd00:0::2"] = "fd00::1,fd00::2"
		case netstate.BondNumber:
			given[fmt.Sprint(o.Max-o.Max%100)] = fmt.Sprint(o.Max - o.Max%100)
			if o.Max < 300 {
				given = map[string]string{fmt.Sprint(o.Max): fmt.Sprint(o.Max)}
			}
		}
		for i, w := range o.Words {
			value := w
			if o.Form == netstate.BondNumber {
				value = fmt.Sprint(i)
			}
			given[w], given[fmt.Sprint(i)] = value, value
		}
		for _, name := range append(o.Also, o.Name) {
			for in, want := range given {
				object, beside := map[string]string{name: in}, ""
				if o.Name == "arp_validate" {
					object["arp_interval"], beside = "100", "arp_interval=100"
				}
				for _, options := range []any{name + "=" + in + ";" + beside, " " + name + " = " + in + " ; " + beside, object} {
					config, err := json.Marshal(options)
					if err != nil {
						t.Fatal(err)
					}
					c, err := loaded(bonded(fmt.Sprintf(`{"name": "bond0", "mode": %q, "options": %s}`, mode, config)))
					if err != nil {
						t.Error(err)
					} else if got := c.BondOptions.Get(o.Name); got != want {
						t.Errorf("%s: %s is %q, want %q", config, o.Name, got, want)
					}
				}
			}
		}
	}
}

func TestModes(t *testing.T) {
	for i, name := range netstate.BondModes {
		for _, mode := range []string{fmt.Sprint(i), fmt.Sprintf("%q", name)} {
			c, err := loaded(bonded(`{"name": "bond0", "mode": ` + mode + `}`))
			if err != nil || c.BondMode != name {
				t.Errorf("mode %s: %+v, %v", mode, c, err)
			}
		}
	}
}

func TestAllowList(t *testing.T) {
	list, err := parseAllowList([]byte(`{"interfaces": ["ens*"], "vlans": [100, "200-299"], "bonds": ["bond?"]}`))
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := parseAllowList([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		list         *allowList
		config, want string
	}{
		{list, `{"interfaces": ["ens192"]}`, ""},
		{list, `{"interfaces": ["ens192"], "vlanID": 100}`, ""},
		{list, `{"interfaces": ["ens192"], "vlanID": 299}`, ""},
		{list, `{"interfaces": ["ens192"], "vlanID": 101}`, "vlanID: 101: not allowed on this node by " + allowPath},
		{list, `{"interfaces": ["eth0"], "vlanID": 100}`, "interfaces: eth0: not allowed"},
		{list, bonded(`{"name": "bond7"}`), ""},
		{list, bonded(`{"name": "bond10"}`), "bond.name: bond10: not allowed"},
		{list, `{"interfaces": ["ens192"], "force": true}`, "force: not allowed"},
		{nothing, `{"interfaces": ["ens192"]}`, "interfaces: ens192: not allowed"},
		{nil, `{"interfaces": ["eth0"], "vlanID": 4094, "force": true}`, ""},
	} {
		c, err := loaded(tt.config)
		if err != nil {
			t.Fatal(err)
		}
		err = tt.list.permit(&c.Config)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.config, err, tt.want)
		}
	}
	for _, bad := range []string{`[]`, `{"vlans": [4095]}`, `{"vlans": ["9-5"]}`, `{"interfaces": ["["]}`, `{"nics": []}`} {
		if _, err := parseAllowList([]byte(bad)); err == nil {
			t.Errorf("allow-list %s: no error", bad)
		}
	}
}

// FuzzLoad reads any configuration: what is refused is CNI's code 7.
func FuzzLoad(f *testing.F) {
	f.Add(`{"interfaces": ["ens192"], "vlanID": 100, "vlanProtocol": "802.1ad", "mtu": 9000, "force": true, "removeUnused": true}`)
	f.Add(bonded(`{"name": "bond0", "mode": 4, "options": "lacp_rate=fast; miimon=100"}`))
	f.Fuzz(func(t *testing.T, config string) {
		_, err := loaded(config)
		var raw map[string]json.RawMessage
		var e *types.Error
		if err != nil && json.Unmarshal([]byte(config), &raw) == nil && (!errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig) {
			t.Errorf("%s: %v is not code 7", config, err)
		}
	})
}

// FuzzAllowList reads any allow-list. One that is read permits nothing that it
// doesn't name.
func FuzzAllowList(f *testing.F) {
	f.Add(`{"interfaces": ["ens*"], "vlans": [100, "200-299"], "bonds": ["bond?"], "force": true}`, "ens192", 100)
	f.Add(`{"interfaces": ["[a-", "\\"]}`, "", -1)
	f.Add(`{"vlans": ["1-", "-5", "4095", 1e3]}`, "ens192", 4095)
	f.Fuzz(func(t *testing.T, list, name string, vlan int) {
		l, err := parseAllowList([]byte(list))
		if err != nil {
			return
		}
		permitted := l.permit(&keys.Config{Interfaces: []string{name}, VLAN: vlan}) == nil
		if permitted && (len(l.interfaces) == 0 || vlan < 0 || vlan > 4094 || vlan != 0 && len(l.vlans) == 0) {
			t.Errorf("%s permits VLAN %d on %q", list, vlan, name)
		}
		if !l.force && l.permit(&keys.Config{Force: true}) == nil {
			t.Errorf("%s permits force", list)
		}
	})
}
