// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/multihome/multihome/pkg/config"
)

// Probe holds the number and timing of the probes of neighbours on a link.
type Probe struct {
	Tries    int           // the number of tries
	Interval time.Duration // between two tries
	Timeout  time.Duration // the wait for an answer to the last try
}

// DefaultProbe takes 300 ms, which is the whole cost of detectIPConflict. Neighbours on a
// LAN answer in less than one millisecond.
var DefaultProbe = Probe{Tries: 3, Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond}

// detectOptions accepts the number, interval and timeout of probes.
func detectOptions(p *Probe) config.Value {
	return config.Value{
		Want: `an object like {"retries": 3, "interval": "50ms", "timeout": "200ms"}`,
		Set: func(raw json.RawMessage) error {
			return config.Fields(raw, []config.Key{
				{Name: "retries", Value: config.Int(&p.Tries, 1, 10), Also: "retry"},
				{Name: "interval", Value: duration(&p.Interval)},
				{Name: "timeout", Value: duration(&p.Timeout)},
			})
		},
	}
}

// duration accepts the time that an ADD may wait for a single answer. A runtime gives the
// whole ADD minutes.
func duration(p *time.Duration) config.Value {
	const least, most = 10 * time.Millisecond, 5 * time.Second
	return config.Value{Want: fmt.Sprintf("a duration from %s to %s", least, most), Set: func(raw json.RawMessage) error {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf(`a unit is needed, like "100ms"`)
		}
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most {
			return fmt.Errorf("%q is not", s)
		}
		*p = d
		return nil
	}}
}
