// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestRecordDamaged replaces a record by something else. CHECK must report it, ADD must
// write the record again, and DEL must still remove the NIC, whatever the record was.
// No plugin follows a link or waits for a FIFO.
func TestRecordDamaged(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "victim")
	const precious = "precious"
	for name, damage := range map[string]string{
		"gone":                "rm $record",
		"empty":               ": >$record",
		"garbage":             `printf '\000\377{' >$record`,
		"cut short":           "truncate -s 20 $record",
		"another NIC's":       "sed -i s/net1/net2/ $record",
		"somebody else's":     `echo '{"cniVersion": "1.1.0"}' >$record`,
		"a list":              "echo '[]' >$record",
		"huge":                "truncate -s 2M $record",
		"a link to a file":    "ln -sf $victim $record",
		"a link to a record":  "mv $record /run/record; ln -s /run/record $record",
		"a FIFO":              "rm $record; mkfifo -m 600 $record",
		"a directory":         "rm $record; mkdir -m 700 $record",
		"readable by others":  "chmod 644 $record",
		"writable by others":  "chmod 622 $record",
		"another user's":      "chown 1000 $record",
		"in a linked place":   "mv $pod /run/elsewhere; ln -s /run/elsewhere $pod",
		"in an open place":    "chmod 777 $pod",
		"in an open /run":     "chmod 755 /run/multihome",
		"in somebody's /run":  "chown 1000 /run/multihome",
		"in a linked /run":    "mv /run/multihome /run/elsewhere; ln -s /run/elsewhere /run/multihome",
		"in a file":           "rm -r /run/multihome; : >/run/multihome",
		"beside another file": ": >$pod/net7; chmod 600 $pod/net7",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			if err := os.WriteFile(victim, []byte(precious), 0o600); err != nil {
				t.Fatal(err)
			}
			pod := "/run/multihome/" + s.Web.ContainerID
			damage = fmt.Sprintf("record=%s/net1 pod=%s victim=%s\n", pod, pod, victim) + damage
			s.WebNIC.Add(t)
			s.Further(t, "ADD").Fine(t)
			s.Further(t, "DEL").Fine(t)
			before := s.State(t)
			s.Further(t, "ADD").Fine(t)

			s.OnNode(t, damage)
			if name != "beside another file" {
				if e := s.Further(t, "CHECK").Fails(t); !strings.Contains(e.Msg, "/run/multihome") {
					t.Errorf("CHECK does not name the record: %s", e.Msg)
				}
			}
			if out := s.Further(t, "ADD").Run(t); out.State.Success() {
				s.Further(t, "CHECK").Fine(t)
				s.OnNode(t, damage) // again
			} else if e, err := out.AsError(); err != nil || !strings.Contains(e.Msg, "/run/multihome") {
				t.Errorf("ADD does not name the record: %s (%v)", out.Stdout, err)
			}
			if name == "gone" {
				s.Further(t, "DEL").Fine(t)
			} else {
				s.Further(t, "DEL").Removes(t, "/run/multihome")
			}
			fixture.Same(t, "DEL", fixture.NoRun(before).Unnumbered(), fixture.NoRun(s.State(t)).Unnumbered())
			if b, err := os.ReadFile(victim); err != nil || string(b) != precious {
				t.Errorf("the target of a symbolic link is now %q (%v)", b, err)
			}
			s.WebNIC.Check(t)
			if out := s.WebNIC.Call("DEL").Run(t); !out.State.Success() {
				t.Errorf("DEL of the first NIC: %s", out.Stdout)
			}
			if got := fixture.Sh(t, s.Node.Netns, "ip link"); strings.Contains(got, s.WebNIC.Host()) {
				t.Error("DEL of the first NIC leaves the link to the node")
			}
		})
	}
}

