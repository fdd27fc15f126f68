// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/lab"
)

// byLink are the ways there can be between a pod and its node.
var byLink = map[string]keys{"by veth": nil, "by the bridge": {"hostLink": "macvlan"}}

// allAtOnce starts all calls at the same time, each after a pause if there is one.
func allAtOnce(t *testing.T, calls []call, pause ...time.Duration) []outcome {
	t.Helper()
	outs, errs := make([]outcome, len(calls)), make([]error, len(calls))
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() {
			if i < len(pause) {
				time.Sleep(pause[i])
			}
			outs[i], errs[i] = c.start(t.Context())
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", calls[i].verb, err)
		}
	}
	return outs
}

// TestNICsAtOnce adds NICs of one pod at the same time. A further one whose ADD
// is before that of the first is refused with the reason and changes nothing, so
// that the runtime may try again. In the end all is as after ADDs in turn.
func TestNICsAtOnce(t *testing.T) {
	const rounds = 8
	for name, tt := range map[string]struct{ before, atOnce []string }{
		"the first and another": {nil, []string{"eth0", "net1"}},
		"three others":          {[]string{"eth0"}, []string{"net1", "net2", "net3"}},
		"all":                   {nil, []string{"eth0", "net1", "net2", "net3"}},
	} {
		for way, link := range byLink {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, append(threeLANs(), otherLAN(9))[:len(tt.before)+len(tt.atOnce)])
				order := slices.Concat(tt.before, tt.atOnce)
				s.inTurn(t, order, link)
				s.outInTurn(t, order, link)
				gone, early := s.state(t), 0
				for range rounds {
					s.inTurn(t, tt.before, link)
					early += s.together(t, tt.atOnce, link)
					atOnce := s.state(t)
					for _, nic := range order {
						s.attached(nic).call("CHECK", link).fine(t)
					}
					order := s.byTable(t, order)
					s.outInTurn(t, order, link)
					same(t, "DEL of all", gone.unnumbered(), s.state(t).unnumbered())
					s.inTurn(t, order, link)
					same(t, "ADD at once, against ADD in turn", s.state(t).unnumbered(), atOnce.unnumbered())
					s.outInTurn(t, order, link)
				}
				t.Logf("%d times %d ADDs at once, of which %d came before the first NIC's", rounds, len(tt.atOnce), early)
			})
		}
	}
}

func (s *site) inTurn(t *testing.T, nics []string, over keys) {
	t.Helper()
	for _, nic := range nics {
		s.attached(nic).call("ADD", over).fine(t)
	}
}

// outInTurn takes them away, the last one first: the first NIC's default stays.
func (s *site) outInTurn(t *testing.T, nics []string, over keys) {
	t.Helper()
	for _, nic := range slices.Backward(nics) {
		s.attached(nic).call("DEL", over).fine(t)
	}
}

// together adds NICs at once, those that were too early again, and returns how
// many these were.
func (s *site) together(t *testing.T, nics []string, over keys) (early int) {
	t.Helper()
	var calls []call
	for _, nic := range nics {
		calls = append(calls, s.attached(nic).call("ADD", over))
	}
	for i, out := range allAtOnce(t, calls) {
		if out.state.Success() {
			continue
		}
		if e, err := out.asError(); err != nil || nics[i] == lab.NIC || !strings.Contains(e.Msg, lab.NIC) {
			t.Errorf("ADD of %s at once: %s%s", nics[i], out.stdout, out.stderr)
		}
		early++
		calls[i].fine(t)
	}
	return early
}

// byTable returns the NICs in the order in which they got their tables.
func (s *site) byTable(t *testing.T, nics []string) []string {
	t.Helper()
	number := map[string]int{}
	for _, nic := range nics {
		number[nic] = table(t, s.web, s.web.Addrs(nic)[0].Addr())
	}
	return slices.SortedFunc(slices.Values(nics), func(a, b string) int { return number[a] - number[b] })
}

// attachments are what ADD and DEL race for: NICs of one pod, and by whom.
var attachments = map[string]struct {
	nic  string
	call func(a *attachment, verb string, over ...keys) call
}{
	"first NIC by veth":         {"eth0", (*attachment).call},
	"first NIC by the bridge":   {"eth0", addedByBridge},
	"further NIC by veth":       {"net1", (*attachment).call},
	"further NIC by the bridge": {"net1", addedByBridge},
	"route with a bridge":       {"eth0", (*attachment).route},
	"route with sbr": {"net1", func(a *attachment, verb string, over ...keys) call {
		return a.route(verb, append([]keys{{"master": nil, "bridge": nil, "sbr": true}}, over...)...)
	}},
}

