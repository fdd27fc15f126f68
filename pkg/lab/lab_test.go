// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"strings"
	"testing"
)

// Where `make build cni-plugins` puts the plugins.
var cniPath = []string{"../../bin", "../../bin/cni"}

func newScene(t *testing.T, lan LAN, chained ...string) *Scene {
	t.Helper()
	l, err := New(lan)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	network, err := l.Network(l.LANs[0].Conflist(chained...), cniPath...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.NewScene(t.Context(), network)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryCheckHoldsWithCoordinator(t *testing.T) {
	s := newScene(t, Ens192(), Coordinator)
	for _, network := range []string{"tcp", "udp"} {
		for _, r := range RunAll(s.Checks(network)) {
			if r.Err != nil {
				t.Errorf("%s, %s: %v; %s", r.Name, network, r.Err, r.Evidence)
			}
		}
	}
	if err := s.Network.Check(t.Context(), s.Web, NIC); err != nil {
		t.Error(err)
	}
	for range 2 { // DEL twice is as good as once
		if err := s.Del(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// The control: without coordinator exactly the checks fail that are said to
// need it, so that the checks prove something.
func TestChecksFailWithoutCoordinator(t *testing.T) {
	s := newScene(t, Ens192())
	for _, network := range []string{"tcp", "udp"} {
		for _, r := range RunAll(s.Checks(network)) {
			if failed := r.Err != nil; failed != r.Coordinator {
				t.Errorf("%s, %s: got error %v, needs coordinator: %t; %s", r.Name, network, r.Err, r.Coordinator, r.Evidence)
			}
		}
	}
}

func TestOneFamilyAlone(t *testing.T) {
	for i, name := range []string{"IPv4", "IPv6"} {
		t.Run(name, func(t *testing.T) {
			lan := Ens192()
			lan.Node, lan.Router, lan.Host, lan.Pods = lan.Node[i:i+1], lan.Router[i:i+1], lan.Host[i:i+1], lan.Pods[i:i+1]
			s := newScene(t, lan, Coordinator)
			results := RunAll(s.Checks("tcp"))
			if len(results) == 0 {
				t.Error("no checks")
			}
			for _, r := range results {
				if r.Err != nil || !strings.HasSuffix(r.Name, name) {
					t.Errorf("%s: %v; %s", r.Name, r.Err, r.Evidence)
				}
			}
		})
	}
}

func TestTwoLANs(t *testing.T) {
	l, err := New(Ens192(), Ens224())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pod, err := l.NewPod("pod")
	if err != nil {
		t.Fatal(err)
	}
	for i, ifname := range []string{"eth0", "net1"} {
		network, err := l.Network(l.LANs[i].Conflist(), cniPath...)
		if err != nil {
			t.Fatal(err)
		}
		if err := network.Add(t.Context(), pod, ifname); err != nil {
			t.Fatal(err)
		}
		if got := pod.Addrs(ifname); len(got) != 2 || got[0].Addr() != l.LANs[i].Pods[0].First {
			t.Errorf("%s has %v, want the first addresses of %v", ifname, got, l.LANs[i].Pods)
		}
	}
}

func TestAPluginsErrorIsReported(t *testing.T) {
	l, err := New(Ens192())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conflist := strings.Replace(l.LANs[0].Conflist(), `"master": "ens192"`, `"master": "ens999"`, 1)
	network, err := l.Network(conflist, cniPath...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = l.NewScene(t.Context(), network)
	if err == nil || !strings.HasPrefix(err.Error(), "ADD of eth0 in pod web by macvlan-ens192: plugin type=\"macvlan\" failed") {
		t.Errorf("got error %v, want one that names the verb, the NIC and the plugin", err)
	}
}
