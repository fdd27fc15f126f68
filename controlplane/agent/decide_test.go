// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"testing"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/spool"
)

// seen is a sandbox as decide sees it.
func seen(f func(*sandbox)) sandbox {
	s := sandbox{Sandbox: spool.Sandbox{ContainerID: "c", Interface: "eth0", Call: "1"}, exists: true}
	if f != nil {
		f(&s)
	}
	return s
}

func TestDecide(t *testing.T) {
	claim := func(f func(*v2beta1.SpiderEndpoint)) *v2beta1.SpiderEndpoint {
		c := &v2beta1.SpiderEndpoint{}
		c.UID = "claim"
		if f != nil {
			f(c)
		}
		return c
	}
	done := claim(func(c *v2beta1.SpiderEndpoint) { c.Status.Withdrawn = &v2beta1.Withdrawn{} })
	full := &spool.Pod{UID: "u", NICs: []spool.NIC{{Interface: "eth0", Network: "lan"}}}
	why := &spool.Pod{UID: "u", Reason: "the claim is Pending"}
	wanted := spool.Want{ContainerID: "c", Interface: "eth0", Call: "1"}
	clean := []action{{remove, "sandboxes/c:eth0:1"}, {remove, "gone/c:eth0:1"}}
	withdrawing := []action{{verb: bury}, {verb: withdraw}}
	for name, c := range map[string]struct {
		o    observed
		want []action
	}{
		"a ready claim is served":              {observed{lives: true, serve: full}, []action{{verb: serve}}},
		"what is served stays":                 {observed{lives: true, serve: full, pod: full}, nil},
		"a claim that waits says why":          {observed{lives: true, serve: why, pod: full}, []action{{verb: serve}}},
		"no claim, nothing":                    {observed{lives: true}, nil},
		"no claim any more, nothing is served": {observed{lives: true, pod: full}, []action{{remove, "pods/u"}}},

		"of a living pod, an old sandbox is looked at twice": {observed{lives: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.exists = false })}}, []action{{note, "sandboxes/c:eth0:1"}}},
		"of a living pod, an old sandbox goes":               {observed{lives: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.exists, s.before = false, true })}}, clean},
		"of a living pod, a sandbox stays":                   {observed{lives: true, sandboxes: []sandbox{seen(nil)}}, nil},
		"of a living pod, what DEL left stays":               {observed{lives: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.Gone = true })}}, nil},
		"of a living pod, a want stays":                      {observed{lives: true, wants: []want{{Want: wanted, exists: true}}}, nil},
		"of a living pod, a want is looked at twice":         {observed{lives: true, wants: []want{{Want: wanted}}}, []action{{note, wanted.File()}}},
		"of a living pod, the want of a dead ADD goes":       {observed{lives: true, wants: []want{{Want: wanted, before: true}}}, []action{{remove, wanted.File()}}},

		"first pods/ loses the addresses, and nothing else is done": {observed{claim: claim(nil), ours: true, pod: full, wants: []want{{Want: wanted}}, sandboxes: []sandbox{seen(func(s *sandbox) { s.exists, s.before = false, true })}}, []action{{verb: stop}}},
		"pods/ keeps the name until the claim is withdrawn":         {observed{claim: claim(nil), ours: true, pod: why}, withdrawing},
		"and goes then":            {observed{claim: done, ours: true, pod: why, known: true, buriedAs: "claim"}, []action{{remove, "pods/u"}}},
		"and if there is no claim": {observed{pod: why}, []action{{remove, "pods/u"}}},
		"wants go":                 {observed{claim: claim(nil), ours: true, wants: []want{{Want: wanted, exists: true}}}, []action{{remove, wanted.File()}}},
		"a sandbox keeps":          {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.has = true })}}, []action{{wait, "sandboxes/c:eth0:1"}}},
		"a sandbox that has no address yet keeps":    {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.before = true })}}, []action{{wait, "sandboxes/c:eth0:1"}}},
		"DEL with the address still there keeps":     {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.has, s.Gone, s.before = true, true, true })}}, []action{{wait, "sandboxes/c:eth0:1"}}},
		"DEL without the address is looked at twice": {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.Gone = true })}}, []action{{note, "sandboxes/c:eth0:1"}}},
		"DEL without the address, twice":             {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.Gone, s.before = true, true })}}, clean},
		"DEL and no namespace":                       {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.Gone, s.exists = true, false })}}, clean},
		"no namespace is looked at twice":            {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.exists = false })}}, []action{{note, "sandboxes/c:eth0:1"}}},
		"no namespace, twice":                        {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.exists, s.before = false, true })}}, clean},
		"no path, but processes with the address":    {observed{claim: claim(nil), ours: true, sandboxes: []sandbox{seen(func(s *sandbox) { s.exists, s.before, s.has = false, true, true })}}, []action{{wait, "sandboxes/c:eth0:1"}}},

		"withdrawn, the tombstone first":               {observed{claim: claim(nil), ours: true}, withdrawing},
		"a lost spool waits":                           {observed{claim: claim(nil), ours: true, held: true}, []action{{verb: wait}}},
		"after a crash between tombstone and claim":    {observed{claim: claim(nil), ours: true, known: true, buriedAs: "claim"}, []action{{verb: withdraw}}},
		"a static pod's second claim":                  {observed{claim: claim(nil), ours: true, known: true, buriedAs: "former"}, withdrawing},
		"done":                                         {observed{claim: done, ours: true, known: true, buriedAs: "claim"}, nil},
		"never for another machine":                    {observed{claim: claim(nil)}, []action{{verb: bury}}},
		"a pod without a claim, such as one of others": {observed{}, nil},
		"asked":           {observed{asked: true}, []action{{verb: bury}}},
		"asked again":     {observed{asked: true, known: true}, nil},
		"asked too early": {observed{asked: true, sandboxes: []sandbox{seen(nil)}}, []action{{wait, "sandboxes/c:eth0:1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.o.uid = "u"
			if got := decide(c.o); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// FuzzDecide checks what no decision may do, whatever is observed: each bit of the input is
// a fact.
func FuzzDecide(f *testing.F) {
	for _, facts := range []uint32{0, 0b1, 0b10_1010, 0b1111_0000_1010, 1<<20 - 1, 0xaaaaa, 0x55555} {
		f.Add(facts)
	}
	f.Fuzz(func(t *testing.T, facts uint32) {
		fact := func() bool {
			is := facts&1 == 1
			facts >>= 1
			return is
		}
		o := observed{uid: "u", lives: fact(), known: fact(), mirror: fact(), asked: fact(), ours: fact(), held: fact()}
		if fact() {
			o.claim = &v2beta1.SpiderEndpoint{}
			o.claim.UID = "claim"
			if fact() {
				o.claim.Status.Withdrawn = &v2beta1.Withdrawn{}
			}
		}
		if fact() {
			o.pod = &spool.Pod{UID: "u"}
			if fact() {
				o.pod.NICs = []spool.NIC{{}}
			}
		}
		if fact() {
			o.wants = []want{{exists: fact(), before: fact()}}
		}
		for _, call := range []string{"1", "2"} {
			if fact() {
				o.sandboxes = append(o.sandboxes, sandbox{
					Sandbox: spool.Sandbox{ContainerID: "c", Interface: "eth0", Call: call, Gone: fact()}, exists: fact(), has: fact(), before: fact(),
				})
			}
		}
		actions := decide(o)
		does := func(v verb) int { return slices.IndexFunc(actions, func(a action) bool { return a.verb == v }) }
		for _, s := range o.sandboxes {
			i := slices.Index(actions, action{remove, s.File()})
			if i >= 0 && (s.has || s.exists && !s.Gone || o.serves() && !o.lives) {
				t.Errorf("%+v: %v", s, actions)
			}
			if i >= 0 && i > slices.Index(actions, action{remove, s.GoneFile()}) {
				t.Errorf("a crash would leave a sandbox without its DEL: %v", actions)
			}
		}
		switch {
		case o.lives && (does(withdraw) >= 0 || does(bury) >= 0 || does(stop) >= 0):
			t.Errorf("the pod lives: %v", actions)
		case does(withdraw) < 0 && does(bury) < 0:
		case o.serves() || len(o.sandboxes) > 0 || o.held:
			t.Errorf("something is left: %v", actions)
		case does(withdraw) >= 0 && (!o.ours || o.claim == nil || !o.known && does(bury) > does(withdraw)):
			t.Errorf("withdraws what it may not, or without a note: %v", actions)
		}
	})
}
