// SPDX-License-Identifier: Apache-2.0

package races

import (
	"flag"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

var rounds = flag.Int("rounds", 6, "how many rounds each test of races has")

// TestNICsAtOnce adds NICs of one pod at the same time. If a further NIC's ADD comes
// before the first NIC's, it fails with the reason and changes nothing, and may be
// repeated. At the end everything is as after ADDs one after the other.
func TestNICsAtOnce(t *testing.T) {
	for name, tt := range map[string]struct{ before, atOnce []string }{
		"the first and another": {nil, []string{"eth0", "net1"}},
		"three others":          {[]string{"eth0"}, []string{"net1", "net2", "net3"}},
		"all":                   {nil, []string{"eth0", "net1", "net2", "net3"}},
	} {
		for way, link := range fixture.ByLink {
			t.Run(name+", "+way, func(t *testing.T) {
				t.Parallel()
				s := fixture.NewSite(t, append(fixture.ThreeLANs(), fixture.OtherLAN(9))[:len(tt.before)+len(tt.atOnce)])
				order := slices.Concat(tt.before, tt.atOnce)
				s.InTurn(t, order, link)
				s.OutInTurn(t, order, link)
				gone, early := s.State(t), 0
				for range *rounds {
					s.InTurn(t, tt.before, link)
					early += s.Together(t, tt.atOnce, link)
					atOnce := s.State(t)
					for _, nic := range order {
						s.Attached(nic).Call("CHECK", link).Fine(t)
					}
					order := s.ByTable(t, order)
					s.OutInTurn(t, order, link)
					fixture.Same(t, "DEL of all", gone.Unnumbered(), s.State(t).Unnumbered())
					s.InTurn(t, order, link)
					fixture.Same(t, "ADD at once, against ADD in turn", s.State(t).Unnumbered(), atOnce.Unnumbered())
					s.OutInTurn(t, order, link)
				}
				t.Logf("%d times %d ADDs at once, of which %d came before the first NIC's", *rounds, len(tt.atOnce), early)
			})
		}
	}
}

// attachments are the subjects of racing ADDs and DELs: NICs of one pod, and their
// plugins.
var attachments = map[string]struct {
	nic  string
	call func(a *fixture.Attachment, verb string, over ...fixture.Keys) fixture.Call
}{
	"first NIC by veth":         {"eth0", (*fixture.Attachment).Call},
	"first NIC by the bridge":   {"eth0", addedByBridge},
	"further NIC by veth":       {"net1", (*fixture.Attachment).Call},
	"further NIC by the bridge": {"net1", addedByBridge},
	"route with a bridge":       {"eth0", (*fixture.Attachment).Route},
	"route with sbr": {"net1", func(a *fixture.Attachment, verb string, over ...fixture.Keys) fixture.Call {
		return a.Route(verb, append([]fixture.Keys{{"master": nil, "bridge": nil, "sbr": true}}, over...)...)
	}},
}

func addedByBridge(a *fixture.Attachment, verb string, over ...fixture.Keys) fixture.Call {
	return a.Call(verb, append([]fixture.Keys{fixture.ByLink["by the bridge"]}, over...)...)
}

// TestAddAndDelAtOnce runs two ADDs and two DELs of one attachment at the same time:
// each does all of its work or waits, and the result is all or nothing.
func TestAddAndDelAtOnce(t *testing.T) {
	for name, tt := range attachments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, fixture.TwoLANs["dual"])
			if tt.nic != lab.NIC {
				tt.call(s.Attached(lab.NIC), "ADD").Fine(t)
			}
			verb := func(verb string) fixture.Call { return tt.call(s.Attached(tt.nic), verb) }
			verb("ADD").Fine(t)
			verb("DEL").Fine(t)
			none := s.State(t).Unnumbered()
			verb("ADD").Fine(t)
			whole := s.State(t).Unnumbered()
			verb("DEL").Fine(t)
			fixture.Same(t, "DEL", none, s.State(t).Unnumbered())

			added := 0
			for i := range *rounds {
				calls := []fixture.Call{verb("ADD"), verb("DEL"), verb("ADD"), verb("DEL")}
				pause := time.Duration(i%8) * time.Millisecond
				for k, out := range fixture.AllAtOnce(t, calls, 0, pause, 2*pause, pause/2) {
					if !out.State.Success() {
						t.Errorf("%s at once: %s%s", calls[k].Verb, out.Stdout, out.Stderr)
					}
				}
				want := none
				now := s.State(t).Unnumbered()
				if !slices.Equal(now, none) {
					want = whole
					added++
				}
				fixture.Same(t, "ADD and DEL at once", want, now)
				if i%2 == 0 {
					verb("DEL").Fine(t)
					fixture.Same(t, "DEL after them", none, s.State(t).Unnumbered())
					continue
				}
				verb("ADD").Fine(t)
				verb("CHECK").Fine(t)
				fixture.Same(t, "ADD after them", whole, s.State(t).Unnumbered())
			}
			t.Logf("%d times two ADDs and two DELs at once: %d times an ADD was the last", *rounds, added)
		})
	}
}

