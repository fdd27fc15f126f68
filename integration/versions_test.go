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

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// versions are the versions of CNI that coordinator speaks.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// TestResultInEveryVersion checks that the result is in the version of the
// configuration, and is the prevResult with the two ends of the link after its
// interfaces.
func TestResultInEveryVersion(t *testing.T) {
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			prev, err := s.WebNIC.Prev.GetAsVersion(v)
			if err != nil {
				t.Fatal(err)
			}
			out := s.WebNIC.Call("ADD", fixture.Keys{"cniVersion": v, "prevResult": prev}).Fine(t)
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
			// Fields that the older version doesn't have may differ.
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
				t.Errorf("prevResult changed (-before +after):\n%s", d)
			}
			host := &types100.Interface{Name: s.WebNIC.Host(), Mac: macOf(t, s, "node", s.WebNIC.Host())}
			pod := &types100.Interface{Name: "veth0", Mac: macOf(t, s, "web", "veth0"), Sandbox: s.Web.Path()}
			if d := cmp.Diff([]*types100.Interface{host, pod}, ends); d != "" {
				t.Errorf("the ends (-kernel +result):\n%s", d)
			}
			if v != "0.3.0" && v != "0.3.1" { // these have no CHECK
				s.WebNIC.Call("CHECK", fixture.Keys{"cniVersion": v, "prevResult": prev}).Fine(t)
				s.WebNIC.Call("CHECK", fixture.Keys{"cniVersion": v, "prevResult": json.RawMessage(out)}).Fine(t)
			}
			s.WebNIC.Call("DEL", fixture.Keys{"cniVersion": v, "prevResult": json.RawMessage(out)}).Fine(t)
		})
	}
}

// macOf reads the MAC of a link from the kernel.
func macOf(t *testing.T, s *fixture.Stage, where, link string) string {
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

// TestVersion checks that VERSION lists them.
func TestVersion(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	var got struct{ SupportedVersions []string }
	if err := json.Unmarshal([]byte(s.WebNIC.Call("VERSION").Fine(t)), &got); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got.SupportedVersions)
	if d := cmp.Diff(versions, got.SupportedVersions); d != "" {
		t.Errorf("VERSION (-want +got):\n%s", d)
	}
}

// TestStatus checks that STATUS on a node where ADD can work succeeds without output,
// and changes nothing.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	before := s.State(t)
	c := s.WebNIC.Call("STATUS", fixture.Keys{"prevResult": nil})
	c.Env = nil // STATUS is not about one pod
	if out := c.Fine(t); out != "" {
		t.Errorf("STATUS says %q", out)
	}
	fixture.Same(t, "STATUS", before, s.State(t))
}

// TestDisabled checks that the plugin passes on its input, and does nothing.
func TestDisabled(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	before := s.State(t)
	for _, mode := range []string{"disabled", "disable"} {
		got := s.WebNIC.Add(t, fixture.Keys{"mode": mode})
		if d := cmp.Diff(s.WebNIC.Prev, got); d != "" {
			t.Errorf("mode %s (-prevResult +result):\n%s", mode, d)
		}
		s.WebNIC.Call("CHECK", fixture.Keys{"mode": mode}).Fine(t)
		s.WebNIC.Call("DEL", fixture.Keys{"mode": mode}).Fine(t)
		fixture.Same(t, "mode "+mode, before, s.State(t))
	}
	s.WebNIC.Add(t) // the control
	if slices.Equal(before, s.State(t)) {
		t.Error("ADD without mode disabled changes nothing")
	}
	// DEL removes what is there, even if the plugin was switched off while the pod
	// runs.
	s.WebNIC.Call("DEL", fixture.Keys{"mode": "disabled"}).Fine(t)
	fixture.Sh(t, s.Node.Netns, fixture.RemoveRules)
	fixture.Same(t, "DEL with mode disabled", before.Unnumbered(), s.State(t).Unnumbered())
}

// TestFirstNICOfAnotherName checks that podDefaultCNINIC says which NIC is the first.
func TestFirstNICOfAnotherName(t *testing.T) {
	t.Parallel()
	l := fixture.NewLab(t, lab.Ens192())
	pod, err := l.NewPod("web")
	if err != nil {
		t.Fatal(err)
	}
	with := strings.Replace(fixture.Chained, "{", `{"podDefaultCNINIC": "lan0", `, 1)
	network := fixture.NewNetwork(t, l, with)
	if err := network.Add(t.Context(), pod, "lan0"); err != nil {
		t.Fatal(err)
	}
	if err := network.Check(t.Context(), pod, "lan0"); err != nil {
		t.Error(err)
	}
	server, err := pod.Serve(8080, fixture.Nothing)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for _, addr := range pod.Addrs("lan0") {
		fixture.Reached(t, l, pod, addr)
	}
	if err := network.Del(t.Context(), pod, "lan0"); err != nil {
		t.Error(err)
	}
}

// TestMTU checks that both ends of the veth have the NIC's MTU, or the configured one.
func TestMTU(t *testing.T) {
	t.Parallel()
	for _, want := range []struct {
		nic  int
		over fixture.Keys
		mtu  int
	}{
		{1500, fixture.Keys{}, 1500}, {1400, fixture.Keys{}, 1400}, {1400, fixture.Keys{"vethMTU": 1300}, 1300}, {1400, fixture.Keys{"vethMTU": 9000}, 9000},
	} {
		t.Run(fmt.Sprintf("NIC %d, %v", want.nic, want.over), func(t *testing.T) {
			s := fixture.NewStage(t, lab.Ens192())
			fixture.Sh(t, s.Web.Netns, fmt.Sprintf("ip link set eth0 mtu %d", want.nic))
			s.WebNIC.Add(t, want.over)
			for _, link := range []string{fixture.Sh(t, s.Web.Netns, "ip link show veth0"), fixture.Sh(t, s.Node.Netns, "ip link show "+s.WebNIC.Host())} {
				if !strings.Contains(link, fmt.Sprintf(" mtu %d ", want.mtu)) {
					t.Errorf("want MTU %d: %s", want.mtu, link)
				}
			}
			s.WebNIC.Call("CHECK", want.over).Fine(t)
			again := s.State(t)
			s.WebNIC.Add(t, want.over)
			fixture.Same(t, "ADD again", again, s.State(t))
		})
	}
}
