// SPDX-License-Identifier: Apache-2.0

package ipamcni

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/spool"
)

func TestKeys(t *testing.T) {
	k, err := load([]byte(`{"cniVersion": "1.1.0", "name": "lan", "type": "sriov", "deviceID": "0000:3b:02.1", "vlan": 5,
		"ipam": {"type": "spiderpool", "log_level": "DEBUG", "log_file_path": "/var/log/a.log", "log_file_max_size": 1,
			"log_file_max_age": 2, "log_file_max_count": 3, "default_ipv4_ippool": ["a", "b-*"], "default_ipv6_ippool": "c",
			"clean_gateway": true, "match_master_subnet": true, "ipam_unix_socket_path": "/var/run/x.sock"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(k.pools4, []string{"a", "b-*"}) || !slices.Equal(k.pools6, []string{"c"}) || !k.cleanGateway || !k.matchMasterSubnet {
		t.Errorf("%+v", k)
	}
	if l := k.logFile; l.level.String() != "DEBUG" || l.Filename != "/var/log/a.log" || l.MaxSize != 1 || l.MaxAge != 2 || l.MaxBackups != 3 {
		t.Errorf("log: %v, %s, %d, %d, %d", l.level, l.Filename, l.MaxSize, l.MaxAge, l.MaxBackups)
	}
	if k.device() != "0000:3b:02.1" {
		t.Errorf("device %q", k.device())
	}
	k.RuntimeConfig.DeviceID = "0000:3b:02.2"
	if k.device() != "0000:3b:02.2" {
		t.Errorf("device %q, want that of runtimeConfig", k.device())
	}
}

// TestAddressesOfStaticIPAM: networks of the product that static-ipam comes from have a key addresses.
func TestAddressesOfStaticIPAM(t *testing.T) {
	_, err := load([]byte(`{"cniVersion": "0.3.0", "name": "lan", "type": "static-macvlan-cni", "master": "",
		"ipam": {"type": "static-ipam", "addresses": [{"address": "{address}", "gateway": "{gateway}"}]}}`))
	if err != nil {
		t.Error(err)
	}
}

func TestBadKeys(t *testing.T) {
	for ipam, want := range map[string]string{
		`"x"`:                                            `want an object like {"type": "multihome-ipam"}`,
		`{"type": "x", "clean_gateway": "yes"}`:          `ipam: clean_gateway: "yes": want true or false`,
		`{"type": "x", "clean_gatway": true}`:            `ipam: unknown key "clean_gatway": the nearest known one is "clean_gateway"`,
		`{"type": "x", "default_ipv4_ippool": [1]}`:      `want a list of pools, like ["pool-*"]`,
		`{"type": "x", "default_ipv4_ippool": ["", 2]}`:  `want a list of pools`,
		`{"type": "x", "default_ipv6_ippool": ["a",""]}`: `one is empty`,
		`{"type": "x", "log_level": "loud"}`:             `want one of debug, info, warn, error, fatal, panic`,
		`{"type": "x", "log_file_path": "a.log"}`:        `log_file_path`,
		`{"type": "x", "type": "y"}`:                     `type: there twice`,
		`{"type": "spiderpool", "addresses": []}`:        `ipam: unknown key "addresses"`,
	} {
		_, err := load([]byte(`{"name": "lan", "ipam": ` + ipam + `}`))
		if err == nil || !strings.Contains(err.Error(), want) || CodeOf(err) != types.ErrInvalidNetworkConfig {
			t.Errorf("%s: %v, want code 7 and %s", ipam, err, want)
		}
	}
}

// No error has the code 0, by which nobody knows it for an error of CNI.
func TestCodeOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want uint
	}{
		{fmt.Errorf("x: %w", types.NewError(types.ErrIOFailure, "x", "")), types.ErrIOFailure},
		{&types.Error{Msg: "netplugin failed with no error message"}, types.ErrInternal},
		{errors.Join(&types.Error{Msg: "x"}, spool.Later("x")), types.ErrTryAgainLater},
		{errors.New("x"), types.ErrInternal},
	} {
		if got := CodeOf(tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

// The result has a default route by each gateway, once, before the NIC's own routes, unless these
// have one.
func TestResult(t *testing.T) {
	address := func(cidr, gateway string) spool.Address {
		a := spool.Address{Address: netip.MustParsePrefix(cidr)}
		if gateway != "" {
			a.Gateway = netip.MustParseAddr(gateway)
		}
		return a
	}
	r := result(spool.NIC{
		Addresses: []spool.Address{address("10.6.0.5/16", "10.6.0.1"), address("10.6.0.6/16", "10.6.0.1"), address("fd00:6::5/64", "fd00:6::1"), address("10.7.0.5/24", "")},
		Routes:    []spool.Route{{Dst: netip.MustParsePrefix("10.20.0.0/16"), Gw: netip.MustParseAddr("10.6.0.9")}},
	}, types.DNS{})
	var got []string
	for _, ip := range r.IPs {
		got = append(got, ip.Address.String()+" "+ip.Gateway.String())
		if ip.Interface != nil {
			t.Errorf("%v names an interface", ip)
		}
	}
	for _, route := range r.Routes {
		got = append(got, route.Dst.String()+" via "+route.GW.String())
	}
	want := []string{
		"10.6.0.5/16 10.6.0.1", "10.6.0.6/16 10.6.0.1", "fd00:6::5/64 fd00:6::1", "10.7.0.5/24 <nil>",
		"0.0.0.0/0 via 10.6.0.1", "::/0 via fd00:6::1", "10.20.0.0/16 via 10.6.0.9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r = result(spool.NIC{
		Addresses: []spool.Address{address("10.6.0.5/16", "10.6.0.1"), address("fd00:6::5/64", "fd00:6::1")},
		Routes:    []spool.Route{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gw: netip.MustParseAddr("10.6.0.9")}},
	}, types.DNS{})
	got = nil
	for _, route := range r.Routes {
		got = append(got, route.Dst.String()+" via "+route.GW.String())
	}
	if diff := cmp.Diff([]string{"::/0 via fd00:6::1", "0.0.0.0/0 via 10.6.0.9"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The log has a line for each verb, with the pod and the error.
func TestLog(t *testing.T) {
	dir := t.TempDir()
	p := plugin{name: "spiderpool", dir: filepath.Join(dir, "ipam")}
	file := filepath.Join(dir, "a.log")
	conf := `{"name": "lan", "ipam": {"type": "spiderpool", "log_file_path": "` + file + `"}}`
	args := &skel.CmdArgs{ContainerID: "c1", IfName: "eth0", Args: "K8S_POD_UID=u1", Netns: "/proc/self/ns/net", StdinData: []byte(conf)}
	if err := p.verb("ADD", p.add)(args); err == nil {
		t.Error("ADD succeeds without a spool")
	}
	if err := p.verb("DEL", p.del)(args); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(got)), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"msg":"ADD"`) || !strings.Contains(lines[0], "not ready in this boot") || !strings.Contains(lines[0], "K8S_POD_UID=u1") ||
		!strings.Contains(lines[1], `"msg":"DEL"`) || !strings.Contains(lines[1], `"level":"INFO"`) {
		t.Errorf("%s", got)
	}
}

// FuzzCall calls the verbs with any configuration, CNI_ARGS and names of the runtime. They end
// with one of CNI's codes, and leave nothing in the spool and beside it.
func FuzzCall(f *testing.F) {
	f.Add(uint8(0), `{"cniVersion": "1.1.0", "name": "lan", "ipam": {"type": "spiderpool", "default_ipv4_ippool": ["a"]}}`, "IgnoreUnknown=1;K8S_POD_UID=u1", "c1", "eth0")
	f.Add(uint8(1), `{"name": "lan", "prevResult": {"interfaces": [null], "ips": [{"interface": 0, "address": "10.6.0.5/16"}, null]}}`, "K8S_POD_UID=u1", "c1", "lo")
	f.Add(uint8(2), `{"ipam": 5}`, "K8S_POD_UID=../u1", "../c1", "e/0")
	f.Add(uint8(3), `{"name": "lan", "ipam": {}, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}, null]}`, "=;CommonArgs=1", "", "")
	f.Add(uint8(4), `{"ipam": {}}`, "IgnoreUnknown=maybe", "c:1", "eth0")
	boot, err := spool.BootID()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, verb uint8, stdin, args, container, ifname string) {
		if k, _ := load([]byte(stdin)); k.logFile.Filename != "" {
			return // it would write there
		}
		dir := filepath.Join(t.TempDir(), "multihome")
		p := plugin{name: "multihome-ipam", dir: filepath.Join(dir, "ipam"), began: time.Now().Add(-time.Hour)}
		d, err := spool.MakeDir(p.dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := spool.PutReady(d, spool.Ready{Boot: boot}); err != nil {
			t.Fatal(err)
		}
		run := []func(*skel.CmdArgs) error{
			p.verb("ADD", p.add), p.verb("CHECK", p.check), p.verb("DEL", p.del), p.verb("GC", p.gc), p.verb("STATUS", p.status),
		}[verb%5]
		err = run(&skel.CmdArgs{ContainerID: container, IfName: ifname, Args: args, Netns: "/proc/self/ns/net", StdinData: []byte(stdin)})
		var e *types.Error
		if err != nil && (!errors.As(err, &e) || e.Code == 0 || !strings.HasPrefix(e.Msg, "multihome-ipam: ")) {
			t.Errorf("%v is no error of CNI", err)
		}
		var left []string
		_ = filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				left = append(left, e.Name())
			}
			return err
		})
		left = slices.DeleteFunc(left, func(name string) bool { return strings.HasPrefix(name, "slot-") })
		if !slices.Equal(left, []string{"ready"}) {
			t.Errorf("left: %v", left)
		}
	})
}
