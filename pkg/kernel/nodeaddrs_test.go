// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"net/netip"
	"testing"
)

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
