// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/testbed"
)

// routed is a node with a NIC, and a pod whose eth0 a script makes.
type routed struct {
	*node
	pod *testbed.Netns
}

// newRouted makes a node, and runs the script on it with the pod's namespace in $POD.
func newRouted(t *testing.T, script string) *routed {
	t.Helper()
	n := newNode(t, "ens192")
	n.sh("ip addr add 10.6.168.123/16 dev ens192; ip addr add fd00:6::123/64 dev ens192 nodad")
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pod.Close() })
	n.sh("POD=" + pod.Path() + "\n" + script)
	if err := pod.SetUp("eth0"); err != nil {
		t.Fatal(err)
	}
	r := &routed{n, pod}
	r.in("ip addr add 10.6.0.172/16 dev eth0; ip addr add fd00:6::172/64 dev eth0 nodad")
	return r
}

// in runs a script in the pod.
func (r *routed) in(script string) {
	r.t.Helper()
	err := r.pod.Do(func() error {
		if out, err := exec.Command("sh", "-euc", script).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		r.t.Fatalf("%s: %v", script, err)
	}
}

// route runs a verb, and returns the printed error.
func (r *routed) route(verb string) *types.Error {
	r.t.Helper()
	bin, err := filepath.Abs("../../bin/route")
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + verb, "CNI_CONTAINERID=a", "CNI_NETNS=" + r.pod.Path(), "CNI_IFNAME=eth0", "CNI_PATH=/"}
	cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "net", "type": "route", "master": "ens192", "bridge": "ens192.host",
		"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "` + r.pod.Path() + `"}], "ips": [
			{"address": "10.6.0.172/16", "interface": 0}, {"address": "fd00:6::172/64", "interface": 0}]}}`)
	var out bytes.Buffer
	cmd.Stdout = &out
	if r.Run(cmd.Run) == nil {
		return nil
	}
	e := new(types.Error)
	if err := json.Unmarshal(out.Bytes(), e); err != nil || e.Code == 0 {
		r.t.Fatalf("%s: no CNI error: %s", verb, out.String())
	}
	return e
}

func addrs(t *testing.T, list ...string) (out []netip.Addr) {
	t.Helper()
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

// TestRoute checks that node and pod reach each other with route, and not without.
func TestRoute(t *testing.T) {
	r := newRouted(t, "ip link add eth0 netns $POD link ens192 type macvlan mode bridge")
	for _, verb := range []string{"", "ADD", "CHECK", "DEL"} {
		if verb != "" {
			if e := r.route(verb); e != nil {
				t.Fatalf("%s: %v", verb, e)
			}
		}
		reach := verb == "ADD" || verb == "CHECK"
		for i, p := range addrs(t, "10.6.0.172", "fd00:6::172") {
			node := addrs(t, "10.6.168.123", "fd00:6::123")[i]
			if err := r.Ping(p, testbed.Socket{}); (err == nil) != reach {
				t.Errorf("after %q: %v", verb, err)
			}
			if err := r.pod.Ping(node, testbed.Socket{}); (err == nil) != reach {
				t.Errorf("after %q: %v", verb, err)
			}
		}
	}
}

// TestRouteOnParentOfIPVLANs checks that macvlan and ipvlan can't share a parent,
// whether the ipvlan is this pod's NIC or another one that only the kernel knows.
func TestRouteOnParentOfIPVLANs(t *testing.T) {
	for name, tt := range map[string]struct{ script, want string }{
		"this pod's":    {"ip link add eth0 netns $POD link ens192 type ipvlan mode l2", "pod: link eth0 is an ipvlan: macvlan and ipvlan can't share ens192"},
		"another pod's": {"ip link add ipvl link ens192 type ipvlan mode l2; ip link add eth0 netns $POD type veth peer name far; ip link set far up", "device or resource busy: ens192 carries ipvlans, or is a port of a bridge or bond: macvlan and ipvlan can't share a parent"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRouted(t, tt.script)
			r.sh("umask 077; mkdir -p /run/multihome/.locks; touch /run/multihome/.locks/ens192")
			before := r.state()
			if e := r.route("ADD"); e == nil || !strings.Contains(e.Msg, tt.want) {
				t.Errorf("ADD: %v, want %q", e, tt.want)
			}
			r.same("refused", before)
		})
	}
}