func addedByBridge(a *attachment, verb string, over ...keys) call {
	return a.call(verb, append([]keys{byLink["by the bridge"]}, over...)...)
}

// TestAddAndDelAtOnce has two ADDs and two DELs of one attachment at the same
// time: each does all of its work or waits, and what is there in the end is all
// or nothing.
func TestAddAndDelAtOnce(t *testing.T) {
	const rounds = 24
	for name, tt := range attachments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, twoLANs["dual"])
			if tt.nic != lab.NIC {
				tt.call(s.attached(lab.NIC), "ADD").fine(t)
			}
			verb := func(verb string) call { return tt.call(s.attached(tt.nic), verb) }
			verb("ADD").fine(t)
			verb("DEL").fine(t)
			none := s.state(t).unnumbered()
			verb("ADD").fine(t)
			whole := s.state(t).unnumbered()
			verb("DEL").fine(t)
			same(t, "DEL", none, s.state(t).unnumbered())

			added := 0
			for i := range rounds {
				calls := []call{verb("ADD"), verb("DEL"), verb("ADD"), verb("DEL")}
				pause := time.Duration(i%8) * time.Millisecond
				for k, out := range allAtOnce(t, calls, 0, pause, 2*pause, pause/2) {
					if !out.state.Success() {
						t.Errorf("%s at once: %s%s", calls[k].verb, out.stdout, out.stderr)
					}
				}
				want := none
				now := s.state(t).unnumbered()
				if !slices.Equal(now, none) {
					want = whole
					added++
				}
				same(t, "ADD and DEL at once", want, now)
				if i%2 == 0 {
					verb("DEL").fine(t)
					same(t, "DEL after them", none, s.state(t).unnumbered())
					continue
				}
				verb("ADD").fine(t)
				verb("CHECK").fine(t)
				same(t, "ADD after them", whole, s.state(t).unnumbered())
			}
			t.Logf("%d times two ADDs and two DELs at once: %d times an ADD was the last", rounds, added)
		})
	}
}

// TestBlindDelsAtOnce deletes both NICs of a pod at the same time, where nobody
// knows its namespace any more: the node keeps nothing of it.
func TestBlindDelsAtOnce(t *testing.T) {
	const rounds = 20
	for way, link := range byLink {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, twoLANs["dual"])
			nics := []string{"eth0", "net1"}
			s.inTurn(t, nics, link)
			s.outInTurn(t, nics, link)
			before := s.state(t).without("web").unnumbered()
			for range rounds {
				s.inTurn(t, nics, link)
				var calls []call
				for _, nic := range nics {
					calls = append(calls, s.attached(nic).call("DEL", link, keys{"prevResult": nil}).with("CNI_NETNS", ""))
				}
				for i, out := range allAtOnce(t, calls) {
					if !out.state.Success() {
						t.Errorf("DEL of %s: %s%s", nics[i], out.stdout, out.stderr)
					}
				}
				same(t, "DEL of both", before, s.state(t).without("web").unnumbered())
				s.outInTurn(t, nics, link) // what is in the pod
			}
		})
	}
}

