// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"encoding/json"
	"reflect"
)

// DecodeCoordinator reads a SpiderCoordinator, as JSON: the settings of all networks, as
// far as those have none of their own. It returns everything that is wrong with it.
func DecodeCoordinator(object []byte) (*Coordinator, []Fault) {
	var spec ClusterCoordinator
	m, faults := Object(object, &spec)
	c := spec.Coordinator
	c.OverlayPodCIDR, c.ServiceCIDR = spec.OverlayPodCIDR, spec.ServiceCIDR
	k := &checker{}
	if m.Name != "default" {
		k.add("metadata.name", "%q: want default: a cluster has one SpiderCoordinator", m.Name)
	}
	k.coordinator("spec", &c)
	return &c, append(faults, k.faults...)
}

// WithDefaults returns the configuration with the settings of coordinator that it leaves
// out taken from d.
func (c Config) WithDefaults(d *Coordinator) Config {
	if d == nil {
		return c
	}
	merged := Coordinator{}
	if c.Spec.Coordinator != nil {
		merged = *c.Spec.Coordinator
	}
	into, from := reflect.ValueOf(&merged).Elem(), reflect.ValueOf(*d)
	for i := range into.NumField() {
		if into.Field(i).IsZero() {
			into.Field(i).Set(from.Field(i))
		}
	}
	c.Spec.Coordinator = &merged
	return c
}

// NodeDefaults returns the settings and these CIDRs as the keys of a node's defaults, in
// coordinator's names.
func (c ClusterCoordinator) NodeDefaults(services, pods []string) map[string]json.RawMessage {
	all := c.Coordinator
	all.ServiceCIDR, all.OverlayPodCIDR = services, pods
	out := map[string]json.RawMessage{}
	_ = json.Unmarshal(all.plugin(), &out) // it was just encoded
	delete(out, "type")
	if c.Mend != nil {
		out["mend"] = encode(*c.Mend)
	}
	return out
}
