// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// foreign adds objects of others next to ours: rules next to our priorities, routes in
// our tables, and links and tables with names like ours.
func foreign(t *testing.T, s *fixture.Stage) {
	t.Helper()
	fixture.Sh(t, s.Node.Netns, `
		ip link add vethfedcba98765 type veth peer name veth0
		ip link add veth1 type veth peer name veth2
		ip link set veth1 alias multihome-of-somebody
		ip addr add 172.30.0.1/24 dev veth1
		ip link set veth1 up; ip link set veth2 up
		ip rule add priority 999 lookup 500
		ip rule add priority 1001 from 10.6.0.0/16 lookup 501
		ip -6 rule add priority 999 lookup 500
		ip route add 172.31.0.9 via 10.6.0.50 table 500
		ip -6 route add fd00:31::9 via fd00:6::50 table 500
		ip neigh add 172.30.0.9 dev veth1 lladdr 02:00:00:00:00:09 nud permanent
		nft add table inet multihome2
		nft add table ip multihome
	`)
	fixture.Sh(t, s.Web.Netns, `
		ip rule add priority 32762 fwmark 0x10000000/0x10000000 lookup 99
		ip rule add priority 32764 from 172.31.0.1 lookup 100
		ip -6 rule add priority 32764 from fd00:31::1 lookup 100
		ip route add 172.31.2.0/24 via 10.6.0.50 table 99
		ip route add 172.31.0.0/24 via 10.6.0.50 table 100 # DEFECT
		ip route add 172.31.1.0/24 via 10.6.0.50
		ip neigh add 10.6.0.99 dev eth0 lladdr 02:00:00:00:00:99 nud permanent
		nft add table inet multihome2
		nft add table ip multihome
	`)
}

// TestDel deletes an attachment in every way in which a runtime may ask for it. All
// succeed, leave nothing of ours, and touch nothing else.
func TestDel(t *testing.T) {
	files := t.TempDir()
	fifo, file := filepath.Join(files, "fifo"), filepath.Join(files, "file")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("not a namespace"), 0o600); err != nil {
		t.Fatal(err)
	}
	nobody := fixture.Keys{"prevResult": nil}
	for _, way := range []struct {
		name  string
		del   func(a *fixture.Attachment) fixture.Call
		blind bool // the call doesn't say where the pod's namespace is, so its contents stay
	}{
		{"as it should be", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL") }, false},
		{"without prevResult", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL", nobody) }, false},
		{"with the result of ADD", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL", fixture.Keys{"prevResult": a.Results[lab.NIC]})
		}, false},
		{"with a prevResult that says nothing", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL", fixture.Keys{"prevResult": fixture.Keys{"cniVersion": "1.1.0"}})
		}, false},
		{"with a prevResult that can't be read", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL", fixture.Keys{"prevResult": fixture.Keys{"ips": "x"}})
		}, false},
		{"with a key that nobody knows", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL", fixture.Keys{"serviceCDIR": "x"}) }, false},
		{"with a value that is not allowed", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL", fixture.Keys{"serviceCIDR": "x"}) }, false},
		{"with empty CNI_NETNS", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL").With("CNI_NETNS", "") }, true},
		{"with neither CNI_NETNS nor prevResult", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL", nobody).With("CNI_NETNS", "") }, true},
		{"with a path where nothing is", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL").With("CNI_NETNS", filepath.Join(files, "none"))
		}, true},
		{"with a path below what is not there", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL").With("CNI_NETNS", filepath.Join(files, "no", "ne"))
		}, true},
		{"with a path of a file", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL").With("CNI_NETNS", file) }, true},
		{"with a path below a file", func(a *fixture.Attachment) fixture.Call {
			return a.Call("DEL").With("CNI_NETNS", filepath.Join(file, "none"))
		}, true},
		{"with a path of a directory", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL").With("CNI_NETNS", files) }, true},
		{"with a path of a FIFO", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL").With("CNI_NETNS", fifo) }, true}, // DEFECT
		{"with a path of another sort of namespace", func(a *fixture.Attachment) fixture.Call { return a.Call("DEL").With("CNI_NETNS", "/proc/self/ns/mnt") }, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			foreign(t, s)
			s.AppNIC.Add(t)
			before := s.State(t)
			way.del(s.WebNIC).Fine(t) // without ADD
			fixture.Same(t, "DEL without ADD", before, s.State(t))

			s.WebNIC.Add(t)
			way.del(s.WebNIC).Fine(t)
			after := s.State(t)
			if way.blind {
				// Rules and marks stay in the pod, but nothing leads to them.
				before, after = before.Without("web"), after.Without("web")
			}
			fixture.Same(t, "DEL", before.Unnumbered(), after.Unnumbered())
			once := s.State(t)
			way.del(s.WebNIC).Fine(t)
			fixture.Same(t, "DEL again", once, s.State(t))
			s.AppNIC.Check(t)

			s.WebNIC.Add(t)
			fixture.Holds(t, s.Scene)
		})
	}
	t.Cleanup(func() { // after the parallel tests
		var left []string
		entries, _ := os.ReadDir(files)
		for _, e := range entries {
			left = append(left, e.Name())
		}
		if got := strings.Join(left, " "); got != "fifo file" {
			t.Errorf("at the path of CNI_NETNS there is now: %s", got)
		}
	})
}

// TestDelOfDeadPod calls DEL after the pod's namespace is gone, while the kernel may
// still be deleting it.
func TestDelOfDeadPod(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	foreign(t, s)
	s.AppNIC.Add(t)
	before := fixture.StateOf(t, s.Lab, s.App.Netns)

	n, err := testbed.NewNetns("dead")
	if err != nil {
		t.Fatal(err)
	}
	dead := s.Attachment(&lab.Pod{Netns: n, ContainerID: "dead", Results: s.Web.Results})
	if err := s.Node.AddMacvlan("ens192", n, lab.NIC); err != nil {
		t.Fatal(err)
	}
	// The dead pod has the addresses of web; web itself stays as macvlan left it.
	if err := n.AddAddrs(lab.NIC, s.Web.Addrs(lab.NIC)...); err != nil {
		t.Fatal(err)
	}
	dead.Add(t)
	path := n.Path()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dead.Call("DEL").With("CNI_NETNS", path).Fine(t)
		if links := fixture.Sh(t, s.Node.Netns, "ip link"); strings.Contains(links, dead.Host()) {
			t.Errorf("the node still has %s:\n%s", dead.Host(), links)
		}
	}
	s.AppNIC.Check(t)
	fixture.Same(t, "DEL of a dead pod", before.Unnumbered(), fixture.StateOf(t, s.Lab, s.App.Netns).Unnumbered())
}

// TestDelSparesPodOfOtherNetns calls DEL with another pod's namespace: DEL removes the
// pod's objects on the node, and leaves the other pod alone.
func TestDelSparesPodOfOtherNetns(t *testing.T) {
	for name, over := range map[string]fixture.Keys{"veth": nil, "macvlan": {"hostLink": "macvlan"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			s.AppNIC.Add(t, over)
			before := s.State(t).Without("web")
			s.WebNIC.Add(t, over)
			s.WebNIC.Call("DEL", over).With("CNI_NETNS", s.App.Path()).Fine(t)
			fixture.Same(t, "DEL with the netns of app", before.Unnumbered(), s.State(t).Without("web").Unnumbered())
			s.AppNIC.Call("CHECK", over).Fine(t)
			s.WebNIC.Call("DEL", over).Fine(t)
			s.AppNIC.Call("CHECK", over).Fine(t)
		})
	}
}

