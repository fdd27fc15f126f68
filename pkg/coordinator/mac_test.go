// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// loadOne loads a configuration of one key.
func loadOne(t *testing.T, key, value string) (*Config, error) {
	t.Helper()
	conf, err := Load(map[string]json.RawMessage{key: json.RawMessage(value)})
	if err != nil {
		return nil, err
	}
	return conf.(*Config), nil
}

// refused fails unless the value is refused with CNI's code 7, and the error
// holds all of these words.
func refused(t *testing.T, key, value string, words ...string) {
	t.Helper()
	_, err := loadOne(t, key, value)
	var e *types.Error
	if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig {
		t.Errorf("%s: %s: got error %v, want one of code %d", key, value, err, types.ErrInvalidNetworkConfig)
		return
	}
	for _, w := range append(words, key, value) {
		if !strings.Contains(e.Msg, w) {
			t.Errorf("%s: %s: %q is not in %q", key, value, w, e.Msg)
		}
	}
}

func TestMACPrefix(t *testing.T) {
	for value, want := range map[string][]byte{
		`"0a:1b"`: {0x0a, 0x1b}, `"0A-1B"`: {0x0a, 0x1b}, `"00:00"`: {0, 0}, `"fe:ff"`: {0xfe, 0xff}, `""`: nil, `null`: nil,
	} {
		c, err := loadOne(t, "podMACPrefix", value)
		if err != nil {
			t.Errorf("%s: %v", value, err)
		} else if !slices.Equal(c.MACPrefix, want) {
			t.Errorf("%s: got % x, want % x", value, c.MACPrefix, want)
		}
	}
	for _, value := range []string{`"03:1b"`, `"ff:ff"`, `"0,:1b"`, `"0a1b"`, `"0a.1b"`, `"0a:1b:2c"`, `"0a:"`, `"a:1b"`, `"0g:1b"`, `"0a:1-"`, `"ä:1b"`, `27`, `["0a:1b"]`} {
		refused(t, "podMACPrefix", value, `want two bytes that a unicast MAC can begin with, like "0a:1b"`)
	}
}

// TestMACPrefixOfTheNode: an ipvlan keeps its parent's MAC under a default of the node, which is for other
// NICs. A network that asks for it itself hears from the kernel that it can't be.
func TestMACPrefixOfTheNode(t *testing.T) {
	for _, test := range []struct {
		kind, chain, node string
		want              bool
	}{
		{"macvlan", `{}`, `{"podMACPrefix": "0a:1b"}`, true},
		{"ipvlan", `{}`, `{"podMACPrefix": "0a:1b"}`, false},
		{"ipvlan", `{"podMACPrefix": "0a:1b"}`, `{}`, true},
	} {
		c := suite.Case(t, "mac-v4")
		_, link, err := netstate.Parse("pod: link eth0 address 02:00:00:00:00:aa mtu 1500 up type " + test.kind)
		if err != nil {
			t.Fatal(err)
		}
		c.View.Snapshot.Put(netstate.Pod, link)
		var chain, node map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal([]byte(test.chain), &chain), json.Unmarshal([]byte(test.node), &node)); err != nil {
			t.Fatal(err)
		}
		conf, err := load(plugin.Defaults{Keys: node}, chain, keys.LoadWith)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := conf.Plan(&c.View)
		if err != nil {
			t.Fatal(err)
		}
		ops, err := netstate.Diff(plan, c.View.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.ContainsFunc(ops, func(op netstate.Op) bool { return strings.HasPrefix(op.String(), "pod: ip link set eth0 address") }); got != test.want {
			t.Errorf("%s with %s, and %s of the node: sets a MAC: %t, want %t", test.kind, test.chain, test.node, got, test.want)
		}
	}
}
