// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"net/netip"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestHostDevice gives a pod a whole NIC of the node, as SR-IOV gives it a virtual
// function: the device moves into the pod, and DEL moves it back. The further keys are
// those that Multus adds for a device plugin's resource.
func TestHostDevice(t *testing.T) {
	l, err := lab.New(lab.Ens192(), lab.Ens224())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	network, err := l.Network(`{
		"cniVersion": "1.0.0", "name": "device", "plugins": [
			{"type": "host-device", "device": "ens224", "ipam": {
				"type": "static",
				"addresses": [{"address": "10.7.0.172/16", "gateway": "10.7.0.1"}, {"address": "fd00:7::172/64", "gateway": "fd00:7::1"}],
				"routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
			}},
			{"type": "coordinator", "serviceCIDR": ["10.96.0.0/12", "fd00:10:96::/108"], "deviceID": "0000:3b:02.1", "pciBusID": "0000:3b:02.1"}
		]
	}`, fixture.CNIPath()...)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := l.NewPod("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := network.Add(t.Context(), pod, lab.NIC); err != nil {
		t.Fatal(err)
	}
	if err := network.Check(t.Context(), pod, lab.NIC); err != nil {
		t.Error(err)
	}

	client := l.LANs[1].Client
	for _, n := range []*testbed.Netns{pod.Netns, l.Node.Netns, client, l.Outside} {
		server, err := n.Serve(fixture.AppPort, testbed.Socket{})
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
	}
	var checks []lab.Check
	for _, own := range []string{"10.7.0.172", "fd00:7::172"} {
		web := netip.MustParseAddr(own)
		node, host := fixture.Of(fixture.Addrs(l.LANs[0].Node), web), fixture.Of(fixture.Addrs(l.LANs[1].Host), web)
		to := netip.AddrPortFrom(web, fixture.AppPort)
		checks = append(checks, lab.Check{
			Name: "node to " + own, From: l.Node.Netns, To: to, Answers: pod.Netns, Sees: node, ReplyBy: "veth0",
		}, lab.Check{
			Name: own + " to node", From: pod.Netns, To: netip.AddrPortFrom(node, fixture.AppPort), Answers: l.Node.Netns, Sees: web, RequestBy: "veth0",
		}, lab.Check{
			Name: "LAN to " + own, From: client, To: to, Answers: pod.Netns, Sees: host, ReplyBy: lab.NIC,
		}, lab.Check{
			Name: own + " to LAN", From: pod.Netns, To: netip.AddrPortFrom(host, fixture.AppPort), Answers: client, Sees: web, RequestBy: lab.NIC,
		})
	}
	for _, r := range lab.RunAll(fixture.Both(checks...)) {
		if r.Err != nil {
			t.Errorf("%s: %v (%s)", r.Name, r.Err, r.Evidence)
		}
	}

	if err := network.Del(t.Context(), pod, lab.NIC); err != nil {
		t.Error(err)
	}
	fixture.Sh(t, l.Node.Netns, "ip link show dev ens224")
	if left := fixture.Sh(t, l.Node.Netns, "ip route show table 500; ip -6 route show table 500; ip -br link show type veth | grep -v '^ens' || true"); left != "" {
		t.Errorf("after DEL the node has\n%s", left)
	}
}
