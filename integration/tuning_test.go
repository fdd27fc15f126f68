// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestTuning has the CNI project's tuning before and behind coordinator in the chain,
// and checks the table of docs/coordinator.md.
func TestTuning(t *testing.T) {
	t.Parallel()
	for name, hostLink := range map[string]fixture.Keys{"veth": nil, "macvlan": {"hostLink": "macvlan"}} {
		t.Run("before, "+name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			tuned := fixture.Keys{"mtu": 1400, "txQLen": 500, "sysctl": map[string]string{"net.ipv4.conf.eth0.rp_filter": "1", "net.ipv4.tcp_syncookies": "1"}}
			s.WebNIC.Prev = s.WebNIC.Keep(t, s.WebNIC.Tune(t, "ADD", tuned))
			s.WebNIC.Add(t, hostLink)
			s.AppNIC.Add(t, hostLink)
			fixture.Holds(t, s.Scene)
			s.WebNIC.Call("CHECK", hostLink).Fine(t)
			if got := fixture.Sh(t, s.Web.Netns, "cat /proc/sys/net/ipv4/conf/eth0/rp_filter; ip link"); !strings.HasPrefix(got, "0\n") || strings.Count(got, "mtu 1400") != 2-len(hostLink) {
				t.Errorf("coordinator does not use what tuning has set: %s", got)
			}
			s.WebNIC.Call("DEL", hostLink).Fine(t)
			s.WebNIC.Tune(t, "DEL", tuned)
		})
	}
	t.Run("behind", func(t *testing.T) {
		t.Parallel()
		s := fixture.NewStage(t, lab.Ens192())
		s.AppNIC.Add(t)
		for _, harmless := range []fixture.Keys{{"mtu": 1400}, {"txQLen": 500}, {"sysctl": map[string]string{"net.core.somaxconn": "500"}}} {
			s.WebNIC.Add(t)
			s.WebNIC.Tune(t, "ADD", harmless)
			s.WebNIC.Check(t)
			fixture.Holds(t, s.Scene)
		}
		s.WebNIC.Tune(t, "ADD", fixture.Keys{"sysctl": map[string]string{"net.ipv4.conf.all.rp_filter": "1"}})
		if e := s.WebNIC.Call("CHECK").Fails(t); !strings.Contains(e.Msg, "net/ipv4/conf/all/rp_filter=1, want") {
			t.Errorf("after tuning changed a setting of coordinator, CHECK says: %v", e)
		}
	})
	t.Run("a MAC behind the node's macvlan", func(t *testing.T) {
		t.Parallel()
		s := fixture.NewStage(t, lab.Ens192())
		s.WebNIC.Add(t, fixture.Keys{"hostLink": "macvlan"})
		s.WebNIC.Tune(t, "ADD", fixture.Keys{"mac": "02:00:00:00:00:77"})
		if e := s.WebNIC.Call("CHECK", fixture.Keys{"hostLink": "macvlan"}).Fails(t); !strings.Contains(e.Msg, "neigh") {
			t.Errorf("the node sends to the former MAC: %v", e)
		}
	})
}
