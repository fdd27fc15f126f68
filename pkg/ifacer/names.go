// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"slices"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// named returns the configuration with the real names of the interfaces, as far as
// they were read. The configuration may name them by alternative names.
func (c *Config) named(v *plugin.View) (*Config, error) {
	out := *c
	out.Interfaces, out.called = nil, map[string]string{}
	for _, name := range c.Interfaces {
		kernelName := netstate.RealName(v.Snapshot, host, name)
		if slices.Contains(out.Interfaces, kernelName) {
			return nil, config.Invalid("interfaces: %s and %s are one link, %s: want different ones", out.called[kernelName], name, kernelName)
		}
		out.Interfaces, out.called[kernelName] = append(out.Interfaces, kernelName), name
		for option, value := range c.BondOptions.All() {
			if o, _ := netstate.FindBondOption(option); o.Form == netstate.BondLink && value == name {
				out.BondOptions = out.BondOptions.With(netstate.NewDetails(option, kernelName))
			}
		}
	}
	return &out, out.TooLong()
}

// name returns an interface as errors name it: the name in the configuration and, if
// it differs, the real name.
func (c *Config) name(kernelName string) string {
	if as := c.called[kernelName]; as != "" && as != kernelName {
		return as + " (" + kernelName + ")"
	}
	return kernelName
}
