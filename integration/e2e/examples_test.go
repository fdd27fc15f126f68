// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"net/netip"
	"testing"
)

// exampleCases are the files of examples/, applied as they are.
var exampleCases = []testCase{
	{name: "example-underlay", what: "examples/underlay.yaml", run: exampleUnderlay},
	{name: "example-two-nics", what: "examples/two-nics.yaml", run: exampleTwoNICs},
	{name: "example-overlay", what: "examples/overlay.yaml", run: exampleOverlay},
	{name: "example-vlan", what: "examples/vlan.yaml: the API server takes it. Its pod is not looked at: a VLAN needs 8021q; on another kernel in integration/uml", run: exampleVLAN},
}

func exampleUnderlay(t *testing.T) {
	p := example(t, &pod{name: "underlay", nics: []nic{{name: "eth0", lan: 6, addrs: lanAddrs(6, 172)}}})
	for _, a := range p.first() {
		p.rules(t, a, "32763:\tfrom all fwmark 0x10000000/0x10000000 lookup 100")
	}
}

func exampleTwoNICs(t *testing.T) {
	p := example(t, &pod{name: "two-nics", nics: []nic{
		{name: "eth0", lan: 6, addrs: lanAddrs(6, 173)}, {name: "net1", lan: 7, addrs: lanAddrs(7, 173)}}})
	for i, to := range faraway {
		p.leavesBy(t, to, "eth0", p.first()[i])
		p.rules(t, p.first()[i], "32764:\tfrom "+p.first()[i].String()+" lookup 99", "32764:\tfrom "+p.nics[1].addrs[i].String()+" lookup 101")
	}
}

func exampleOverlay(t *testing.T) {
	p := example(t, &pod{name: "overlay", nics: []nic{{name: "net1", lan: 7, addrs: lanAddrs(7, 174)}}})
	for _, a := range p.nics[0].addrs {
		own := of(a, p.overlay)
		p.rules(t, a, "32764:\tfrom "+own.String()+" lookup 100", "32764:\tfrom "+a.String()+" lookup 101")
	}
}

func exampleVLAN(t *testing.T) { apply(t, "-f", "examples/vlan.yaml") }

// example applies the file with the pod's name, waits for its pod, and checks that
// everyone reaches the pod, and its Service with the client's address.
func example(t *testing.T, p *pod) *pod {
	t.Helper()
	p.example = true
	apply(t, "-f", "examples/"+p.name+".yaml")
	p.uid = p.status(t).Metadata.UID
	p.wait(t)
	reachable(t, p)
	var service struct {
		Spec struct {
			ClusterIPs []netip.Addr
			Ports      []struct{ NodePort uint16 }
		}
	}
	call(t, "GET", servicesAt+"/"+p.name, nil, &service)
	for _, a := range service.Spec.ClusterIPs {
		for _, w := range web {
			settles(t, question{from: w.Netns, to: netip.AddrPortFrom(a, 80), answers: p.name, pod: p})
		}
		settles(t, question{from: machines["client"], to: netip.AddrPortFrom(of(a, nodeAddrs(p.node)), service.Spec.Ports[0].NodePort),
			answers: p.name, sees: of(a, clientAddrs), pod: p, replyBy: p.link()})
	}
	return p
}
