// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"os"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/lab"
)

// TestGC has one dead pod and one living in a network, and one in another: only
// the first one's host end goes.
func TestGC(t *testing.T) {
	for name, list := range map[string]func(valid []types.GCAttachment) keys{
		"valid-attachments": func(valid []types.GCAttachment) keys { return keys{"cni.dev/valid-attachments": valid} },
		"attachments":       func(valid []types.GCAttachment) keys { return keys{"cni.dev/attachments": valid} },
		"both": func(valid []types.GCAttachment) keys {
			return keys{"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			foreign(t, s)
			s.app.add(t)
			before := s.state(t).without("web")
			s.web.add(t)
			alive := s.state(t)

			gc := func(over keys, living ...*attachment) {
				valid := []types.GCAttachment{}
				for _, a := range living {
					valid = append(valid, types.GCAttachment{ContainerID: a.ContainerID, IfName: lab.NIC})
				}
				c := s.web.call("GC", keys{"prevResult": nil}, list(valid), over)
				c.env = nil // GC is for no pod
				c.fine(t)
			}
			gc(nil, s.web, s.app)
			same(t, "GC while all live", alive, s.state(t))
			gc(keys{"name": "other"})
			same(t, "GC of another network", alive, s.state(t))
			gc(keys{"name": "la"})
			same(t, "GC of a network with the beginning of the name", alive, s.state(t))
			gc(nil, s.app)
			same(t, "GC of a dead pod", before.unnumbered(), s.state(t).without("web").unnumbered())
			s.app.check(t)

			s.web.add(t) // the runtime was wrong, and does it again
			holds(t, s.Scene)
			gc(nil)
			if links := sh(t, s.Node.Netns, "ip link"); strings.Contains(links, s.web.host()) || strings.Contains(links, s.app.host()) {
				t.Errorf("no pod lives, and there is:\n%s", links)
			}
		})
	}
}

// TestGCNeedsToKnow: without the list of the living, all would be garbage.
func TestGCNeedsToKnow(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	s.web.add(t)
	before := s.state(t)
	for what, over := range map[string]keys{
		"missing":    {},
		"not a list": {"cni.dev/valid-attachments": "x"},
	} {
		c := s.web.call("GC", keys{"prevResult": nil}, over)
		c.env = nil
		if e := c.fails(t); e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, "cni.dev/valid-attachments") {
			t.Errorf("list %s: %v", what, e)
		}
		same(t, "GC with a list "+what, before, s.state(t))
	}
}

// TestGCOfRuntime is GC as libcni calls it: for what it has a record of, it
// calls DEL itself, and the plugins find what is beyond.
func TestGCOfRuntime(t *testing.T) {
	t.Parallel()
	s := newScene(t, lab.Ens192(), chained)
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
	has := func(p *lab.Pod) bool { return strings.Contains(sh(t, s.Node.Netns, "ip link"), p.HostEnd(lab.NIC)) }

	gc(s.Web, s.App)
	holds(t, s)
	gc(s.App)
	if has(s.Web) || !has(s.App) {
		t.Errorf("host end of the dead pod: %t, of the living: %t", has(s.Web), has(s.App))
	}
	gc()            // DEFECT
	if has(s.App) { // DEFECT
		t.Error("no pod lives, and a host end is there") // DEFECT
	} // DEFECT
}

// TestGCBesideAdds: while pods are added, one after the other, there is always
// somebody who relies on what pods have in common. GC doesn't wait for the moment
// when nobody does, but leaves it to the next GC.
func TestGCBesideAdds(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	s.app.add(t)
	s.web.add(t)
	gc := s.web.call("GC", keys{"prevResult": nil, "cni.dev/valid-attachments": []types.GCAttachment{}})
	gc.env = nil
	hasRule := func() bool { return strings.Contains(sh(t, s.Node.Netns, "ip rule"), "1000:") }

	var lock *os.File // as ADD has it
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
	gc.fine(t)
	if links := sh(t, s.Node.Netns, "ip link"); strings.Contains(links, s.web.host()) {
		t.Errorf("GC leaves the host end of a pod that is no more:\n%s", links)
	}
	if !hasRule() {
		t.Error("GC removes the rule that an ADD relies on")
	}
	lock.Close()
	gc.fine(t)
	if hasRule() {
		t.Error("GC leaves the rule that nobody relies on")
	}
}
