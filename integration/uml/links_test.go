// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/testbed"
)

// coordinator runs a verb with further keys, and returns the printed error.
func (r *routed) coordinator(verb, keys string) *types.Error {
	r.t.Helper()
	bin, err := filepath.Abs("../../bin/coordinator")
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(bin)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + verb, "CNI_CONTAINERID=a", "CNI_NETNS=" + r.pod.Path(), "CNI_IFNAME=eth0", "CNI_PATH=/"}
	cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "net", "type": "coordinator", "serviceCIDR": "10.96.0.0/12", ` + keys + `
		"prevResult": {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "` + r.pod.Path() + `"}], "ips": [
			{"address": "10.6.0.172/16", "interface": 0}, {"address": "fd00:6::172/64", "interface": 0}]}}`)
	var out bytes.Buffer
	cmd.Stdout = &out
	if r.Run(cmd.Run) == nil {
		return nil
	}
	e := new(types.Error)
	if err := json.Unmarshal(out.Bytes(), e); err != nil || e.Code == 0 {
		r.t.Fatalf("%s: %s", verb, out.String())
	}
	return e
}

// inVRF makes a node whose NIC, on which the pod sits, is in a VRF.
func inVRF(t *testing.T, more string) *routed {
	t.Helper()
	return newRouted(t, `ip link add blue type vrf table 10; ip link set blue up
		ip link set ens192 master blue; ip addr add 10.7.0.1/32 dev blue; ip -6 addr add fd00:6::123/64 dev ens192 nodad
		`+more+`
		ip link add link ens192 name tmp type macvlan mode bridge; ip link set tmp netns $POD name eth0`)
}

// TestVRF checks that pods reach their node by an address outside of the VRF, not by
// one in it.
func TestVRF(t *testing.T) {
	for _, link := range []string{"", `"hostLink": "macvlan", `} {
		r := inVRF(t, "ip link add mg type veth peer name far; ip link set mg up; ip link set far up; ip addr add 10.1.0.5/24 dev mg; ip addr add fd00:1::5/64 dev mg nodad")
		if e := r.coordinator("ADD", link); e != nil {
			t.Fatal(e)
		}
		if e := r.coordinator("CHECK", link); e != nil {
			t.Error(e)
		}
		for _, addr := range []string{"10.1.0.5", "fd00:1::5"} {
			if err := r.pod.Ping(netip.MustParseAddr(addr), testbed.Socket{}); err != nil {
				t.Errorf("%s: from the pod: %v", link, err)
			}
		}
		for _, addr := range []string{"10.6.0.172", "fd00:6::172"} {
			if err := r.Ping(netip.MustParseAddr(addr), testbed.Socket{}); err != nil {
				t.Errorf("%s: from the node: %v", link, err)
			}
		}
		r.in("! ip route show table all | grep -v 'proto kernel' | grep -E '10.6.168.123|10.7.0.1'")
		if e := r.coordinator("DEL", link); e != nil {
			t.Error(e)
		}
	}
}

// TestVRFAlone checks that ADD says so if the node has no address outside of the VRF,
// and that it names a configured address that is in the VRF.
func TestVRFAlone(t *testing.T) {
	r := inVRF(t, "true")
	for keys, want := range map[string][]string{
		"":                                    {"link ens192 is in VRF blue", "take the link out of the VRF"},
		`"nodeAddresses": ["10.6.168.123"], `: {"Invalid prefsrc address", "an address in a VRF does not count", "nodeAddresses"},
	} {
		e := r.coordinator("ADD", keys)
		for _, words := range want {
			if e == nil || !strings.Contains(e.Msg, words) {
				t.Errorf("with %q: %v doesn't say %q", keys, e, words)
			}
		}
	}
}

// TestVRFOfPod has the pod's NIC in a VRF of the pod, as the CNI project's vrf does. ADD says so, and leaves the VRF's table
// alone.
func TestVRFOfPod(t *testing.T) {
	r := newRouted(t, "ip link add link ens192 name tmp type macvlan mode bridge; ip link set tmp netns $POD name eth0")
	r.in("ip link add blue type vrf table 1; ip link set blue up; ip link set eth0 master blue; ip addr replace fd00:6::172/64 dev eth0 nodad")
	e := r.coordinator("ADD", "")
	if want := "pod: link eth0 is in VRF blue"; e == nil || !strings.Contains(e.Msg, want) {
		t.Errorf("%v doesn't say %q", e, want)
	}
	r.in("ip route show table 1 | grep -q '^10.6.0.0/16 dev eth0'; ip -6 route show table 1 | grep -q '^fd00:6::/64 dev eth0'")
}

// TestGCWithFewOfNftables runs on a kernel whose nf_tables has almost no family.
func TestGCWithFewOfNftables(t *testing.T) {
	n := newNode(t, "ens192")
	for _, plugin := range []string{"coordinator", "veth", "route", "ifacer"} {
		bin, err := filepath.Abs("../../bin/" + plugin)
		if err != nil {
			t.Fatal(err)
		}
		keys := map[string]string{"route": `"master": "ens192", "bridge": "mybr", "removeUnused": true, `, "ifacer": `"interfaces": ["ens192"], "vlanID": 7, `}[plugin]
		n.sh("echo '" + `{"cniVersion": "1.1.0", "name": "net", "type": "` + plugin + `", ` + keys + `"cni.dev/valid-attachments": []}` + "' | CNI_COMMAND=GC CNI_PATH=/ " + bin)
	}
}

// TestAltNames calls interfaces by other names; new links and locks have the kernel's
// names.
func TestAltNames(t *testing.T) {
	n := two(t)
	n.sh("ip link property add dev ens192 altname enp130s0f1np1-second-card; ip link property add dev ens224 altname enp11s0")
	n.fine(call{verb: "STATUS", conf: `{"interfaces": ["enp130s0f1np1-second-card"], "vlanID": 100}`})
	n.add(`{"interfaces": ["enp130s0f1np1-second-card"], "vlanID": 100}`)
	n.shows("ip link show ens192.100", "ens192.100@ens192")
	n.check(`{"interfaces": ["enp130s0f1np1-second-card"], "vlanID": 100}`)
	n.check(`{"interfaces": ["ens192"], "vlanID": 100}`)
	n.sh("ip link del ens192.100")
	bond := `{"interfaces": ["enp130s0f1np1-second-card", "enp11s0"], "bond": {"name": "bond0", "mode": "active-backup", "options": "primary=enp11s0"}}`
	n.add(bond)
	n.check(bond)
	n.shows("ip -d link show bond0", "primary ens224")
	n.addRefused(`{"interfaces": ["enp11s0", "ens224"], "bond": {"name": "bond1"}}`, "are one link, ens224")
	n.addRefused(`{"interfaces": ["enp99s0-nowhere"], "vlanID": 100}`, "")
}
