// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"net/netip"
	"strings"
	"testing"
)

// FuzzExplain gives it networks, results and descriptions that nobody checked: it
// ends with commands or with an error.
func FuzzExplain(f *testing.F) {
	const (
		coordinator = `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan", "master": "ens192", "ipam": {"type": "host-local", "subnet": "10.6.0.0/16", "routes": [{"dst": "0.0.0.0/0"}]}}, {"type": "coordinator", "hostLink": "macvlan"}]}`
		others      = "kind: NetworkAttachmentDefinition\nmetadata: {name: lan}\nspec:\n  config: |\n    {\"cniVersion\": \"0.3.1\", \"plugins\": [{\"type\": \"ifacer\", \"interfaces\": [\"ens192\"], \"vlanID\": 5}, {\"type\": \"route\", \"sbr\": true}, {\"type\": \"veth\"}]}"
		snapshot    = "pod: link eth0 mtu 1500 up\npod: addr 10.6.0.5/16 dev eth0\nhost: link ens192 up\npod: route default via 10.6.0.1 dev eth0"
		result      = `{"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}, null], "ips": [{"address": "10.6.0.5/16", "interface": 0}, null]}`
	)
	for _, network := range []string{coordinator, others} {
		f.Add([]byte(network), "", []byte(nil), "10.6.0.5/16")
		f.Add([]byte(network), snapshot, []byte(result), "")
	}
	f.Fuzz(func(t *testing.T, network []byte, snapshot string, result []byte, address string) {
		o := Options{Network: network, IfName: "eth0", PrevResult: result}
		if snapshot != "" {
			o.Given = strings.Split(snapshot, "\n")
		}
		if p, err := netip.ParsePrefix(address); err == nil {
			o.Addresses = []netip.Prefix{p}
		}
		r, err := Explain(o)
		if (r == nil) == (err == nil) {
			t.Errorf("%v, %v: want one of both", r, err)
		}
	})
}
