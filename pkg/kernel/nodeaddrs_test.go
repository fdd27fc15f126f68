// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net/netip"
	"testing"
)

func TestIsNodes(t *testing.T) {
	for name, want := range map[string]bool{
		"eth0": true, "ens192": true, "bond0.100": true, "br-ex": true, "ens192.host": true, "vlan7": true, "locust": true,
		"lo": false, "kube-ipvs0": false, "nodelocaldns": false, "dummy3": false,
		"veth1234": false, "cali12ab": false, "lxc_health": false, "cni0": false, "docker0": false, "flannel.1": false, "tunl0": false,
		"vxlan.calico": false, "vxlan.calico2": true,
	} {
		if got := IsNodes(name); got != want {
			t.Errorf("IsNodes(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestCommonBits(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"fd00:6::1", "fd00:6::1", 128},
		{"fd00:6::2", "fd00:6::3", 127},
		{"fd00:6::", "fd00:7::", 31},
		{"::", "8000::", 0},
	} {
		if got := commonBits(netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)); got != tt.want {
			t.Errorf("commonBits(%s, %s) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
	if got := commonBits(netip.Addr{}, netip.MustParseAddr("::1")); got >= 0 {
		t.Errorf("no address shares %d bits", got)
	}
}

// TestAddrsOfLinkThatIsGone: links of others come and go while they are looked
// through one by one.
func TestAddrsOfLinkThatIsGone(t *testing.T) {
	k, err := OpenHost()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	const nobodys = 1 << 30
	if addrs, err := k.Host.addrs(nobodys); len(addrs) > 0 || err != nil {
		t.Errorf("addresses %v, error %v, want none", addrs, err)
	}
}
