// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
)

// tune runs the CNI project's tuning for a pod's NIC, with these keys.
func (a *attachment) tune(t *testing.T, verb string, over keys) string {
	t.Helper()
	c := a.call(verb, keys{"type": "tuning", "serviceCIDR": nil}, over)
	c.plugin = "cni/tuning"
	return c.fine(t)
}

// TestTuning has the CNI project's tuning before coordinator in the chain, and behind
// it, as docs/coordinator.md says of the two.
func TestTuning(t *testing.T) {
	t.Parallel()
	for name, hostLink := range map[string]keys{"veth": nil, "macvlan": {"hostLink": "macvlan"}} {
		t.Run("before, "+name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			tuned := keys{"mtu": 1400, "txQLen": 500, "sysctl": map[string]string{"net.ipv4.conf.eth0.rp_filter": "1", "net.ipv4.tcp_syncookies": "1"}}
			s.web.prev = s.web.keep(t, s.web.tune(t, "ADD", tuned))
			s.web.add(t, hostLink)
			s.app.add(t, hostLink)
			holds(t, s.Scene)
			s.web.call("CHECK", hostLink).fine(t)
			if got := sh(t, s.Web.Netns, "cat /proc/sys/net/ipv4/conf/eth0/rp_filter; ip link"); !strings.HasPrefix(got, "0\n") || strings.Count(got, "mtu 1400") != 2-len(hostLink) {
				t.Errorf("coordinator goes by what tuning has set, but for its own settings: %s", got)
			}
			s.web.call("DEL", hostLink).fine(t)
			s.web.tune(t, "DEL", tuned)
		})
	}
	t.Run("behind", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, lab.Ens192())
		s.app.add(t)
		for _, harmless := range []keys{{"mtu": 1400}, {"txQLen": 500}, {"sysctl": map[string]string{"net.core.somaxconn": "500"}}} {
			s.web.add(t)
			s.web.tune(t, "ADD", harmless)
			s.web.check(t)
			holds(t, s.Scene)
		}
		s.web.tune(t, "ADD", keys{"sysctl": map[string]string{"net.ipv4.conf.all.rp_filter": "1"}})
		if e := s.web.call("CHECK").fails(t); !strings.Contains(e.Msg, "net/ipv4/conf/all/rp_filter=1, want") {
			t.Errorf("a setting of coordinator's: %v", e)
		}
	})
	t.Run("a MAC behind the node's macvlan", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, lab.Ens192())
		s.web.add(t, keys{"hostLink": "macvlan"})
		s.web.tune(t, "ADD", keys{"mac": "02:00:00:00:00:77"})
		if e := s.web.call("CHECK", keys{"hostLink": "macvlan"}).fails(t); !strings.Contains(e.Msg, "neigh") {
			t.Errorf("the node sends to the former MAC: %v", e)
		}
	})
}
