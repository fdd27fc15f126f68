// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

func TestDetect(t *testing.T) {
	for _, key := range []string{"detectIPConflict", "detectGateway"} {
		for value, want := range map[string]bool{"true": true, "false": false, "null": false} {
			c, err := loadOne(t, key, value)
			if err != nil {
				t.Errorf("%s: %s: %v", key, value, err)
				continue
			}
			if got := map[string]bool{"detectIPConflict": c.DetectIPConflict, "detectGateway": c.DetectGateway}; got[key] != want {
				t.Errorf("%s: %s: got %t", key, value, got[key])
			}
		}
		for _, value := range []string{`"true"`, `1`, `{}`} {
			refused(t, key, value, "want true or false")
		}
	}
}

func TestDetectOptions(t *testing.T) {
	for value, want := range map[string]keys.Probe{
		`null`:           keys.DefaultProbe,
		`{}`:             keys.DefaultProbe,
		`{"retries": 1}`: {Tries: 1, Interval: keys.DefaultProbe.Interval, Timeout: keys.DefaultProbe.Timeout},
		`{"retry": 10, "interval": "10ms", "timeOut": "5s"}`:  {Tries: 10, Interval: 10 * time.Millisecond, Timeout: 5 * time.Second},
		`{"retries": 3, "interval": "1s", "timeout": "1.5s"}`: {Tries: 3, Interval: time.Second, Timeout: 1500 * time.Millisecond},
	} {
		c, err := loadOne(t, "detectOptions", value)
		if err != nil {
			t.Errorf("%s: %v", value, err)
		} else if c.Detect != want {
			t.Errorf("%s: got %v, want %v", value, c.Detect, want)
		}
	}
	if wait := time.Duration(keys.DefaultProbe.Tries-1)*keys.DefaultProbe.Interval + keys.DefaultProbe.Timeout; wait > time.Second/2 {
		t.Errorf("an ADD without a conflict waits for %s by default", wait)
	}
	for value, word := range map[string]string{
		`{"retries": 0}`:         "retries: 0: want a number from 1 to 10",
		`{"retry": 11}`:          "retry: 11: want a number from 1 to 10",
		`{"retries": "3"}`:       "retries",
		`{"interval": "9ms"}`:    "interval: \"9ms\": want a duration from 10ms to 5s",
		`{"interval": 100}`:      "a unit is needed",
		`{"timeout": "6s"}`:      "timeout: \"6s\": want a duration from 10ms to 5s",
		`{"timeout": "quick"}`:   "timeout",
		`{"timeout": "-1s"}`:     "timeout",
		`{"tineout": "1s"}`:      `unknown key "tineout": the nearest known one is "timeout"`,
		`["retries", "timeout"]`: "not an object",
		`true`:                   "not an object",
	} {
		refused(t, "detectOptions", value, word, `want an object like {"retries": 3, "interval": "50ms", "timeout": "200ms"}`)
	}
}

// TestGateways holds the precedence of a NIC's gateways, and from which of its
// addresses they are asked.
func TestGateways(t *testing.T) {
	const nic = `
		pod: link net1 up type macvlan
		pod: addr 10.7.0.173/16 dev net1
		pod: addr 10.8.0.173/16 dev net1
		pod: addr fd00:7::173/64 dev net1
		pod: route 10.7.0.0/16 dev net1 proto kernel scope link src 10.7.0.173
	`
	const addrs = `"ips": [{"address": "10.7.0.173/16", "interface": 0}, {"address": "10.8.0.173/16", "interface": 0}, {"address": "fd00:7::173/64", "interface": 0}]`
	for _, tt := range []struct {
		name, state, prev string
		want              map[string]string // gateway: asked from
	}{
		{name: "none", state: nic, prev: addrs},
		{
			name: "of prevResult, whatever the kernel has", state: nic + `pod: route default via 10.7.0.2 dev net1`,
			prev: `"ips": [{"address": "10.7.0.173/16", "interface": 0, "gateway": "10.8.0.1"}, {"address": "10.8.0.173/16", "interface": 0}]`,
			want: map[string]string{"10.8.0.1": "10.8.0.173"},
		},
		{
			name: "of prevResult's routes", state: nic, prev: addrs + `, "routes": [{"dst": "0.0.0.0/0", "gw": "10.7.0.3"}]`,
			want: map[string]string{"10.7.0.3": "10.7.0.173"},
		},
		{
			name: "of the kernel, both families, one by a router advertisement", prev: addrs,
			state: nic + `pod: route default via 10.9.0.1 dev net1 onlink
				pod: -6 route default via fe80::1 dev net1 proto ra metric 1024
				pod: route default via 10.6.0.1 dev eth0 metric 7`,
			want: map[string]string{"10.9.0.1": "10.7.0.173", "fe80::1": "fd00:7::173"},
		},
		{
			name: "in the NIC's own table, after an earlier ADD", prev: addrs,
			state: nic + `pod: route default via 10.7.0.2 dev net1 table 101 proto multihome`,
			want:  map[string]string{"10.7.0.2": "10.7.0.173"},
		},
		{name: "a default without a gateway", state: nic + `pod: route default dev net1 scope link`, prev: addrs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			task := &plugin.View{Attachment: attachment.Attachment{IfName: "net1"}, Prev: &current.Result{}, Snapshot: netstate.NewSnapshot()}
			if err := json.Unmarshal([]byte(`{"cniVersion": "1.1.0", "interfaces": [{"name": "net1", "sandbox": "/run/netns/pod-a"}], `+tt.prev+`}`), task.Prev); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(tt.state) {
				if line = strings.TrimSpace(line); line == "" {
					continue
				}
				ns, o, err := netstate.Parse(line)
				if err != nil {
					t.Fatal(err)
				}
				task.Snapshot.Put(ns, o)
			}
			addrs, err := nicAddrs(task)
			if err != nil {
				t.Fatal(err)
			}
			want := map[netip.Addr]netip.Addr{}
			for gateway, from := range tt.want {
				want[netip.MustParseAddr(gateway)] = netip.MustParseAddr(from)
			}
			if got := (&Config{Config: *keys.Defaults()}).gateways(task, addrs); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}