// TestRecordsNotRootsAlone gives the directory of records another owner, or lets others
// write there: verbs that need a record fail with its path, and leave nothing.
func TestRecordsNotRootsAlone(t *testing.T) {
	for name, damage := range map[string]string{
		"open":               "mkdir -m 755 /run/multihome",
		"another user's":     "mkdir -m 700 /run/multihome; chown 1000 /run/multihome",
		"a link":             "mkdir -m 700 /run/elsewhere; ln -s elsewhere /run/multihome",
		"a dangling link":    "ln -s /run/elsewhere /run/multihome",
		"a file":             ": >/run/multihome",
		"a FIFO":             "mkfifo /run/multihome",
		"open further down":  "mkdir -m 700 /run/multihome; mkdir -m 755 /run/multihome/$id",
		"a link, in it":      "mkdir -m 700 /run/multihome /run/elsewhere; ln -s /run/elsewhere /run/multihome/$id",
		"a link, of a set":   "mkdir -m 700 /run/multihome /run/elsewhere; ln -s /run/elsewhere /run/multihome/.routes; ln -s /run/elsewhere /run/multihome/$id",
		"a link, for a lock": "mkdir -m 700 /run/multihome /run/elsewhere; ln -s /run/elsewhere /run/multihome/.locks; ln -s /run/elsewhere /run/multihome/$id",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			s.WebNIC.Add(t)
			s.Further(t, "CHECK")
			s.OnNode(t, "id="+s.Web.ContainerID+"\n"+damage)
			before := s.State(t)
			for what, c := range map[string]fixture.Call{"coordinator": s.Further(t, "ADD"), "route": s.WebNIC.Route("ADD")} {
				if what == "route" && (name == "open further down" || name == "a link, in it") {
					continue // this plugin's records are elsewhere
				}
				e := c.Fails(t)
				if !strings.Contains(e.Msg, "/run/multihome") || e.Code != types.ErrInternal {
					t.Errorf("%s: %v, want an error that names the directory", what, e)
				}
				fixture.Same(t, what, fixture.NoRun(before).Unnumbered(), fixture.NoRun(s.State(t)).Unnumbered())
			}
			s.OnNode(t, "! ls -A /run/elsewhere 2>/dev/null | grep .")
		})
	}
}

// TestGCBesideForeignRecords checks that GC names files that are no records, and still
// removes dead pods.
func TestGCBesideForeignRecords(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Add(t)
	s.Further(t, "ADD").Fine(t)
	s.AppNIC.Add(t)
	s.OnNode(t, "echo hello >/run/multihome/README; mkdir -m 700 /run/multihome/foreign; echo '{}' >/run/multihome/foreign/net1; ln -s /etc /run/multihome/etc")
	c := s.WebNIC.Call("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: s.App.ContainerID, IfName: lab.NIC}}})
	c.Env = nil
	e := c.Fails(t)
	for _, path := range []string{"/run/multihome/README", "/run/multihome/foreign/net1", "/run/multihome/etc"} {
		if !strings.Contains(e.Msg, path) {
			t.Errorf("GC says nothing of %s: %s", path, e.Msg)
		}
	}
	if got := fixture.Sh(t, s.Node.Netns, "ip link"); strings.Contains(got, s.WebNIC.Host()) || !strings.Contains(got, s.AppNIC.Host()) {
		t.Errorf("GC leaves\n%s", got)
	}
	s.AppNIC.Check(t)
}

// TestAllowListDamaged replaces the node's list of what networks may do with its links:
// then they may do nothing, and no plugin waits for a FIFO.
func TestAllowListDamaged(t *testing.T) {
	for name, damage := range map[string]string{
		"empty":              ": >$list",
		"garbage":            `printf '\000{' >$list`,
		"another key":        `echo '{"interface": "ens192"}' >$list`,
		"huge":               "truncate -s 2M $list",
		"a FIFO":             "rm $list; mkfifo $list",
		"a directory":        "rm $list; mkdir $list",
		"a device":           "rm $list; ln -s /dev/zero $list",
		"a dangling link":    "ln -sf /none $list",
		"writable by others": "chmod 666 $list",
		"another user's":     "chown 1000 $list",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			const list = "/etc/cni/multihome/ifacer.json"
			ifacer := func(verb string) fixture.Call {
				c := s.WebNIC.Call(verb, fixture.Keys{"type": "ifacer", "serviceCIDR": nil, "interfaces": []string{"ens192"}})
				c.Plugin = "ifacer"
				return c
			}
			s.OnNode(t, `mount -t tmpfs tmpfs /etc; mkdir -p /etc/cni/multihome; echo '{"interfaces": ["ens192"]}' >`+list)
			ifacer("ADD").Fine(t)
			s.OnNode(t, "list="+list+"\n"+damage)
			if e := ifacer("ADD").Fails(t); !strings.Contains(e.Msg, list) {
				t.Errorf("ADD does not name the allow-list: %s", e.Msg)
			}
			ifacer("DEL").Fine(t)
		})
	}
}
