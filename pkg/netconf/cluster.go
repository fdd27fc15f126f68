// SPDX-License-Identifier: Apache-2.0

package netconf

import "reflect"

// DecodeCoordinator reads a SpiderCoordinator, as JSON: the settings of all networks, as
// far as those have none of their own. It returns everything that is wrong with it.
func DecodeCoordinator(object []byte) (*Coordinator, []Fault) {
	tree, faults := parse(object)
	if tree == nil {
		return nil, faults
	}
	var o struct{ Metadata struct{ Name string } }
	if metadata, ok := tree["metadata"]; ok {
		faults = append(faults, known("metadata", metadata, &o.Metadata)...)
	}
	var spec ClusterCoordinator
	faults = append(faults, decode("spec", tree["spec"], reflect.ValueOf(&spec).Elem())...)
	c := spec.Coordinator
	c.OverlayPodCIDR, c.ServiceCIDR = spec.OverlayPodCIDR, spec.ServiceCIDR
	k := &checker{}
	if o.Metadata.Name != "default" {
		k.add("metadata.name", "%q: want default: a cluster has one SpiderCoordinator", o.Metadata.Name)
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