// TestBlindDelsAtOnce deletes both NICs of a pod at the same time, without its
// namespace: the node keeps nothing of it.
func TestBlindDelsAtOnce(t *testing.T) {
	for way, link := range fixture.ByLink {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, fixture.TwoLANs["dual"])
			nics := []string{"eth0", "net1"}
			s.InTurn(t, nics, link)
			s.OutInTurn(t, nics, link)
			before := s.State(t).Without("web").Unnumbered()
			for range *rounds {
				s.InTurn(t, nics, link)
				var calls []fixture.Call
				for _, nic := range nics {
					calls = append(calls, s.Attached(nic).Call("DEL", link, fixture.Keys{"prevResult": nil}).With("CNI_NETNS", ""))
				}
				for i, out := range fixture.AllAtOnce(t, calls) {
					if !out.State.Success() {
						t.Errorf("DEL of %s: %s%s", nics[i], out.Stdout, out.Stderr)
					}
				}
				fixture.Same(t, "DEL of both", before, s.State(t).Without("web").Unnumbered())
				s.OutInTurn(t, nics, link) // the part in the pod
			}
		})
	}
}

// TestBlindDelBesideAdd runs a DEL without a namespace beside an ADD with one; the DEL
// can't lock the namespace that the ADD has locked. If the DEL removes its work, the
// ADD may fail, and then leaves nothing. Whatever the result, DEL and GC leave nothing
// of it on the node, and another ADD completes it.
func TestBlindDelBesideAdd(t *testing.T) {
	for name, tt := range attachments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewSite(t, fixture.TwoLANs["dual"])
			s.AddApp(t) // keeps what pods share
			living := []types.GCAttachment{{ContainerID: s.App.ContainerID, IfName: lab.NIC}}
			if tt.nic != lab.NIC {
				tt.call(s.Attached(lab.NIC), "ADD").Fine(t)
				living = append(living, types.GCAttachment{ContainerID: s.Web.ContainerID, IfName: lab.NIC})
			}
			verb := func(verb string, over ...fixture.Keys) fixture.Call {
				return tt.call(s.Attached(tt.nic), verb, over...)
			}
			verb("ADD").Fine(t)
			verb("DEL").Fine(t)
			none := s.State(t).Unnumbered()
			verb("ADD").Fine(t)
			whole := s.State(t).Unnumbered()
			verb("DEL").Fine(t)

			failed := 0
			for i := range *rounds {
				pause := time.Duration(i*12 / *rounds) * 500 * time.Microsecond
				outs := fixture.AllAtOnce(t, []fixture.Call{verb("ADD"), verb("DEL", fixture.Keys{"prevResult": nil}).With("CNI_NETNS", "")}, 0, pause)
				if del := outs[1]; !del.State.Success() || del.Stderr != "" {
					t.Errorf("DEL beside ADD: %s%s", del.Stdout, del.Stderr)
				}
				if add := outs[0]; !add.State.Success() {
					e, err := add.AsError()
					if err != nil {
						t.Fatal(err)
					}
					failed++
					fixture.Same(t, "ADD that failed: "+e.Msg, none, s.State(t).Unnumbered())
				}
				// Objects in the pod would go with it, and may need another ADD.
				last := verb("DEL")
				if i%2 == 0 {
					last = verb("GC", fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": living})
					last.Env = nil
				}
				last.Fine(t)
				fixture.Same(t, last.Verb+" after them", none.Without("web"), s.State(t).Unnumbered().Without("web"))
				verb("ADD").Fine(t)
				verb("CHECK").Fine(t)
				fixture.Same(t, "ADD after them", whole, s.State(t).Unnumbered())
				verb("DEL").Fine(t)
				fixture.Same(t, "DEL after them", none, s.State(t).Unnumbered())
			}
			t.Logf("%d times an ADD and a DEL without its namespace: %d times ADD failed", *rounds, failed)
		})
	}
}