// TestBlindDelBesideAdd has a DEL that was given no namespace beside an ADD that
// was, which has not locked what the other one knows nothing of. An ADD whose work
// was taken away may fail, and has then left nothing. Whatever is there in the end,
// DEL and GC leave nothing of it on the node, and ADD makes it whole.
func TestBlindDelBesideAdd(t *testing.T) {
	const rounds = 24
	for name, tt := range attachments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, twoLANs["dual"])
			s.addApp(t) // what pods share stays
			living := []types.GCAttachment{{ContainerID: s.app.ContainerID, IfName: lab.NIC}}
			if tt.nic != lab.NIC {
				tt.call(s.attached(lab.NIC), "ADD").fine(t)
				living = append(living, types.GCAttachment{ContainerID: s.web.ContainerID, IfName: lab.NIC})
			}
			verb := func(verb string, over ...keys) call { return tt.call(s.attached(tt.nic), verb, over...) }
			verb("ADD").fine(t)
			verb("DEL").fine(t)
			none := s.state(t).unnumbered()
			verb("ADD").fine(t)
			whole := s.state(t).unnumbered()
			verb("DEL").fine(t)

			failed := 0
			for i := range rounds {
				pause := time.Duration(i%12) * 500 * time.Microsecond
				outs := allAtOnce(t, []call{verb("ADD"), verb("DEL", keys{"prevResult": nil}).with("CNI_NETNS", "")}, 0, pause)
				if del := outs[1]; !del.state.Success() || del.stderr != "" {
					t.Errorf("DEL beside ADD: %s%s", del.stdout, del.stderr)
				}
				if add := outs[0]; !add.state.Success() {
					e, err := add.asError()
					if err != nil {
						t.Fatal(err)
					}
					failed++
					same(t, "ADD that failed: "+e.Msg, none, s.state(t).unnumbered())
				}
				// What is in the pod would die with it, and may need another ADD.
				last := verb("DEL")
				if i%2 == 0 {
					last = verb("GC", keys{"prevResult": nil, "cni.dev/valid-attachments": living})
					last.env = nil
				}
				last.fine(t)
				same(t, last.verb+" after them", none.without("web"), s.state(t).unnumbered().without("web"))
				verb("ADD").fine(t)
				verb("CHECK").fine(t)
				same(t, "ADD after them", whole, s.state(t).unnumbered())
				verb("DEL").fine(t)
				same(t, "DEL after them", none, s.state(t).unnumbered())
			}
			t.Logf("%d times an ADD and a DEL without its namespace: %d times ADD failed", rounds, failed)
		})
	}
}

// TestBlindDelWithinAdd holds up an ADD that has written its record, before it locks
// that and after, for such a DEL to come: before, the ADD must see that it was
// deleted; after, the DEL must wait.
func TestBlindDelWithinAdd(t *testing.T) {
	for name, tt := range map[string]struct {
		call  string
		n     int // the pod's lock comes first, and the node's
		fails bool
	}{
		"before it locks the record": {"renameat", 1, true},
		"with the record locked":     {"flock", 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, lab.Ens192())
			link := byLink["by the bridge"]
			s.app.call("ADD", link).fine(t) // what pods share stays
			before := s.state(t).unnumbered()
			held := make(chan outcome)
			go func() { held <- s.web.call("ADD", link).held(tt.call, tt.n, "delay_exit=10s").run(t) }()
			for written := false; !written; {
				select {
				case out := <-held:
					t.Fatalf("ADD ended before: %s%s", out.stdout, out.stderr)
				default:
				}
				err := s.Node.Run(func() error {
					found, err := filepath.Glob("/run/multihome/*/" + lab.NIC)
					written = len(found) == 2 // app's, and web's
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			s.web.call("DEL", link, keys{"prevResult": nil}).with("CNI_NETNS", "").fine(t)
			if add := <-held; add.state.Success() == tt.fails {
				t.Errorf("ADD: %v: %s%s", add.state, add.stdout, add.stderr)
			} else if tt.fails {
				same(t, "ADD that was deleted", before, s.state(t).unnumbered())
			}
			same(t, "DEL", before.without("web"), s.state(t).unnumbered().without("web"))
			s.web.call("ADD", link).fine(t)
			s.web.call("CHECK", link).fine(t)
			s.web.call("DEL", link).fine(t)
			same(t, "ADD and DEL", before, s.state(t).unnumbered())
		})
	}
}

// TestAddWithinBlindDel holds up such a DEL, which has found nothing, for an ADD to
// come: what that makes, and notes, is none of the DEL's.
func TestAddWithinBlindDel(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	link := byLink["by the bridge"]
	s.app.call("ADD", link).fine(t) // what pods share stays
	before := s.state(t).unnumbered()
	del := s.web.call("DEL", link, keys{"prevResult": nil}).with("CNI_NETNS", "").held("sendto", 1, "delay_enter=15s")
	for _, out := range allAtOnce(t, []call{del, s.web.call("ADD", link)}, 0, 5*time.Second) {
		if !out.state.Success() {
			t.Errorf("%v: %s%s", out.state, out.stdout, out.stderr)
		}
	}
	s.web.call("CHECK", link).fine(t)
	s.web.call("DEL", link).fine(t)
	same(t, "ADD and DEL", before, s.state(t).unnumbered())
}
