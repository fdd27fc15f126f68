// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/spool"
)

// story has pods that come and go, all of which want the one address there is. What
// happens next, and at which operation of the agent, is chosen by choose.
type story struct {
	*world
	choose func(n int) int // 0 to n-1
	pods   []*kubelet
	depth  int    // of what happens during a step of something else
	broken string // why an address was in two namespaces
}

// kubelet is a pod as its node sees it, for as long as the node has something of it.
type kubelet struct {
	uid     string
	boxes   []box
	answers []spool.NIC // of box i; no Addresses: none, or it was used
	over    bool        // the kubelet knows that the pod is gone
}

var errDead = errors.New("the agent is dead")

// step is one thing that happens.
func (s *story) step() {
	switch s.choose(14) {
	case 0: // a pod is made
		if len(s.pods) < 4 {
			uid := fmt.Sprint("u", s.made)
			s.made++
			s.pods = append(s.pods, &kubelet{uid: uid})
			s.pod(uid, uid)
		}
	case 1: // a pod's object goes, whatever its node does
		if k := s.any(); k != nil {
			s.delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: k.uid}})
		}
	case 2: // a pod ends
		if k := s.any(); k != nil {
			k.over = true
			p := &corev1.Pod{}
			if s.c.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: k.uid}, p) == nil {
				p.Status.Phase = corev1.PodSucceeded
				s.ok(s.c.Status().Update(s.t.Context(), p))
			}
		}
	case 3, 4:
		s.controller()
	case 5, 6: // ADD, of a new sandbox or a known one
		if k := s.any(); k != nil && !k.over {
			i := s.choose(len(k.boxes) + 1)
			if i == len(k.boxes) {
				k.boxes, k.answers = append(k.boxes, s.box(k.uid, k.uid)), append(k.answers, spool.NIC{})
			}
			b := k.boxes[i]
			s.made++
			b.Call = fmt.Sprint(s.made)
			if nic, err := s.add(b); err == nil {
				k.answers[i] = nic
				if s.choose(2) == 0 {
					s.set(b, nic)
					k.answers[i] = spool.NIC{}
				}
			}
		}
	case 7: // the main plugin sets the address
		if k := s.any(); k != nil && len(k.boxes) > 0 {
			i := s.choose(len(k.boxes))
			s.set(k.boxes[i], k.answers[i])
			k.answers[i] = spool.NIC{}
		}
	case 8: // DEL: IPAM's is called before the address goes
		if k := s.any(); k != nil && len(k.boxes) > 0 {
			i := s.choose(len(k.boxes))
			k.answers[i] = spool.NIC{}
			s.del(k.boxes[i])
			if s.choose(2) == 0 && s.nets[k.boxes[i].inode] != nil {
				s.nets[k.boxes[i].inode].addresses = nil
			}
		}
	case 9: // a sandbox goes, perhaps without DEL
		if k := s.any(); k != nil && len(k.boxes) > 0 {
			i := s.choose(len(k.boxes))
			delete(s.nets, k.boxes[i].inode)
			k.boxes, k.answers = slices.Delete(k.boxes, i, i+1), slices.Delete(k.answers, i, i+1)
		}
	case 10: // a user deletes a claim
		if k := s.any(); k != nil && s.choose(3) == 0 {
			s.delete(&v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: k.uid}})
		}
	case 11, 12, 13:
		s.agentPass()
	}
	s.check()
}

// any returns one of the pods.
func (s *story) any() *kubelet {
	if len(s.pods) == 0 {
		return nil
	}
	return s.pods[s.choose(len(s.pods))]
}

// agentPass has the agent look at everything; other things happen at an operation of it, and
// it may die there.
func (s *story) agentPass() {
	if s.depth > 0 {
		return
	}
	n, dies := s.choose(60), s.choose(4) == 0
	at := func() error {
		n--
		switch {
		case n == 0 && dies:
			return errDead
		case n == 0:
			before := s.files.before
			s.files.before = nil
			s.depth++
			for range 1 + s.choose(3) {
				s.step()
			}
			s.depth--
			s.files.before = before
		case n < 0 && dies:
			return errDead
		}
		return nil
	}
	broken := s.files.before
	s.files.before = func(op, name string) error {
		if err := at(); err != nil {
			return err
		}
		if broken != nil {
			return broken(op, name)
		}
		return nil
	}
	s.write = at
	if err := s.pass(); err != nil && !errors.Is(err, errDead) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
	s.files.before, s.write = broken, nil
	if dies && n <= 0 {
		s.start()
	}
}

