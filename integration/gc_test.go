// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestGC has a dead and a living pod in one network, and a pod in another: only the
// dead pod's host end goes.
func TestGC(t *testing.T) {
	for name, list := range map[string]func(valid []types.GCAttachment) fixture.Keys{
		"valid-attachments": func(valid []types.GCAttachment) fixture.Keys { return fixture.Keys{"cni.dev/valid-attachments": valid} },
		"attachments":       func(valid []types.GCAttachment) fixture.Keys { return fixture.Keys{"cni.dev/attachments": valid} },
		"both": func(valid []types.GCAttachment) fixture.Keys {
			return fixture.Keys{"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			foreign(t, s)
			fixture.AgentReady(t, s.Lab)
			s.AppNIC.Add(t)
			before := s.State(t).Without("web")
			s.WebNIC.Add(t)
			alive := s.State(t)

			gc := func(over fixture.Keys, living ...*fixture.Attachment) {
				valid := []types.GCAttachment{}
				for _, a := range living {
					valid = append(valid, types.GCAttachment{ContainerID: a.ContainerID, IfName: lab.NIC})
				}
				c := s.WebNIC.Call("GC", fixture.Keys{"prevResult": nil}, list(valid), over)
				c.Env = nil // GC is not about one pod
				c.Fine(t)
			}
			gc(nil, s.WebNIC, s.AppNIC)
			fixture.Same(t, "GC while all live", alive, s.State(t))
			gc(fixture.Keys{"name": "other"})
			fixture.Same(t, "GC of another network", alive, s.State(t))
			gc(fixture.Keys{"name": "la"})
			fixture.Same(t, "GC of a network with the beginning of the name", alive, s.State(t))
			gc(nil, s.AppNIC)
			fixture.Same(t, "GC of a dead pod", before.Unnumbered(), s.State(t).Without("web").Unnumbered())
			s.AppNIC.Check(t)

			s.WebNIC.Add(t) // the runtime was wrong, and adds the pod again
			fixture.Holds(t, s.Scene)
			gc(nil)
			if links := fixture.Sh(t, s.Node.Netns, "ip link"); strings.Contains(links, s.WebNIC.Host()) || strings.Contains(links, s.AppNIC.Host()) {
				t.Errorf("no pod lives, but the node still has:\n%s", links)
			}
		})
	}
}

// TestGCNeedsToKnow checks that GC refuses to run without the list of living
// attachments: it would remove everything.
func TestGCNeedsToKnow(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Add(t)
	before := s.State(t)
	for what, over := range map[string]fixture.Keys{
		"missing":    {},
		"not a list": {"cni.dev/valid-attachments": "x"},
	} {
		c := s.WebNIC.Call("GC", fixture.Keys{"prevResult": nil}, over)
		c.Env = nil
		if e := c.Fails(t); e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, "cni.dev/valid-attachments") {
			t.Errorf("list %s: %v", what, e)
		}
		fixture.Same(t, "GC with a list "+what, before, s.State(t))
	}
}

// TestGCOfRuntime runs GC as libcni does: for attachments in its cache libcni calls DEL
// itself, and the plugins find the others.
func TestGCOfRuntime(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	valid := func(pods ...*lab.Pod) []types.GCAttachment {
		var out []types.GCAttachment
		for _, p := range pods {
			out = append(out, types.GCAttachment{ContainerID: p.ContainerID, IfName: lab.NIC})
		}
		return out
	}
	gc := func(pods ...*lab.Pod) {
		// The runtime has lost its records.
		if err := s.Node.Run(func() error { return os.RemoveAll("/var/lib/cni/results") }); err != nil {
			t.Fatal(err)
		}
		if err := s.Network.GC(t.Context(), valid(pods...)...); err != nil {
			t.Error(err)
		}
	}
	has := func(p *lab.Pod) bool {
		return strings.Contains(fixture.Sh(t, s.Node.Netns, "ip link"), p.HostEnd(lab.NIC))
	}

	gc(s.Web, s.App)
	fixture.Holds(t, s)
	gc(s.App)
	if has(s.Web) || !has(s.App) {
		t.Errorf("host end of the dead pod: %t, of the living: %t", has(s.Web), has(s.App))
	}
	gc()            // DEFECT
	if has(s.App) { // DEFECT
		t.Error("no pod lives, but a host end is still there") // DEFECT
	} // DEFECT
}

// TestGCBesideAdds runs GC while pods are added one after the other, so that an ADD
// always relies on the objects that pods share. GC doesn't wait until no ADD runs, but
// leaves them to the next GC.
func TestGCBesideAdds(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.AppNIC.Add(t)
	s.WebNIC.Add(t)
	gc := s.WebNIC.Call("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": []types.GCAttachment{}})
	gc.Env = nil
	hasRule := func() bool { return strings.Contains(fixture.Sh(t, s.Node.Netns, "ip rule"), "1000:") }

	var lock *os.File // the lock that ADD holds
	err := s.Node.Do(func() (err error) {
		if lock, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		return unix.Flock(int(lock.Fd()), unix.LOCK_SH)
	})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	gc.Fine(t)
	if links := fixture.Sh(t, s.Node.Netns, "ip link"); strings.Contains(links, s.WebNIC.Host()) {
		t.Errorf("GC leaves the host end of a dead pod:\n%s", links)
	}
	if !hasRule() {
		t.Error("GC removes the rule that an ADD relies on")
	}
	lock.Close()
	gc.Fine(t)
	if hasRule() {
		t.Error("GC leaves the unused host rule")
	}
}
