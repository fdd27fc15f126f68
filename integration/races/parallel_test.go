// SPDX-License-Identifier: Apache-2.0

package races

import (
	"fmt"
	"sync"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestManyPodsAtOnce adds 50 pods at once with the whole chain, and deletes them at
// once.
func TestManyPodsAtOnce(t *testing.T) {
	l := fixture.NewLab(t, lab.Ens192())
	network := fixture.NewNetwork(t, l, fixture.Chained)
	first, err := l.NewPod("first") // so that the rule that all pods share exists before
	if err != nil {
		t.Fatal(err)
	}
	if err := network.Add(t.Context(), first, lab.NIC); err != nil {
		t.Fatal(err)
	}
	pods := make([]*lab.Pod, 50)
	for i := range pods {
		if pods[i], err = l.NewPod(fmt.Sprintf("pod%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	before := fixture.StateOf(t, l)
	each := func(what string, f func(*lab.Pod) error) {
		t.Helper()
		if err := fixture.AtOnce(pods, f); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	each("ADD", func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) })
	for _, p := range pods {
		server, err := p.Serve(8080, fixture.Nothing)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if n := len(p.Addrs(lab.NIC)); n != 2 {
			t.Errorf("%s has %d addresses, want 2", p.Name(), n)
		}
		for _, addr := range p.Addrs(lab.NIC) {
			fixture.Reached(t, l, p, addr)
		}
	}
	each("CHECK", func(p *lab.Pod) error { return network.Check(t.Context(), p, lab.NIC) })
	each("DEL", func(p *lab.Pod) error { return network.Del(t.Context(), p, lab.NIC) })
	fixture.Same(t, "50 pods added and deleted", before.Unnumbered(), fixture.StateOf(t, l).Unnumbered())
}

// TestManyPodsOnANewNode does the same on a node without the rule that all pods share:
// every ADD tries to make it.
func TestManyPodsOnANewNode(t *testing.T) {
	l := fixture.NewLab(t, lab.Ens192())
	network := fixture.NewNetwork(t, l, fixture.Chained)
	pods := make([]*lab.Pod, 10)
	for i := range pods {
		var err error
		if pods[i], err = l.NewPod(fmt.Sprintf("pod%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := fixture.AtOnce(pods, func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) }); err != nil {
		t.Fatal(err)
	}
	if err := fixture.AtOnce(pods, func(p *lab.Pod) error { return network.Check(t.Context(), p, lab.NIC) }); err != nil {
		t.Error(err)
	}
	for _, family := range []string{"-4", "-6"} {
		if rules := fixture.Sh(t, l.Node.Netns, "ip "+family+" rule | grep -c ^1000: || true"); rules != "1\n" {
			t.Errorf("ip %s rule has %s rules of priority 1000, want 1", family, rules)
		}
	}
}

// TestAddOfOnePodAtOnce calls ADD twice at once for the same attachment, and expects
// the same result twice.
func TestAddOfOnePodAtOnce(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	outs := make([]fixture.Outcome, 8)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() { outs[i] = s.WebNIC.Call("ADD").Run(t) })
	}
	wg.Wait()
	for _, out := range outs {
		if !out.State.Success() || out.Stdout != outs[0].Stdout {
			t.Errorf("ADD at once: %v: %s%s, want the same as %s", out.State, out.Stdout, out.Stderr, outs[0].Stdout)
		}
	}
	s.WebNIC.Check(t)
	once := s.State(t)
	s.WebNIC.Add(t)
	s.AppNIC.Add(t)
	fixture.Holds(t, s.Scene)
	s.AppNIC.Del(t)
	fixture.Same(t, "ADD again, after ADDs at once", once.Unnumbered(), s.State(t).Unnumbered())
}
