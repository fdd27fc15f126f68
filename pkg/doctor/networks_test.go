// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"slices"
	"testing"

	"github.com/multihome/multihome/pkg/inspect"
)

// TestWhere: a remedy names the networks of a pod in whose chain a plugin of ours is, and no other.
func TestWhere(t *testing.T) {
	n := &node{}
	for file, conf := range map[string]string{
		"/etc/cni/net.d/10-lan.conflist": `{"name": "lan", "plugins": [{"type": "macvlan"}, {"type": "coordinator"}]}`,
		"":                               `{"name": "cni-loopback", "plugins": [{"type": "loopback"}]}`,
	} {
		if err := n.addNetwork(file, []byte(conf)); err != nil {
			t.Fatal(err)
		}
	}
	p := &pod{Pod: inspect.Pod{Attachments: []inspect.Attachment{{Network: "cni-loopback", IfName: "lo"}, {Network: "lan", IfName: "eth0"}}}}
	if got := n.where(p); !slices.Equal(got, []string{"/etc/cni/net.d/10-lan.conflist"}) {
		t.Errorf("%q", got)
	}
}
