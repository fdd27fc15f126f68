// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/multihome/multihome/pkg/testbed"
)

// overlays are the kinds of cluster whose network is made by other people's software.
var overlays = []string{"flannel-vxlan", "flannel-host-gw"}

// overlayCases are the same for each of them.
func overlayCases() []testCase {
	var all []testCase
	for _, kind := range overlays {
		all = append(all,
			testCase{name: kind + "-underlay", what: "pods with two NICs on the underlay and pods of the cluster network ask each other, on one node and on two", run: amongUnderlay},
			testCase{name: kind + "-overlay", what: "the same with pods that have two NICs beside the cluster network's", run: amongOverlay},
			testCase{name: kind + "-services", what: "ClusterIP, NodePort Cluster and Local, headless; both ways", run: func(t *testing.T) { servicesIn(t, "iptables") }},
			testCase{name: kind + "-mtu", what: "the largest packets pass, larger ones get an error, and trace says where", run: fullSize},
			testCase{name: kind + "-nothing-left", what: "without pods the nodes have no link, route or neighbour of ours", run: nothingLeft},
		)
		for i := range all {
			if all[i].cluster == "" {
				all[i].cluster = kind
			}
		}
	}
	return all
}

func amongUnderlay(t *testing.T) {
	among(t, func() []nic { return []nic{newNIC("eth0", 6, nil), newNIC("net1", 7, nil)} })
}

func amongOverlay(t *testing.T) {
	among(t, func() []nic { return []nic{newNIC("net1", 7, nil), newNIC("net2", 8, nil)} })
}

// among starts pods with such NICs on both nodes, and lets them and the pods of the cluster
// network ask each other.
func among(t *testing.T, nics func() []nic) {
	t.Helper()
	a, b := pair(t, nics)
	same := start(t, &pod{name: name(t, "c"), node: a.node, nics: nics()})
	pods := []*pod{a, b, same}
	for _, p := range pods {
		reachable(t, p)
	}
	reachEachOther(t, append(pods, web...)...)
}

// fullSize sends the largest packets that the links on the way take, and a byte more. The
// nodes must answer those with an error that says the size, and trace must name the link.
// Then it sends a megabyte each way by TCP.
func fullSize(t *testing.T) {
	under := one(t, newNIC("eth0", 6, nil), newNIC("net1", 7, nil))
	over := start(t, &pod{name: name(t, "b"), node: "node2", nics: []nic{newNIC("net1", 7, nil)}})
	pods := append([]*pod{under, over}, web...)
	network := mtu(t, web[0].Netns, "eth0")
	if want := map[string]int{"flannel-vxlan": 1450}[os.Getenv("E2E_CLUSTER")]; want != 0 && network != want {
		t.Fatalf("the control: the cluster network's MTU is %d, want %d", network, want)
	}
	for _, from := range pods {
		for _, to := range pods {
			if from == to {
				continue
			}
			for _, a := range to.addrs() {
				askAll(t, []question{{from: from.Netns, to: netip.AddrPortFrom(a, to.port()), answers: to.name, bytes: 1 << 20}})
				sent := mtu(t, from.Netns, leaves(t, from.Netns, a))
				size := sent
				if slices.Contains(to.overlay, a) { // by VXLAN between the nodes, which takes 20 bytes more of IPv6
					node := machines[from.node]
					size = min(sent, mtu(t, node, leaves(t, node, a)))
				}
				from.fits(t, a, size)
				request, _, _ := strings.Cut(traced(t, from, a), "\nreply in ")
				if says := strings.Contains(request, "and tells their sender"); says != (size < sent) {
					t.Errorf("%s sends at most %d bytes to %s by a link with MTU %d, and trace says that this is less: %t", from.name, size, a, sent, says)
				}
			}
		}
	}
}

// mtu returns the MTU of a link.
func mtu(t *testing.T, n *testbed.Netns, link string) (mtu int) {
	t.Helper()
	text := run(t, n, "ip", "-o", "link", "show", link)
	_, after, _ := strings.Cut(text, " mtu ")
	if _, err := fmt.Sscan(after, &mtu); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return mtu
}

// leaves returns the link by which a namespace sends to an address.
func leaves(t *testing.T, n *testbed.Netns, to netip.Addr) string {
	t.Helper()
	text := run(t, n, "ip", familyOf(to), "route", "get", to.String())
	_, after, _ := strings.Cut(text, " dev ")
	link, _, _ := strings.Cut(after, " ")
	return link
}

// fits checks that packets of a size reach an address, and that one with a byte more is
// refused. The first such one may be the one that a router answers.
func (p *pod) fits(t *testing.T, to netip.Addr, size int) {
	t.Helper()
	if err := p.Ping(to, testbed.Socket{Size: size + 1}); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("%d bytes: %v, want %v", size+1, err, syscall.EMSGSIZE)
	}
	if err := p.Ping(to, testbed.Socket{Size: size}); err != nil {
		t.Errorf("%d bytes: %v", size, err)
	}
}

// traced returns what `multihome trace` on the pod's node prints.
func traced(t *testing.T, p *pod, to netip.Addr) string {
	t.Helper()
	path, err := netnsOf(p.uid)
	if err != nil {
		t.Fatal(err)
	}
	return run(t, machines[p.node], filepath.Join(root, "bin/multihome"), "trace", path, "--to", to.String())
}
