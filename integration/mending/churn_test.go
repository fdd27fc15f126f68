// SPDX-License-Identifier: Apache-2.0

package mending

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

var churnTime = flag.Duration("churn", 5*time.Second, "how long TestChurn lasts")

// TestChurn has pods that get NICs and lose them again, in all modes, while another program
// flushes what they rely on and the mender restores it, or is killed and started again. In the
// end pods are complete, and when they are gone nothing of them is left.
func TestChurn(t *testing.T) {
	s := newSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	chains := []string{
		fixture.Chained,
		strings.Replace(fixture.Chained, "{", `{"hostLink": "macvlan", `, 1),
		`{"type": "veth", "service_cidr": ["10.96.0.0/12", "fd00:10:96::/108"]}`,
	}
	var pods []*lab.Pod
	networks := map[*lab.Pod][]*lab.Network{}
	for i := range 6 {
		p := s.AddPod(t, fmt.Sprint("guest", i))
		pods = append(pods, p)
		chain := chains[i%len(chains)]
		networks[p] = []*lab.Network{s.NetworkIn(t, 0, chain), s.NetworkIn(t, 1, chain)}
	}
	add := func(p *lab.Pod) (err error) {
		for i, n := range networks[p] {
			if err = n.Add(t.Context(), p, fixture.NICName(i)); err != nil {
				break
			}
		}
		return err
	}
	del := func(p *lab.Pod) {
		for i, n := range slices.Backward(networks[p]) {
			if err := n.Del(t.Context(), p, fixture.NICName(i)); err != nil {
				t.Error(err)
			}
		}
	}
	if err := add(pods[1]); err != nil { // makes the node's macvlans, which stay
		t.Fatal(err)
	}
	del(pods[1])
	before := fixture.StateOf(t, s.Lab).Unnumbered()

	m := start(t, s.Lab)
	until := time.Now().Add(*churnTime)
	var wg sync.WaitGroup
	lives := make([]int, len(pods))
	for i, p := range pods {
		wg.Go(func() {
			for time.Now().Before(until) {
				if err := add(p); err != nil { // what it has just made was flushed
					t.Logf("ADD: %v", err)
				}
				time.Sleep(rand.N(500 * time.Millisecond))
				del(p)
				lives[i]++
			}
		})
	}
	done, restarts := 0, 0
	wg.Go(func() {
		for time.Now().Before(until) {
			time.Sleep(rand.N(200 * time.Millisecond))
			switch p := pods[rand.N(len(pods))]; rand.N(6) {
			case 0:
				fixture.Sh(t, s.Node.Netns, "ip rule del pref 1000 || true; ip -6 route flush table 500 || true")
			case 1:
				fixture.Sh(t, s.Node.Netns, "ip route flush table 500 || true")
			case 2:
				fixture.Sh(t, p.Netns, "nft flush ruleset")
			case 3:
				fixture.Sh(t, p.Netns, "ip rule del pref 32763 || true; ip route flush table 100 || true")
			case 4:
				fixture.Sh(t, p.Netns, "ip neigh flush all nud permanent || true")
			case 5:
				if rand.N(2) == 0 {
					done += len(m.said("did"))
					m.kill()
					m = launch(t, s.Lab)
					restarts++
				}
			}
		}
	})
	wg.Wait()
	done += len(m.said("did"))
	if done == 0 {
		t.Error("the control: nothing was mended")
	}
	for _, p := range pods {
		if err := add(p); err != nil {
			t.Error(err)
		}
	}
	m.kill()
	s.Repair(t, "/etc/cni/net.d") // what was fought about
	for _, p := range pods {
		for i, n := range networks[p] {
			if err := n.Check(t.Context(), p, fixture.NICName(i)); err != nil {
				t.Error(err)
			}
		}
	}
	m = start(t, s.Lab)
	for _, p := range pods {
		del(p)
	}
	time.Sleep(2 * time.Second)
	m.kill()
	fixture.Same(t, "all pods are gone", before, fixture.StateOf(t, s.Lab).Unnumbered())
	t.Logf("%v: %d lives, %d operations mended, the mender killed %d times", *churnTime, sum(lives), done, restarts)
}

func sum(numbers []int) (n int) {
	for _, x := range numbers {
		n += x
	}
	return n
}
