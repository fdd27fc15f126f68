// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/lab"
)

// versions are those of CNI that coordinator speaks.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// TestResultInEveryVersion: the result is in the version of the configuration;
// it is the prevResult, with the two ends behind its interfaces.
func TestResultInEveryVersion(t *testing.T) {
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			prev, err := s.web.prev.GetAsVersion(v)
			if err != nil {
				t.Fatal(err)
			}
			out := s.web.call("ADD", keys{"cniVersion": v, "prevResult": prev}).fine(t)
			var said struct {
				CNIVersion string `json:"cniVersion"`
			}
			if err := json.Unmarshal([]byte(out), &said); err != nil || said.CNIVersion != v {
				t.Errorf("result is of version %q (%v), want %q", said.CNIVersion, err, v)
			}
			result, err := version.NewResult(v, []byte(out))
			if err != nil {
				t.Fatal(err)
			}
			got, err := types100.NewResultFromResult(result)
			if err != nil {
				t.Fatal(err)
			}
			// What the older version can't say is no matter.
			was, err := types100.NewResultFromResult(prev)
			if err != nil {
				t.Fatal(err)
			}
			n := len(was.Interfaces)
			if len(got.Interfaces) != n+2 {
				t.Fatalf("%d interfaces, want %d and two:\n%s", len(got.Interfaces), n, out)
			}
			ends := got.Interfaces[n:]
			got.Interfaces = got.Interfaces[:n]
			if d := cmp.Diff(was, got); d != "" {
				t.Errorf("what prevResult had (-before +after):\n%s", d)
			}
			host := &types100.Interface{Name: s.web.host(), Mac: macOf(t, s, "node", s.web.host())}
			pod := &types100.Interface{Name: "veth0", Mac: macOf(t, s, "web", "veth0"), Sandbox: s.Web.Path()}
			if d := cmp.Diff([]*types100.Interface{host, pod}, ends); d != "" {
				t.Errorf("the ends (-kernel +result):\n%s", d)
			}
			if v != "0.3.0" && v != "0.3.1" { // which have no CHECK
				s.web.call("CHECK", keys{"cniVersion": v, "prevResult": prev}).fine(t)
				s.web.call("CHECK", keys{"cniVersion": v, "prevResult": json.RawMessage(out)}).fine(t)
			}
			s.web.call("DEL", keys{"cniVersion": v, "prevResult": json.RawMessage(out)}).fine(t)
		})
	}
}

// macOf asks the kernel.
func macOf(t *testing.T, s *stage, where, link string) string {
	t.Helper()
	n := s.Node.Netns
	if where == s.Web.Name() {
		n = s.Web.Netns
	}
	mac, err := n.MAC(link)
	if err != nil {
		t.Fatal(err)
	}
	return mac.String()
}

// TestVersion: VERSION lists them.
func TestVersion(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	var got struct{ SupportedVersions []string }
	if err := json.Unmarshal([]byte(s.web.call("VERSION").fine(t)), &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.SupportedVersions)
	if d := cmp.Diff(versions, got.SupportedVersions); d != "" {
		t.Errorf("VERSION (-want +got):\n%s", d)
	}
}

// TestStatus: a node that can do the work says so, without a word and without
// doing any.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	before := s.state(t)
	c := s.web.call("STATUS", keys{"prevResult": nil})
	c.env = nil // STATUS is for no pod
	if out := c.fine(t); out != "" {
		t.Errorf("STATUS says %q", out)
	}
	same(t, "STATUS", before, s.state(t))
}

// TestDisabled: the plugin hands on what it got, and does nothing.
func TestDisabled(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	before := s.state(t)
	for _, mode := range []string{"disabled", "disable"} {
		got := s.web.add(t, keys{"mode": mode})
		if d := cmp.Diff(s.web.prev, got); d != "" {
			t.Errorf("mode %s (-prevResult +result):\n%s", mode, d)
		}
		s.web.call("CHECK", keys{"mode": mode}).fine(t)
		s.web.call("DEL", keys{"mode": mode}).fine(t)
		same(t, "mode "+mode, before, s.state(t))
	}
	s.web.add(t) // the control
	if slices.Equal(before, s.state(t)) {
		t.Error("ADD without mode disabled changes nothing")
	}
	// Switched off while the pod runs, DEL still takes away what is there.
	s.web.call("DEL", keys{"mode": "disabled"}).fine(t)
	sh(t, s.Node.Netns, removeRules)
	same(t, "DEL with mode disabled", before.unnumbered(), s.state(t).unnumbered())
}

// TestFirstNICOfAnotherName: podDefaultCNINIC says which NIC is the first.
func TestFirstNICOfAnotherName(t *testing.T) {
	t.Parallel()
	l := newLab(t, lab.Ens192())
	pod, err := l.NewPod("web")
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(chained, "{", `{"podDefaultCNINIC": "lan0", `, 1)
	network := newNetwork(t, l, with)
	if err := network.Add(t.Context(), pod, "lan0"); err != nil {
		t.Fatal(err)
	}
	if err := network.Check(t.Context(), pod, "lan0"); err != nil {
		t.Error(err)
	}
	server, err := pod.Serve(8080, nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, addr := range pod.Addrs("lan0") {
		reached(t, l, pod, addr)
	}
	if err := network.Del(t.Context(), pod, "lan0"); err != nil {
		t.Error(err)
	}
}

// TestMTU: the veth has the NIC's MTU, or the one that the configuration names,
// at both ends.
func TestMTU(t *testing.T) {
	t.Parallel()
	for _, want := range []struct {
		nic  int
		over keys
		mtu  int
	}{
		{1500, keys{}, 1500}, {1400, keys{}, 1400}, {1400, keys{"vethMTU": 1300}, 1300}, {1400, keys{"vethMTU": 9000}, 9000},
	} {
		t.Run(fmt.Sprintf("NIC %d, %v", want.nic, want.over), func(t *testing.T) {
			s := newStage(t, lab.Ens192())
			sh(t, s.Web.Netns, fmt.Sprintf("ip link set eth0 mtu %d", want.nic))
			s.web.add(t, want.over)
			for _, link := range []string{sh(t, s.Web.Netns, "ip link show veth0"), sh(t, s.Node.Netns, "ip link show "+s.web.host())} {
				if !strings.Contains(link, fmt.Sprintf(" mtu %d ", want.mtu)) {
					t.Errorf("want MTU %d: %s", want.mtu, link)
				}
			}
			s.web.call("CHECK", want.over).fine(t)
			again := s.state(t)
			s.web.add(t, want.over)
			same(t, "ADD again", again, s.state(t))
		})
	}
}
