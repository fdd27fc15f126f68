// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDoctor causes conditions that need a kernel of their own: a full neighbour table,
// which all network namespaces share, and a missing module. It does what the remedy
// says, and checks that the finding is gone. TestDoctor of package integration covers
// the other findings.
func TestDoctor(t *testing.T) {
	for name, test := range map[string]struct{ id, what, cause string }{
		"the neighbour table is full": {
			"neighbour-table", "gc_thresh3 is 10",
			`ip link add full type dummy; ip link set full up; ip addr add 10.99.0.100/24 dev full
			for i in 1 2 3; do sysctl -w net.ipv4.neigh.default.gc_thresh$i=10; done
			for i in $(seq 8); do ip neigh add 10.99.0.$i lladdr 02:00:00:00:00:0$i nud reachable dev full; done`,
		},
		"a module is missing": {
			"module-missing", "no links of type vlan, and /etc/cni/net.d/vlan.conflist needs them",
			`echo '{"name": "vlan", "plugins": [{"type": "ifacer", "interfaces": ["ens192"], "vlanID": 100}]}' >/etc/cni/net.d/vlan.conflist
			rmmod 8021q; echo /bin/false >/proc/sys/kernel/modprobe`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			modprobe, err := os.ReadFile("/proc/sys/kernel/modprobe")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.WriteFile("/proc/sys/kernel/modprobe", modprobe, 0); err != nil {
					t.Error(err)
				}
			})
			// On Debian the modules of this kernel are in a directory that modprobe
			// doesn't search.
			stub := "#!/bin/sh\nexec " + strings.TrimSpace(string(modprobe)) + ` "$@"` + "\n"
			if err := os.WriteFile(filepath.Join(dir, "modprobe"), []byte(stub), 0o755); err != nil {
				t.Fatal(err)
			}
			bin, err := filepath.Abs("../../bin")
			if err != nil {
				t.Fatal(err)
			}
			// The file system is the host's, so files are written elsewhere. In
			// doctor's text, the remedies are indented most.
			script := `export PATH=` + dir + `:` + bin + `:$PATH
				mkdir -p etc/cni/net.d etc/sysctl.d etc/modules-load.d opt/cni/bin
				mount --make-rprivate /; mount --bind etc /etc; mount --bind opt /opt
				` + test.cause + `
				multihome doctor >before || test $? = 1
				sed -n 's/^    //p' before >remedies; sh -e remedies
				multihome doctor >after || test $? = 1`
			c := exec.Command("unshare", "-m", "sh", "-ec", script)
			c.Dir = dir
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			before, after := read(t, filepath.Join(dir, "before")), read(t, filepath.Join(dir, "after"))
			if !strings.Contains(before, test.id) || !strings.Contains(before, test.what) {
				t.Errorf("want %s: %s, got:\n%s", test.id, test.what, before)
			}
			if strings.Contains(after, test.id) {
				t.Errorf("state after the remedy:\n%s", after)
			}
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