// TestDelSparesNamesake checks that a link with the name of the pod's host end stays if
// it is not ours.
func TestDelSparesNamesake(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	for what, alias := range map[string]string{
		"without an alias": "", "with an alias of another pod": "multihome:lan/other/eth0", "with somebody's alias": "mine",
	} {
		fixture.Sh(t, s.Node.Netns, fmt.Sprintf("ip link add %s type veth peer name other; ip link set %s alias '%s'", s.WebNIC.Host(), s.WebNIC.Host(), alias))
		before := s.State(t)
		s.WebNIC.Del(t)
		fixture.Same(t, "DEL beside a link of that name "+what, before, s.State(t))
		fixture.Sh(t, s.Node.Netns, "ip link del "+s.WebNIC.Host())
	}
}

// TestDelWhileAddIsAtWork calls DEL while ADD of the same attachment is slow, like a
// runtime that has stopped waiting. The later of the two decides, and no mixture
// remains.
func TestDelWhileAddIsAtWork(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Add(t)
	before := s.State(t)
	added := make(chan fixture.Outcome)
	go func() {
		c := s.WebNIC.Call("ADD")
		c.Under = []string{"strace", "-f", "-qq", "-o", os.DevNull, "-e", "trace=sendto", "-e", "inject=sendto:delay_enter=20000"}
		added <- c.Run(t)
	}()
	time.Sleep(500 * time.Millisecond) // most likely in the middle of ADD
	s.WebNIC.Del(t)
	if out := <-added; !out.State.Success() {
		if _, err := out.AsError(); err != nil {
			t.Error(err)
		}
	} else if strings.Contains(fixture.Sh(t, s.Node.Netns, "ip link"), s.WebNIC.Host()) {
		s.WebNIC.Check(t)
	}
	s.WebNIC.Del(t)
	fixture.Same(t, "DEL", before.Unnumbered(), s.State(t).Unnumbered())
}
