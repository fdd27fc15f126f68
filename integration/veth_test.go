// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// printed is the output that the article on fixed addresses for several underlay NICs
// shows for a pod with veth chained behind macvlan on ens192 and ens224.
var printed = map[string]string{
	"ip r show": `
default via 10.6.0.1 dev eth0
10.6.0.0/16 dev eth0 proto kernel scope link src 10.6.168.172
10.6.168.123 dev veth0 scope link
10.96.0.0/12 via 10.6.168.123 dev veth0
`,
	"ip rule show": `
0:	from all lookup local
32764:	from 10.7.168.173 lookup 100
32765:	from all to 10.7.168.173/16 lookup 100
32766:	from all lookup main
32767:	from all lookup default
`,
	"ip route show table 100": `
default via 10.7.0.1 dev net1
10.6.168.123 dev veth0 scope link
10.7.0.0/16 dev net1 proto kernel scope link src 10.7.168.173
10.96.0.0/12 via 10.6.168.123 dev veth0
`,
}

// TestPrintedOutputs chains veth as the article does: each line of its output is there;
// testdata/veth.txtar has the complete output.
func TestPrintedOutputs(t *testing.T) {
	t.Parallel()
	const chain = `{"type": "veth", "service_cidr": ["10.96.0.0/12"]}`
	ens192, ens224 := lab.Ens192(), lab.Ens224()
	ens192.Pods[0].First = netip.MustParseAddr("10.6.168.171") // of app; web has the next one
	ens224.Pods[0].First = netip.MustParseAddr("10.7.168.173")
	s := fixture.NewSite(t, fixture.Family(0, ens192, ens224), chain)
	s.Verify(t, s.Checks()...)
	s.Check(t)

	fixture.Settle(t, s.Web.Netns)
	var got txtar.Archive
	for _, command := range []string{"ip r show", "ip rule show", "ip route show table 100", "ip route show table 99"} {
		out := fixture.Tidy(fixture.Sh(t, s.Web.Netns, command))
		got.Files = append(got.Files, txtar.File{Name: command, Data: []byte(out)})
		for l := range strings.Lines(strings.TrimSpace(printed[command])) {
			if !saysAll(out, strings.Fields(l)) {
				t.Errorf("%s doesn't print %q:\n%s", command, strings.TrimSpace(l), out)
			}
		}
	}
	golden := filepath.Join("testdata", "veth.txtar")
	if *update {
		if err := os.WriteFile(golden, txtar.Format(&got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(txtar.Format(&got))); d != "" {
		t.Errorf("%s (-want +got):\n%s", golden, d)
	}
}

// saysAll reports whether a line of the output begins with the first word, and contains
// the others after it, each pair together (dev eth0, via 10.6.0.1).
func saysAll(out string, words []string) bool {
	for l := range strings.Lines(out) {
		have := strings.Fields(l)
		i := 0
		for _, w := range have {
			if i < len(words) && w == words[i] {
				i++
			}
		}
		if i == len(words) && have[0] == words[0] {
			return true
		}
	}
	return false
}

// TestVethWithoutVeth is the control: the article's traffic doesn't work without the
// plugin.
func TestVethWithoutVeth(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.Family(0, lab.Ens192(), lab.Ens224()))
	fixture.Sh(t, s.Web.Netns, fmt.Sprintf("ip route flush default; ip route add default via %s dev eth0", s.LANs[0].Router[0].Addr()))
	s.Refute(t, s.Checks()...)
}
