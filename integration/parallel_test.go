// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/nettest"
)

var nothing nettest.Socket // that an application asks of its socket

// reached asks the server on port 8080 of a pod from the node.
func reached(t *testing.T, l *lab.Lab, pod *lab.Pod, addr netip.Prefix) {
	t.Helper()
	answer, err := l.Node.Ask("tcp", netip.AddrPortFrom(addr.Addr(), 8080), nothing)
	if err != nil {
		t.Error(err)
	} else if answer.Server != pod.Name() {
		t.Errorf("%s is answered by %s, want %s", addr, answer.Server, pod.Name())
	}
}

// TestManyPodsAtOnce adds 50 pods at once by the whole chain, and takes them
// away at once.
func TestManyPodsAtOnce(t *testing.T) {
	l := newLab(t, lab.Ens192())
	network := newNetwork(t, l, chained)
	first, err := l.NewPod("first") // so that the rule all pods share is there before
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
	before := stateOf(t, l)
	each := func(what string, f func(*lab.Pod) error) {
		t.Helper()
		if err := atOnce(pods, f); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	each("ADD", func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) })
	for _, p := range pods {
		server, err := p.Serve(8080, nothing)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if n := len(p.Addrs(lab.NIC)); n != 2 {
			t.Errorf("%s has %d addresses, want 2", p.Name(), n)
		}
		for _, addr := range p.Addrs(lab.NIC) {
			reached(t, l, p, addr)
		}
	}
	each("CHECK", func(p *lab.Pod) error { return network.Check(t.Context(), p, lab.NIC) })
	each("DEL", func(p *lab.Pod) error { return network.Del(t.Context(), p, lab.NIC) })
	same(t, "50 pods added and deleted", before.unnumbered(), stateOf(t, l).unnumbered())
}

// TestManyPodsOnANewNode is the same where the rule all pods share is not there
// yet, and everybody wants to make it.
func TestManyPodsOnANewNode(t *testing.T) {
	l := newLab(t, lab.Ens192())
	network := newNetwork(t, l, chained)
	pods := make([]*lab.Pod, 10)
	for i := range pods {
		var err error
		if pods[i], err = l.NewPod(fmt.Sprintf("pod%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := atOnce(pods, func(p *lab.Pod) error { return network.Add(t.Context(), p, lab.NIC) }); err != nil {
		t.Fatal(err)
	}
	if err := atOnce(pods, func(p *lab.Pod) error { return network.Check(t.Context(), p, lab.NIC) }); err != nil {
		t.Error(err)
	}
	for _, family := range []string{"-4", "-6"} {
		if rules := sh(t, l.Node.Netns, "ip "+family+" rule | grep -c ^1000: || true"); rules != "1\n" {
			t.Errorf("ip %s rule has %s rules of priority 1000, want 1", family, rules)
		}
	}
}

// TestAddOfOnePodAtOnce: a runtime that calls ADD twice at once for the same
// attachment gets the same result twice.
func TestAddOfOnePodAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, lab.Ens192())
	outs := make([]outcome, 8)
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() { outs[i] = s.web.call("ADD").run(t) })
	}
	wg.Wait()
	for _, out := range outs {
		if !out.state.Success() || out.stdout != outs[0].stdout {
			t.Errorf("ADD at once: %v: %s%s, want the same as %s", out.state, out.stdout, out.stderr, outs[0].stdout)
		}
	}
	s.web.check(t)
	once := s.state(t)
	s.web.add(t)
	s.app.add(t)
	holds(t, s.Scene)
	s.app.del(t)
	same(t, "ADD again, after ADDs at once", once.unnumbered(), s.state(t).unnumbered())
}

// atOnce does the same to all pods at the same time.
func atOnce(pods []*lab.Pod, f func(*lab.Pod) error) error {
	errs := make([]error, len(pods))
	var wg sync.WaitGroup
	for i, p := range pods {
		wg.Go(func() { errs[i] = f(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
