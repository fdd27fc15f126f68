// SPDX-License-Identifier: Apache-2.0

package plugin_test

import (
	"encoding/json"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// forwarding is a plugin that lets the pod forward packets.
type forwarding struct{ On bool }

func load(raw map[string]json.RawMessage) (plugin.Conf, error) {
	c := &forwarding{On: true}
	return c, config.Decode(raw, []config.Key{{Name: "on", Value: config.Bool(&c.On)}})
}

func (c *forwarding) Observe(t *plugin.Task) error { return t.Kernel.ReadPod(t.Snapshot) }

func (c *forwarding) Plan(*plugin.View) (netstate.Plan, error) {
	var plan netstate.Plan
	if c.On {
		plan.Want(netstate.Pod, "on", netstate.Sysctl{Family: netstate.IPv4, Dev: "all", Name: "forwarding", Value: 1})
	}
	return plan, nil
}

func (c *forwarding) Record(*plugin.View, netstate.Plan) *records.Record { return nil }

func (c *forwarding) Status(*plugin.Task) error { return nil }

// All that a main function says.
func Example() {
	plugin.Main(plugin.Plugin{
		Name: "forwarding", Load: load,
		ObserveOwned: func(*plugin.Task) error { return nil },
		Remove:       func(*plugin.View) []netstate.Op { return nil }, // it goes with the pod
		Attachments:  func(*plugin.Task) ([]attachment.Attachment, error) { return nil, nil },
	})
}