// controller is a controller of one address: it gives it to the first pod without a claim,
// and takes it back when the agent says so.
func (s *story) controller() {
	ip := &v1alpha1.IPAddress{}
	err := s.c.Get(s.t.Context(), client.ObjectKey{Name: addr}, ip)
	if apierrors.IsNotFound(err) {
		for _, k := range s.pods {
			p := &corev1.Pod{}
			if s.c.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: k.uid}, p) == nil && !pods.Finished(p) {
				if s.c.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: k.uid}, &v2beta1.SpiderEndpoint{}) != nil {
					s.claim(k.uid, k.uid, addr)
					return
				}
			}
		}
		return
	}
	s.ok(err)
	uid := ip.Spec.Holders[0].PodUID
	p, c := &corev1.Pod{}, &v2beta1.SpiderEndpoint{}
	if s.c.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: uid}, p) == nil && !pods.Finished(p) {
		return
	}
	n := s.nodeSpool()
	claimed := s.c.Get(s.t.Context(), client.ObjectKey{Namespace: "default", Name: uid}, c) == nil
	switch {
	case claimed && c.Status.Withdrawn != nil:
	case slices.Contains(n.Spec.Ask, uid) && slices.Contains(n.Status.Withdrawn, uid):
	default:
		n.Spec.Ask = []string{uid}
		s.ok(s.c.Update(s.t.Context(), &n))
		return
	}
	s.delete(ip)
	if claimed {
		s.delete(c)
	}
	n.Spec.Ask = nil
	s.ok(s.c.Update(s.t.Context(), &n))
}

// check looks for an address in the namespaces of two pods.
func (s *story) check() {
	of := map[uint64]string{}
	for _, k := range s.pods {
		for _, b := range k.boxes {
			of[b.inode] = k.uid
		}
	}
	holders := map[string]bool{}
	for inode, ns := range s.nets {
		if len(ns.addresses) > 0 {
			holders[of[inode]] = true
		}
	}
	if len(holders) > 1 {
		s.broken = fmt.Sprintf("pods %v have %s", slices.Sorted(maps.Keys(holders)), addr)
	}
}

// end lets all pods end, and checks that nothing is left.
func (s *story) end() {
	for _, k := range s.pods {
		s.delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: k.uid}})
	}
	clear(s.nets)
	for range 4 {
		s.sync(3)
		s.controller()
	}
	if left := s.left(); len(left) > 0 {
		s.t.Errorf("left: %v", left)
	}
	if s.c.Get(s.t.Context(), client.ObjectKey{Name: addr}, &v1alpha1.IPAddress{}) == nil {
		s.t.Errorf("%s is not free", addr)
	}
	if n := s.nodeSpool(); len(n.Status.Sandboxes)+len(n.Status.Wants) > 0 {
		s.t.Errorf("the NodeSpool has %+v", n.Status)
	}
}

// FuzzAgent checks that no two pods ever have one address, and that it is free in the end. The
// input chooses what happens.
func FuzzAgent(f *testing.F) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 13))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		input = input[:min(len(input), 400)]
		s := &story{world: newWorld(t)}
		s.choose = func(n int) int {
			if len(input) == 0 {
				return 0
			}
			x := int(input[0])
			input = input[1:]
			return x % n
		}
		for len(input) > 0 {
			s.step()
			if s.broken != "" {
				t.Fatal(s.broken)
			}
		}
		s.choose = func(int) int { return 0 }
		s.end()
	})
}

// TestFuzzFinds shows that FuzzAgent's check finds an agent whose steps don't work.
func TestFuzzFinds(t *testing.T) {
	for name, breakIt := range map[string]func(*story){
		"the plugin still sees the addresses in pods/": func(s *story) { s.agent.Files = apart{s.files, map[string][]byte{}} },
		"no sandbox is seen":                           func(s *story) { s.agent.Files = blind{s.files} },
		"no namespace is seen":                         func(s *story) { s.agent.Namespaces = nets{} },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				r := rand.New(rand.NewPCG(seed, 1))
				s := &story{world: newWorld(t), choose: r.IntN}
				var agent *Agent
				for range 100 {
					if agent != s.agent { // it started anew
						agent = s.agent
						breakIt(s)
					}
					if s.step(); s.broken != "" {
						t.Logf("found with seed %d: %s", seed, s.broken)
						return
					}
				}
			}
			t.Error("not found")
		})
	}
}

// apart keeps what the agent takes from pods/ from the plugin.
type apart struct {
	*memory
	own map[string][]byte
}

func (a apart) Read(name string) ([]byte, error) {
	if b, ok := a.own[name]; ok && b == nil {
		return nil, fs.ErrNotExist
	} else if ok {
		return b, nil
	}
	return a.memory.Read(name)
}

func (a apart) Write(name string, b []byte) error {
	if strings.HasPrefix(name, "pods/") && !strings.Contains(string(b), `"NICs"`) {
		a.own[name] = b
		return nil
	}
	delete(a.own, name)
	return a.memory.Write(name, b)
}

func (a apart) Remove(name string) error {
	if strings.HasPrefix(name, "pods/") {
		a.own[name] = nil
		return nil
	}
	return a.memory.Remove(name)
}

// blind sees no sandboxes.
type blind struct{ *memory }

func (b blind) List(dir string) ([]string, error) {
	if dir == "sandboxes" || dir == "gone" {
		return nil, nil
	}
	return b.memory.List(dir)
}
