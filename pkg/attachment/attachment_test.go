// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
)

func TestAliasNamesItsAttachment(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, a := range []Attachment{
		{"net", "pod-a", "eth0"},
		{long, long + "1", "net1"},
	} {
		alias := a.Alias()
		if len(alias) > 255 {
			t.Errorf("alias of %d bytes: the kernel takes 255", len(alias))
		}
		got, ok := ParseAlias(alias)
		if !ok || !got.Same(a) || !got.SamePod(a) || !got.SameNetwork(a) {
			t.Errorf("ParseAlias(%q) = %v, %v", alias, got, ok)
		}
		if HostEnd(got.ContainerID) != HostEnd(a.ContainerID) || EndMAC(netstate.Host, got.ContainerID) != EndMAC(netstate.Host, a.ContainerID) {
			t.Errorf("what is derived from %q differs from what is derived from its attachment", alias)
		}
	}
	if a, b := (Attachment{long + "1", "x", "eth0"}), (Attachment{long + "2", "x", "eth0"}); a.Same(b) || a.SameNetwork(b) {
		t.Error("two long names are taken for one")
	}
	for _, alias := range []string{"", "uplink to rack 7", "multihome:", "multihome:a/b", "other:a/b/c"} {
		if a, ok := ParseAlias(alias); ok {
			t.Errorf("ParseAlias(%q) = %v", alias, a)
		}
	}
}

func TestHostEndIsAnInterfaceName(t *testing.T) {
	seen := map[string]bool{}
	for _, id := range []string{"", "a", "b", strings.Repeat("f", 64), strings.Repeat("x", 1000)} {
		name := HostEnd(id)
		if len(name) != 15 || !strings.HasPrefix(name, "veth") || seen[name] {
			t.Errorf("HostEnd(%q) = %q", id, name)
		}
		seen[name] = true
		if m := EndMAC(netstate.Pod, id); m[0]&3 != 2 || m == EndMAC(netstate.Host, id) {
			t.Errorf("EndMAC(%q) = %s", id, m)
		}
	}
}
