// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/config"
	coordinator "github.com/multihome/multihome/pkg/coordinator/keys"
	ifacer "github.com/multihome/multihome/pkg/ifacer/keys"
	route "github.com/multihome/multihome/pkg/route/keys"
)

// load reads the configuration of a plugin of ours, as the plugin does, and returns what
// is wrong with it. Other plugins' configurations are right.
func load(plugin string, raw map[string]json.RawMessage) error {
	var err error
	switch plugin {
	case "coordinator":
		_, err = coordinator.Load(raw)
	case "veth":
		_, err = coordinator.LoadOlder(raw)
	case "ifacer":
		_, err = ifacer.Load(raw)
	case "route":
		_, err = route.Load(raw)
	}
	return err
}

// words returns the text of an error, without CNI's wrapping.
func words(err error) string {
	if e := (*types.Error)(nil); errors.As(err, &e) {
		return e.Msg
	}
	return err.Error()
}

// plugin checks the configuration of one plugin.
func (k *checker) plugin(path string, text []byte) {
	raw := k.object(path, text)
	if raw == nil {
		return
	}
	name, err := config.Text(raw["type"])
	if err != nil || name == "" || strings.ContainsAny(name, "/ ") {
		k.add(path+".type", "%s: want the name of a plugin", cmp.Or(short(string(raw["type"])), "missing"))
		return
	}
	if err := load(name, raw); err != nil {
		k.add(path, "%s: %s", name, words(err))
	}
}

// object reads a JSON object of a user's text.
func (k *checker) object(path string, text []byte) map[string]json.RawMessage {
	if len(text) > maxText {
		k.add(path, "%d bytes: want at most %d", len(text), maxText)
		return nil
	}
	raw, err := config.Object(text)
	if err != nil || raw == nil {
		k.add(path, "%s: want a JSON object%s", short(string(text)), because(err))
		return nil
	}
	return raw
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + words(err) + ")"
}

// conflist checks a whole configuration: a list of plugins, or a single one.
func (k *checker) conflist(path string, text []byte) {
	raw := k.object(path, text)
	if raw == nil {
		return
	}
	if raw["plugins"] == nil {
		k.plugin(path, text)
		return
	}
	var plugins []json.RawMessage
	if json.Unmarshal(raw["plugins"], &plugins) != nil || len(plugins) == 0 {
		k.add(path+".plugins", "%s: want a list of at least one plugin", short(string(raw["plugins"])))
	}
	for i, p := range plugins {
		k.plugin(fmt.Sprintf("%s.plugins[%d]", path, i), p)
	}
}

// coordinator checks the settings of coordinator: each as the plugin reads it, then all of
// them together.
func (k *checker) coordinator(path string, c *Coordinator) {
	k.oneOf(path+".podCIDRType", c.PodCIDRType, "auto", "cluster", "calico", "cilium", "none")
	k.most(path+".hijackCIDR", len(c.HijackCIDR), maxList)
	k.most(path+".overlayPodCIDR", len(c.OverlayPodCIDR), maxList)
	k.most(path+".serviceCIDR", len(c.ServiceCIDR), maxList)
	k.most(path+".policyRoutes", len(c.PolicyRoutes), maxList)
	var all map[string]json.RawMessage
	_ = json.Unmarshal(c.plugin(), &all)
	delete(all, "type")
	found := false
	for _, name := range []string{
		"mode", "detectIPConflict", "detectGateway", "hijackCIDR", "policyRoutes", "podMACPrefix", "tunePodRoutes", "podDefaultRouteNic",
		"hostRuleTable", "podRPFilter", "overlayPodCIDR", "serviceCIDR", "txQueueLen", "vethLinkAddress", "vethMTU",
	} {
		value, there := all[name]
		if !there {
			continue
		}
		if err := load("coordinator", map[string]json.RawMessage{name: value}); err != nil {
			found = true
			field := name
			if name == "podDefaultRouteNic" {
				field = "podDefaultRouteNIC"
			}
			k.add(path+"."+field, "%s", strings.TrimPrefix(words(err), name+": "))
		}
	}
	if err := load("coordinator", all); err != nil && !found {
		k.add(path, "%s", words(err))
	}
}

// bond checks the options of a bond of these masters, as ifacer reads them: "primary" names
// one of them.
func (k *checker) bond(path string, masters []string, b *Bond) {
	err := load("ifacer", map[string]json.RawMessage{"interfaces": encode(masters), "bond": encode(newBond(b))})
	if err == nil {
		return
	}
	text := words(err)
	if rest, ok := strings.CutPrefix(text, "bond.options: "); ok {
		k.add(path+".options", "%s", rest)
	} else if rest, ok := strings.CutPrefix(text, "bond.mode: "); ok {
		k.add(path+".mode", "%s", rest)
	}
}

// cidr returns a destination as coordinator is given it: an address is a CIDR of that
// address alone.
func cidr(s string) string {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()).String()
	}
	return s
}
