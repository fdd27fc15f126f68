// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/deploy"
	"github.com/multihome/multihome/pkg/netstate"
)

// write writes files below a directory, and returns that.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestDropIns: names decide the order, directories which file of a name counts.
func TestDropIns(t *testing.T) {
	dir := write(t, map[string]string{"etc/20.conf": "", "etc/10.network": "", "usr/10.conf": "", "usr/20.conf": "", "usr/30.conf": ""})
	etc, usr := filepath.Join(dir, "etc"), filepath.Join(dir, "usr")
	if err := os.Symlink(os.DevNull, filepath.Join(etc, "30.conf")); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(usr, "10.conf"), filepath.Join(etc, "20.conf")}
	if diff := cmp.Diff(want, dropIns(".conf", etc, "/nowhere", usr)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSettings(t *testing.T) {
	dir := write(t, map[string]string{
		"a": "# [Network]\n[Network]\n ManageForeignRoutes = no\n;ManageForeignRoutes=yes\n[DHCPv4]\nManageForeignRoutes=maybe\n",
		"b": "[Network]\nManageForeignRoutingPolicyRules=off\n",
	})
	list, err := settings("", filepath.Join(dir, "nowhere"), filepath.Join(dir, "a"), filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"ManageForeignRoutes": "no", "ManageForeignRoutingPolicyRules": "off", "ManageForeignNextHops": "yes"} {
		if got := last(list, "Network", key, "yes"); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if _, err := settings(dir); err == nil {
		t.Error("a directory is no error")
	}
}

// hostEnd is a link to a pod.
var hostEnd = netstate.Link{Name: "veth0123456789a", Type: "veth"}

// TestNetworkMatches has [Match] sections of systemd.network(5).
func TestNetworkMatches(t *testing.T) {
	for section, want := range map[string]bool{
		"Name=*":                     true,
		"Name=en* veth*":             true,
		"Name=en*":                   false,
		"Name=!veth*":                false,
		"Name=!en* eth*":             true,
		"Type=ether":                 true,
		"Type=ether\nKind=!*":        false,
		"Kind=veth":                  true,
		"Type=wlan":                  false,
		"MACAddress=02:00:00:00:0:1": false,
		"Name=*\nVirtualization=vm":  false,
		"":                           false,
	} {
		dir := write(t, map[string]string{"n": "[Match]\n" + section + "\n[Network]\nDHCP=yes\n"})
		list, err := settings(filepath.Join(dir, "n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := networkMatches(list, hostEnd); got != want {
			t.Errorf("%q takes %s: %t, want %t", section, hostEnd.Name, got, want)
		}
	}
}

// TestIsUnmanaged has unmanaged-devices of NetworkManager.conf(5).
func TestIsUnmanaged(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                       false,
		"unmanaged-devices=interface-name:veth*": true,
		"unmanaged-devices=interface-name:=veth0123456789a":                   true,
		"unmanaged-devices=interface-name:cali*;type:veth":                    true,
		"unmanaged-devices=*":                                                 true,
		"unmanaged-devices=*,except:type:veth":                                false,
		"unmanaged-devices=*,except:interface-name:eth0":                      true,
		"unmanaged-devices=interface-name:veth*\nunmanaged-devices=mac:02:00": false,
		"unmanaged-devices=mac:02:00\nunmanaged-devices+=driver:veth":         true,
		"unmanaged-devices=type:veth;mac:02:00\nunmanaged-devices-=type:veth": false,
		"unmanaged-devices=interface-name:cali*\n" + dropIn("networkmanager"): true,
	} {
		dir := write(t, map[string]string{"n": "[keyfile]\n" + text + "\n"})
		list, err := settings(filepath.Join(dir, "n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := isUnmanaged(list, hostEnd); got != want {
			t.Errorf("%q leaves %s alone: %t, want %t", text, hostEnd.Name, got, want)
		}
	}
}

// TestIsNotManaged has sections of devices of NetworkManager.conf(5).
func TestIsNotManaged(t *testing.T) {
	for text, want := range map[string]bool{
		"[device-veth]\nmatch-device=interface-name:veth*\nmanaged=0": true,
		"[device]\nmanaged=no\nmatch-device=driver:veth":              true,
		"[device]\nmanaged=0": true,
		"[device-veth]\nmatch-device=interface-name:veth*\nmanaged=1\n[device]\nmanaged=0":           false,
		"[device-a]\nmatch-device=interface-name:veth*\nwifi.backend=iwd\n[device-b]\nmanaged=false": true,
		"[device-lan]\nmatch-device=interface-name:ens*\nmanaged=0":                                  false,
		"[connection]\nmatch-device=interface-name:veth*\nmanaged=0":                                 false,
	} {
		dir := write(t, map[string]string{"n": text + "\n"})
		list, err := settings(filepath.Join(dir, "n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := isUnmanaged(list, hostEnd); got != want {
			t.Errorf("%q leaves %s alone: %t, want %t", text, hostEnd.Name, got, want)
		}
	}
}

// TestUdevExcepts has lines of NetworkManager's rules for udev.
func TestUdevExcepts(t *testing.T) {
	for rules, want := range map[string]bool{
		"": false,
		`ENV{ID_NET_DRIVER}=="veth", ENV{INTERFACE}!="eth[0-9]*", ENV{NM_UNMANAGED}="1"`:           true,
		"# a\nENV{ID_NET_DRIVER}==\"veth\", ENV{NM_UNMANAGED}=\"1\"\n":                             true,
		`# ENV{ID_NET_DRIVER}=="veth", ENV{INTERFACE}!="eth[0-9]*", ENV{NM_UNMANAGED}="1"`:         false,
		"ENV{ID_NET_DRIVER}==\"veth\"\nENV{INTERFACE}==\"vboxnet[0-9]*\", ENV{NM_UNMANAGED}=\"1\"": false,
		`ENV{ID_NET_DRIVER}=="veth", ENV{NM_UNMANAGED}="0"`:                                        false,
	} {
		if got := udevExcepts(rules, "veth"); got != want {
			t.Errorf("%q excepts veths: %t, want %t", rules, got, want)
		}
	}
	if udevExcepts(`ENV{ID_NET_DRIVER}=="veth", ENV{NM_UNMANAGED}="1"`, "macvlan") {
		t.Error("it excepts macvlans")
	}
}

func dropIn(software string) string {
	for _, d := range deploy.DropIns {
		if d.For == software {
			return string(d.Text())
		}
	}
	return ""
}

// TestSpans: a table is left out of Felix' ranges, and nothing else.
func TestSpans(t *testing.T) {
	for _, test := range []struct {
		ranges string
		table  int
		want   string
	}{
		{"1-250", 200, "1-199,201-250"},
		{"1-250", 1, "2-250"},
		{"1-250", 250, "1-249"},
		{"500-500,600-700", 500, "600-700"},
		{"1-99, 200-250", 500, "1-99,200-250"},
		{"nonsense", 1, ""},
	} {
		if got := without(spans(test.ranges), test.table); got != test.want {
			t.Errorf("%s without %d: %s, want %s", test.ranges, test.table, got, test.want)
		}
	}
}