// TestBlindDelWithinAdd stops an ADD that has written its record, before and after it
// locks the record, and runs such a DEL. Before, the ADD must notice that the DEL
// removed the record; after, the DEL must wait.
func TestBlindDelWithinAdd(t *testing.T) {
	for name, tt := range map[string]struct {
		call  string
		n     int // the pod's lock and the node's come before
		fails bool
	}{
		"before it locks the record": {"renameat", 1, true},
		"with the record locked":     {"flock", 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			link := fixture.ByLink["by the bridge"]
			s.AppNIC.Call("ADD", link).Fine(t) // keeps what pods share
			before := s.State(t).Unnumbered()
			held := make(chan fixture.Outcome)
			go func() { held <- s.WebNIC.Call("ADD", link).Held(tt.call, tt.n, "delay_exit=10s").Run(t) }()
			for written := false; !written; {
				select {
				case out := <-held:
					t.Fatalf("ADD ended before: %s%s", out.Stdout, out.Stderr)
				default:
				}
				err := s.Node.Run(func() error {
					found, err := filepath.Glob("/run/multihome/*/" + lab.NIC)
					written = len(found) == 2 // those of app and web
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			s.WebNIC.Call("DEL", link, fixture.Keys{"prevResult": nil}).With("CNI_NETNS", "").Fine(t)
			if add := <-held; add.State.Success() == tt.fails {
				t.Errorf("ADD: %v: %s%s", add.State, add.Stdout, add.Stderr)
			} else if tt.fails {
				fixture.Same(t, "ADD that was deleted", before, s.State(t).Unnumbered())
			}
			fixture.Same(t, "DEL", before.Without("web"), s.State(t).Unnumbered().Without("web"))
			s.WebNIC.Call("ADD", link).Fine(t)
			s.WebNIC.Call("CHECK", link).Fine(t)
			s.WebNIC.Call("DEL", link).Fine(t)
			fixture.Same(t, "ADD and DEL", before, s.State(t).Unnumbered())
		})
	}
}

// TestAddWithinBlindDel stops such a DEL after it has found nothing, and runs an ADD:
// the DEL must not remove what the ADD makes and records.
func TestAddWithinBlindDel(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	link := fixture.ByLink["by the bridge"]
	s.AppNIC.Call("ADD", link).Fine(t) // keeps what pods share
	before := s.State(t).Unnumbered()
	del := s.WebNIC.Call("DEL", link, fixture.Keys{"prevResult": nil}).With("CNI_NETNS", "").Held("sendto", 1, "delay_enter=15s")
	for _, out := range fixture.AllAtOnce(t, []fixture.Call{del, s.WebNIC.Call("ADD", link)}, 0, 5*time.Second) {
		if !out.State.Success() {
			t.Errorf("%v: %s%s", out.State, out.Stdout, out.Stderr)
		}
	}
	s.WebNIC.Call("CHECK", link).Fine(t)
	s.WebNIC.Call("DEL", link).Fine(t)
	fixture.Same(t, "ADD and DEL", before, s.State(t).Unnumbered())
}
