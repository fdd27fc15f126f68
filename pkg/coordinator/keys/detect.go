// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/multihome/multihome/pkg/config"
)

// Probe says how the neighbours on a link are asked.
type Probe struct {
	Tries    int           // so often
	Interval time.Duration // from one try to the next
	Timeout  time.Duration // for an answer to the last
}

// DefaultProbe finds what a LAN answers in 300 ms, which is all that
// detectIPConflict costs: neighbours answer in less than one.
var DefaultProbe = Probe{Tries: 3, Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond}

// detectOptions is how often, how far apart and how long the LAN is asked.
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

// duration is a time that an ADD may take for a single answer: a runtime gives
// it minutes for everything.
func duration(p *time.Duration) config.Value {
	const least, most = 10 * time.Millisecond, 5 * time.Second
	return config.Value{Want: fmt.Sprintf("a duration from %s to %s", least, most), Set: func(raw json.RawMessage) error {
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
