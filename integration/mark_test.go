// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"net/netip"
	"regexp"
	"sync/atomic"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// ourBit is the default of replyMark.
const ourBit = 0x10000000

// TestMarkOfApplication sends with SO_MARK, and checks after all other rules of the pod
// that packets leave with exactly that mark: by the NIC, by veth0, and in replies to
// connections that entered by veth0, which carry our bit as well.
func TestMarkOfApplication(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	for i, mark := range []uint32{0x1, 0xff, 0x4000, 0x08000000, 0x20000000, 0x80000000, ^uint32(ourBit)} {
		served := uint16(9000 + i)
		server, err := s.Web.Serve(served, testbed.Socket{Mark: mark})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		for f, web := range s.Web.Addrs(lab.NIC) {
			lan := s.LANs[0]
			nodePort := netip.AddrPortFrom(lan.Node[f].Addr(), 30000+served)
			err := s.Node.SetServices(testbed.Service{
				ClusterIP: nodePort, NodePort: nodePort, Endpoint: netip.AddrPortFrom(web.Addr(), served),
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, network := range []string{"tcp", "udp"} {
				marked{"to the LAN", s.App.Netns, "eth0", mark}.leaves(t, func(port uint16) error {
					return ask(s.App.Netns, network, netip.AddrPortFrom(lan.Host[f].Addr(), 8080), testbed.Socket{Mark: mark, Port: port})
				})
				marked{"to the node", s.App.Netns, "veth0", mark}.leaves(t, func(port uint16) error {
					return ask(s.App.Netns, network, netip.AddrPortFrom(lan.Node[f].Addr(), 8080), testbed.Socket{Mark: mark, Port: port})
				})
				marked{"in replies to the node", s.Web.Netns, "veth0", mark | ourBit}.leaves(t, func(port uint16) error {
					return ask(s.Node.Netns, network, netip.AddrPortFrom(web.Addr(), served), testbed.Socket{Port: port})
				})
				marked{"in replies to a NodePort's client", s.Web.Netns, "veth0", mark | ourBit}.leaves(t, func(port uint16) error {
					return ask(lan.Client, network, nodePort, testbed.Socket{Port: port})
				})
				marked{"in replies to the LAN", s.Web.Netns, "eth0", mark}.leaves(t, func(port uint16) error {
					return ask(lan.Client, network, netip.AddrPortFrom(web.Addr(), served), testbed.Socket{Port: port})
				})
			}
		}
	}
}

func ask(from *testbed.Netns, network string, to netip.AddrPort, socket testbed.Socket) error {
	_, err := from.Ask(network, to, socket)
	return err
}

// marked says by which link, and with which mark, the packets of a request must leave.
type marked struct {
	what  string
	netns *testbed.Netns
	link  string
	mark  uint32
}

var (
	asked   atomic.Uint32 // requests, each from its own port
	packets = regexp.MustCompile(`counter packets (\d+)`)
)

// leaves sends a request and counts its packets as they leave: those with the right
// link and mark, and the others.
func (m marked) leaves(t *testing.T, question func(port uint16) error) {
	t.Helper()
	port := uint16(40000 + asked.Add(1))
	fixture.Sh(t, m.netns, fmt.Sprintf(`nft -f - <<-END
		table inet marks
		delete table inet marks
		table inet marks {
			chain question {
				oifname %s meta mark %#x counter accept
				counter
			}
			chain leaving {
				type filter hook postrouting priority 10000;
				meta l4proto { tcp, udp } th sport %d goto question
				meta l4proto { tcp, udp } th dport %d goto question
			}
		}
	END`, m.link, m.mark, port, port))
	name := fmt.Sprintf("mark %#x %s", m.mark, m.what)
	if err := question(port); err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	counted := packets.FindAllStringSubmatch(fixture.Sh(t, m.netns, "nft list table inet marks"), -1)
	if right, wrong := counted[0][1], counted[1][1]; right == "0" || wrong != "0" {
		t.Errorf("%s: %s packets left by %s with mark %#x, %s otherwise", name, right, m.link, m.mark, wrong)
	}
}
