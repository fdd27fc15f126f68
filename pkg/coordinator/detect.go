// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// Probe says how the neighbours on a link are asked.
type Probe struct {
	Tries    int           // so often
	Interval time.Duration // from one try to the next
	Timeout  time.Duration // for an answer to the last
}

// defaultProbe finds what a LAN answers in 300 ms, which is all that
// detectIPConflict costs: neighbours answer in less than one.
var defaultProbe = Probe{Tries: 3, Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond}

// detectOptions is how often, how far apart and how long the LAN is asked.
func detectOptions(p *Probe) plugin.Value {
	return plugin.Value{
		Want: `an object like {"retries": 3, "interval": "50ms", "timeout": "200ms"}`,
		Set: func(raw json.RawMessage) error {
			return plugin.Fields(raw, []plugin.Key{
				{Name: "retries", Value: plugin.Int(&p.Tries, 1, 10), Also: "retry"},
				{Name: "interval", Value: duration(&p.Interval)},
				{Name: "timeout", Value: duration(&p.Timeout)},
			})
		},
	}
}

// duration is a time that an ADD may take for a single answer: a runtime gives
// it minutes for everything.
func duration(p *time.Duration) plugin.Value {
	const least, most = 10 * time.Millisecond, 5 * time.Second
	return plugin.Value{Want: fmt.Sprintf("a duration from %s to %s", least, most), Set: func(raw json.RawMessage) error {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf(`a unit is needed, like "100ms"`)
		}
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most {
			return fmt.Errorf("%q is none", s)
		}
		*p = d
		return nil
	}}
}

var _ plugin.Prober = (*Config)(nil)

// Probe asks the NIC's LAN whether somebody else has an address of the NIC, and
// whether its gateways are there. The addresses come first: a gateway is asked
// in the name of one, which turns it away from whoever else has that.
func (c *Config) Probe(t *plugin.Task) error {
	if !c.DetectIPConflict && !c.DetectGateway {
		return nil
	}
	addrs, err := nicAddrs(&t.View)
	if err != nil {
		return err
	}
	if c.DetectIPConflict {
		var own []netstate.MAC
		for _, l := range netstate.All[netstate.Link](t.Snapshot, pod) {
			own = append(own, l.MAC)
		}
		if err := t.Kernel.Pod.Conflict(t.IfName, addrs, own, kernel.Probe(c.Detect)); err != nil {
			return err
		}
	}
	if c.DetectGateway {
		return t.Kernel.Pod.Gateways(t.IfName, c.gateways(&t.View, addrs), kernel.Probe(c.Detect))
	}
	return nil
}

// gateways returns the NIC's gateways, each with the address to ask it from: one
// of its subnet, or else the first of its family.
func (c *Config) gateways(v *plugin.View, addrs []netip.Addr) map[netip.Addr]netip.Addr {
	b := &builder{c: c, v: v, nic: v.IfName, addrs: addrs}
	out := map[netip.Addr]netip.Addr{}
	for _, f := range families {
		for _, r := range b.defaultsOf(f, b.nic, b.tableOf(b.nic)) {
			if own := ofFamily(addrs, f); r.Via.IsValid() && len(own) > 0 {
				out[r.Via] = b.onSubnet(r.Via, own[0])
			}
		}
	}
	return out
}

// onSubnet returns the NIC's address in whose subnet a neighbour is.
func (b *builder) onSubnet(neighbour, otherwise netip.Addr) netip.Addr {
	for _, a := range netstate.All[netstate.Addr](b.v.Snapshot, pod) {
		if a.Dev == b.nic && a.Prefix.Contains(neighbour) {
			return a.Prefix.Addr()
		}
	}
	return otherwise
}
