// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// stage is a node that is watched, and a pod with an ID there.
type stage struct {
	*testing.T
	*Watch
	node, pod *testbed.Netns
	id        int
}

func newStage(t *testing.T) *stage {
	s := &stage{T: t}
	for name, at := range map[string]**testbed.Netns{"node": &s.node, "pod": &s.pod} {
		n, err := testbed.NewNetns(name)
		s.ok(err)
		t.Cleanup(func() { _ = n.Close() })
		*at = n
	}
	s.ok(s.node.Do(func() (err error) { s.Watch, err = Open(); return err }))
	t.Cleanup(s.Watch.Close)
	id, err := s.NetnsID(s.pod.Path())
	s.ok(err)
	if again, err := s.NetnsID(s.pod.Path()); err != nil || again != id {
		t.Errorf("another ID: %d, then %d, %v", id, again, err)
	}
	s.id = id
	return s
}

func (s *stage) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func sh(t *testing.T, n *testbed.Netns, script string) {
	t.Helper()
	if err := n.Do(func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", script, err, out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// events returns the events of a script, as words.
func (s *stage) events(n *testbed.Netns, script string) (out []string) {
	s.Helper()
	_, err := s.Read()
	s.ok(err)
	sh(s.T, n, script)
	events, err := s.Read()
	s.ok(err)
	for _, e := range events {
		var what string
		where := "node"
		if e.Netns == s.id {
			where = "pod"
		} else if e.Netns != Node {
			where = fmt.Sprint("namespace ", e.Netns)
		}
		switch e.Kind {
		case Link:
			what = e.Link.Name
		case Addr:
			what = e.Addr.Prefix.String() + " " + e.Link.Name
		case Route:
			what = fmt.Sprint(e.Dst, " ", e.Proto)
		case Neigh:
			what = e.Dst.String()
		case Rule:
			what = fmt.Sprint(e.Proto)
		default:
			what = e.Name
		}
		if e.Removed {
			what += " gone"
		}
		if line := strings.TrimSpace(fmt.Sprint(where, " ", e.Kind, " ", what)); !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// TestEvents makes changes in both namespaces, and looks for what tells of them.
func TestEvents(t *testing.T) {
	s := newStage(t)
	for _, n := range []*testbed.Netns{s.node, s.pod} {
		sh(t, n, "ip link add wire up type veth peer name far; ip link set far up; ip addr add 10.9.0.1/24 dev wire")
	}
	for _, tt := range []struct{ script, want string }{
		{"ip addr add 10.9.0.2/24 dev wire", "addr 10.9.0.2/24"},
		{"ip addr del 10.9.0.2/24 dev wire", "addr 10.9.0.2/24"},
		{"ip link set wire mtu 1400", "link wire"},
		{"ip rule add pref 1000 lookup 500 protocol 109", "rule multihome"},
		{"ip rule flush", "rule multihome gone"},
		{"ip route add 10.8.0.0/16 dev wire table 500 proto 109", "route 10.8.0.0/16 multihome"},
		{"ip route flush table 500", "route 10.8.0.0/16 multihome gone"},
		{"ip -6 route add fd00:8::/64 dev wire table 500 proto 110", "route fd00:8::/64 multihome-route"},
		{"ip route add default dev wire", "route 0.0.0.0/0"},
		{"ip route add 10.8.0.0/16 dev wire table 100", "route 10.8.0.0/16"},
		{"ip neigh add 10.9.0.9 dev wire lladdr 02:00:00:00:00:09 nud permanent", "neigh 10.9.0.9/32"},
		{"ip neigh del 10.9.0.9 dev wire", "neigh 10.9.0.9/32 gone"},
		{"nft add table inet " + netstate.MarkTable, "table " + netstate.MarkTable},
		{"nft add chain inet " + netstate.MarkTable + " c; nft add rule inet " + netstate.MarkTable + " c accept", "table " + netstate.MarkTable},
		{"nft flush ruleset", "table " + netstate.MarkTable + " gone"},
	} {
		for where, n := range map[string]*testbed.Netns{"node": s.node, "pod": s.pod} {
			got := s.events(n, tt.script)
			if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, where+" "+tt.want) }) {
				t.Errorf("%s: %s: got %q, want %s", where, tt.script, got, tt.want)
			}
			if slices.ContainsFunc(got, func(line string) bool { return !strings.HasPrefix(line, where+" ") }) {
				t.Errorf("%s: %s: events of elsewhere: %q", where, tt.script, got)
			}
		}
	}
	if got := s.events(s.node, "ip addr add 10.9.0.3/24 dev wire"); !slices.Contains(got, "node addr 10.9.0.3/24 wire") {
		t.Errorf("an address of the node without its link: %q", got)
	}
}

// TestFilter makes changes that nobody needs to know of: they don't even wake.
func TestFilter(t *testing.T) {
	s := newStage(t)
	sh(t, s.node, "ip link add wire up type veth peer name far; ip link set far up; ip addr add 10.9.0.1/24 dev wire")
	for _, script := range []string{
		"ip route add 10.8.0.0/16 dev wire; ip route del 10.8.0.0/16 dev wire",
		"ip route add 10.8.0.0/16 dev wire table 1234 proto static; ip route flush table 1234",
		"ip -6 route add fd00:8::/64 dev wire; ip -6 route del fd00:8::/64 dev wire",
		"ip neigh add 10.9.0.9 dev wire lladdr 02:00:00:00:00:09 nud stale",
	} {
		if got := s.events(s.node, script); len(got) > 0 {
			t.Errorf("%s: %q", script, got)
		}
	}
}

// TestNamespaceGoes deletes a namespace that is watched: nothing keeps it. The control is a
// process in a namespace, which does.
func TestNamespaceGoes(t *testing.T) {
	s := newStage(t)
	for name, kept := range map[string]bool{"watched": false, "with a process": true} {
		pod, err := testbed.NewNetns(name)
		s.ok(err)
		_, err = s.NetnsID(pod.Path())
		s.ok(err)
		sh(t, s.node, "ip link add wire type veth peer name eth0 netns "+pod.Path())
		sleep := exec.Command("sleep", "1000")
		if kept {
			s.ok(pod.Do(sleep.Start))
		}
		s.ok(pod.Close())
		gone := func() bool {
			out, err := exec.Command("true"), error(nil)
			_ = s.node.Do(func() error { out = exec.Command("ip", "link", "show", "wire"); err = out.Run(); return nil })
			return err != nil
		}
		if kept {
			time.Sleep(time.Second)
			if gone() {
				t.Error("the control: the namespace with a process is gone")
			}
			_ = sleep.Process.Kill()
			_ = sleep.Wait() // it was killed
		}
		for tries := 0; !gone(); tries++ {
			if tries > 6000 {
				t.Fatalf("%s: it stays", name)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if _, err := s.NetnsID("/nowhere"); !errors.Is(err, netns.ErrNone) {
		t.Errorf("of no namespace: %v", err)
	}
}

// TestLost has more events than the kernel keeps: one says so.
func TestLost(t *testing.T) {
	s := newStage(t)
	var batch strings.Builder
	for i := range 60000 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.%d/32 dev lo table 500 proto 109\n", 1+i>>16, i>>8&255, i&255)
	}
	file := filepath.Join(t.TempDir(), "batch")
	s.ok(os.WriteFile(file, []byte(batch.String()), 0o600))
	got := []string{}
	for _, l := range s.events(s.node, "ip -batch "+file) {
		if strings.HasPrefix(l, "node lost") {
			got = append(got, l)
		}
	}
	if len(got) == 0 {
		t.Error("no word of what was lost")
	}
	s.ok(func() error { _, err := s.Read(); return err }())
}

// TestDirs changes files in a directory, and replaces the directory.
func TestDirs(t *testing.T) {
	s := newStage(t)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := s.Dir(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	for range 2 {
		s.ok(os.Mkdir(dir, 0o700))
		s.ok(s.Dir(dir))
		s.ok(s.Dir(dir))
		for _, script := range []string{"echo >%s/.a", "mv %[1]s/.a %[1]s/b", "rm %s/b", "rmdir %s"} {
			if got := s.events(s.node, fmt.Sprintf(script, dir)); !slices.Equal(got, []string{"node file " + dir}) {
				t.Errorf("%s: %q", script, got)
			}
		}
	}
}

// TestWait waits for an event, for Wake, and for the time.
func TestWait(t *testing.T) {
	s := newStage(t)
	go func() {
		time.Sleep(20 * time.Millisecond)
		sh(t, s.pod, "ip rule add pref 1000 lookup 500")
	}()
	s.Wait(10 * time.Minute)
	if _, err := s.Read(); err != nil {
		t.Error(err)
	}
	go s.Wake()
	s.Wait(10 * time.Minute)
	s.Wait(time.Microsecond)
}
