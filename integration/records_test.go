// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/lab"
)

// onNode runs a script with the node's own /run.
func (s *stage) onNode(t *testing.T, script string) {
	t.Helper()
	err := s.Node.Run(func() error {
		out, err := exec.Command("sh", "-euc", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// removes runs DEL, which must succeed and name a path on standard error.
func (c call) removes(t *testing.T, path string) {
	t.Helper()
	out := c.run(t)
	if !out.state.Success() || !strings.Contains(out.stderr, path) {
		t.Errorf("DEL: %v, want it to succeed and to name %s: %s%s", out.state, path, out.stdout, out.stderr)
	}
}

// TestRecordDamaged puts something else in the place of a record. CHECK must say
// so, ADD make it anew, and DEL remove the NIC all the same, whatever the record
// was: no link is followed, and no FIFO waited for.
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
			s := newStage(t, lab.Ens192())
			if err := os.WriteFile(victim, []byte(precious), 0o600); err != nil {
				t.Fatal(err)
			}
			pod := "/run/multihome/" + s.Web.ContainerID
			damage = fmt.Sprintf("record=%s/net1 pod=%s victim=%s\n", pod, pod, victim) + damage
			s.web.add(t)
			s.further(t, "ADD").fine(t)
			s.further(t, "DEL").fine(t)
			before := s.state(t)
			s.further(t, "ADD").fine(t)

			s.onNode(t, damage)
			if name != "beside another file" {
				if e := s.further(t, "CHECK").fails(t); !strings.Contains(e.Msg, "/run/multihome") {
					t.Errorf("CHECK says nothing of the record: %s", e.Msg)
				}
			}
			if out := s.further(t, "ADD").run(t); out.state.Success() {
				s.further(t, "CHECK").fine(t)
				s.onNode(t, damage) // once more
			} else if e, err := out.asError(); err != nil || !strings.Contains(e.Msg, "/run/multihome") {
				t.Errorf("ADD says nothing of the record: %s (%v)", out.stdout, err)
			}
			if name == "gone" {
				s.further(t, "DEL").fine(t)
			} else {
				s.further(t, "DEL").removes(t, "/run/multihome")
			}
			same(t, "DEL", noRun(before).unnumbered(), noRun(s.state(t)).unnumbered())
			if b, err := os.ReadFile(victim); err != nil || string(b) != precious {
				t.Errorf("what a link led to is now %q (%v)", b, err)
			}
			s.web.check(t)
			if out := s.web.call("DEL").run(t); !out.state.Success() {
				t.Errorf("DEL of the first NIC: %s", out.stdout)
			}
			if got := sh(t, s.Node.Netns, "ip link"); strings.Contains(got, s.web.host()) {
				t.Error("DEL of the first NIC leaves the link to the node")
			}
		})
	}
}

// noRun is the state without the files, which the damage is.
func noRun(s state) state {
	var out state
	for _, line := range s {
		if !strings.HasPrefix(line, "node: /run/") {
			out = append(out, line)
		}
	}
	return out
}

// TestRecordsNotRootsAlone has the directory of records be another's, or open: what
// needs a record is refused with its name, and leaves nothing.
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
			s := newStage(t, lab.Ens192())
			s.web.add(t)
			s.further(t, "CHECK")
			s.onNode(t, "id="+s.Web.ContainerID+"\n"+damage)
			before := s.state(t)
			for what, c := range map[string]call{"coordinator": s.further(t, "ADD"), "route": s.web.route("ADD")} {
				if what == "route" && (name == "open further down" || name == "a link, in it") {
					continue // its records are elsewhere
				}
				e := c.fails(t)
				if !strings.Contains(e.Msg, "/run/multihome") || e.Code != types.ErrInternal {
					t.Errorf("%s: %v, want an error that names the directory", what, e)
				}
				same(t, what, noRun(before).unnumbered(), noRun(s.state(t)).unnumbered())
			}
			s.onNode(t, "! ls -A /run/elsewhere 2>/dev/null | grep .")
		})
	}
}

// TestGCBesideForeignRecords names what is no record, and removes the dead pods
// nevertheless.
func TestGCBesideForeignRecords(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	s.web.add(t)
	s.further(t, "ADD").fine(t)
	s.app.add(t)
	s.onNode(t, "echo hello >/run/multihome/README; mkdir -m 700 /run/multihome/foreign; echo '{}' >/run/multihome/foreign/net1; ln -s /etc /run/multihome/etc")
	c := s.web.call("GC", keys{"prevResult": nil, "cni.dev/valid-attachments": []types.GCAttachment{{ContainerID: s.App.ContainerID, IfName: lab.NIC}}})
	c.env = nil
	e := c.fails(t)
	for _, path := range []string{"/run/multihome/README", "/run/multihome/foreign/net1", "/run/multihome/etc"} {
		if !strings.Contains(e.Msg, path) {
			t.Errorf("GC says nothing of %s: %s", path, e.Msg)
		}
	}
	if got := sh(t, s.Node.Netns, "ip link"); strings.Contains(got, s.web.host()) || !strings.Contains(got, s.app.host()) {
		t.Errorf("GC leaves\n%s", got)
	}
	s.app.check(t)
}

// TestAllowListDamaged has something else where the node says what networks may do
// with its links: then they may do nothing, and nobody waits for a FIFO.
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
			s := newStage(t, lab.Ens192())
			const list = "/etc/cni/multihome/ifacer.json"
			ifacer := func(verb string) call {
				c := s.web.call(verb, keys{"type": "ifacer", "serviceCIDR": nil, "interfaces": []string{"ens192"}})
				c.plugin = "ifacer"
				return c
			}
			s.onNode(t, `mount -t tmpfs tmpfs /etc; mkdir -p /etc/cni/multihome; echo '{"interfaces": ["ens192"]}' >`+list)
			ifacer("ADD").fine(t)
			s.onNode(t, "list="+list+"\n"+damage)
			if e := ifacer("ADD").fails(t); !strings.Contains(e.Msg, list) {
				t.Errorf("ADD says nothing of the allow-list: %s", e.Msg)
			}
			ifacer("DEL").fine(t)
		})
	}
}
