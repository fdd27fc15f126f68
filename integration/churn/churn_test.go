// SPDX-License-Identifier: Apache-2.0

package churn

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

var churnTime = flag.Duration("churn", 15*time.Second, "how long TestChurn lasts")

const (
	churnPods    = 100
	churnWorkers = 16
)

// TestChurn lets pods come and go on one node: in the normal order, with their
// namespace deleted before DEL or during it, or without any DEL; with one NIC, or with
// two that are added at once; by veth and by the bridge. GC runs beside them, and
// links, addresses, routes and rules of others change all the time. Every added pod
// must be complete, and at the end the node is as it was.
func TestChurn(t *testing.T) {
	c := newChurn(t)
	before, goroutines := fixture.StateOf(t, c.Lab).Unnumbered(), runtime.NumGoroutine()
	others := fixture.StartOthers(t, c.Node.Netns)

	ctx, cancel := context.WithTimeout(t.Context(), *churnTime)
	defer cancel()
	var pods, gc sync.WaitGroup
	for slot := range churnPods {
		pods.Go(func() {
			addrs := c.freshAddrs()
			for ctx.Err() == nil && !t.Failed() {
				if forgotten := c.live(t, slot, addrs); forgotten {
					addrs = c.freshAddrs() // the others are free only after GC
				}
			}
		})
	}
	stopped := make(chan struct{})
	gc.Go(func() { c.collect(t, stopped) })
	pods.Wait()
	close(stopped)
	gc.Wait()
	changes, interrupted := others.Stop(t)

	c.gc(t, nil)
	c.emptied(t, before)
	// A goroutine still counts for a moment after the group it is of has stopped waiting.
	for range 1000 {
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, want %d:\n%s", n, goroutines, stacks[:runtime.Stack(stacks, true)])
	}
	if interrupted == 0 {
		t.Error("no dump was interrupted: there were too few changes by others")
	}
	t.Logf("%s: %d pods lived, at most %d at a time; %v; %d changes by others, and %d dumps interrupted by them; the longest GC took %s",
		*churnTime, c.lived, churnPods, c.verbs, changes, interrupted, c.longestGC.Round(time.Millisecond))
}

// churn holds the node and the pods of a test.
type churn struct {
	*lab.Lab
	work chan struct{} // has a place for each call that may run
	next atomic.Int32  // the number of the next address

	mu        sync.Mutex
	lives     [churnPods]int // the number of pods that each slot has had
	lived     int
	verbs     map[string]int // the number of calls of each verb
	longestGC time.Duration
}

// newChurn makes a node that has had a pod with the bridge, which stays.
func newChurn(t *testing.T) *churn {
	t.Helper()
	c := &churn{Lab: fixture.NewLab(t, lab.Ens192(), lab.Ens224()), work: make(chan struct{}, churnWorkers), verbs: map[string]int{}}
	if err := c.Node.Run(func() error { return os.Mkdir("/run/netns", 0o755) }); err != nil {
		t.Fatal(err)
	}
	g := c.newGuest(t, "first", c.freshAddrs(), fixture.ByLink["by the bridge"], 2)
	g.add(t)
	g.del(t)
	for _, a := range g.nics { // they would go with the namespace, some time later
		if err := g.DeleteLink(a.NIC); err != nil {
			t.Fatal(err)
		}
	}
	g.die(t)
	c.gc(t, nil)
	return c
}

// freshAddrs returns new addresses for a pod's two NICs.
func (c *churn) freshAddrs() (addrs [2][]netip.Prefix) {
	n := c.next.Add(1) + 1<<8
	for i, lan := range []int{6, 7} {
		addrs[i] = fixture.PrefixesOf(fmt.Sprintf("10.%d.%d.%d/16", lan, n>>8, n&255), fmt.Sprintf("fd00:%d::1:%x/64", lan, n))
	}
	return addrs
}

// id returns the container ID of the pod in a slot.
func id(slot, life int) string { return fmt.Sprintf("churn-%d-%d", slot, life) }

// live runs the life of one pod, from its namespace to its end. It reports whether
// there was no DEL.
func (c *churn) live(t *testing.T, slot int, addrs [2][]netip.Prefix) (forgotten bool) {
	c.mu.Lock()
	c.lives[slot]++
	life := c.lives[slot]
	c.lived++
	c.mu.Unlock()

	var over fixture.Keys
	if rand.IntN(3) == 0 {
		over = fixture.ByLink["by the bridge"]
	}
	var g *guest
	c.at(func() { g = c.newGuest(t, id(slot, life), addrs, over, 1+rand.IntN(2)) })
	if g == nil {
		return false
	}
	c.at(func() { g.add(t) })
	c.at(func() { g.check(t) })
	end := rand.IntN(4)
	c.at(func() {
		var wg sync.WaitGroup
		switch end {
		case 0:
			g.del(t)
			g.die(t)
		case 1:
			wg.Go(func() { g.die(t) })
			g.del(t)
		case 2:
			g.die(t)
			g.delBlindly(t)
		case 3:
			g.die(t)
		}
		wg.Wait()
	})
	return end == 3
}

// at calls f when one of the workers is free.
func (c *churn) at(f func()) {
	c.work <- struct{}{}
	defer func() { <-c.work }()
	f()
}

// collect calls GC again and again, with all attachments that live or are about to.
func (c *churn) collect(t *testing.T, stop chan struct{}) {
	for !t.Failed() {
		select {
		case <-stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		valid := []types.GCAttachment{}
		c.mu.Lock()
		for slot, life := range c.lives {
			const soon = 10 // pods live longer than a tenth of a GC
			for l := range soon {
				for _, nic := range []string{"eth0", "net1"} {
					valid = append(valid, types.GCAttachment{ContainerID: id(slot, life+l), IfName: nic})
				}
			}
		}
		c.mu.Unlock()
		c.gc(t, valid)
	}
}

func (c *churn) gc(t *testing.T, valid []types.GCAttachment) {
	start := time.Now()
	a := &fixture.Attachment{Node: c.Lab}
	gc := fixture.Call{On: c.Lab, Verb: "GC", Stdin: a.Config(fixture.Keys{"prevResult": nil, "cni.dev/valid-attachments": valid})}
	if valid == nil {
		gc.Stdin = a.Config(fixture.Keys{"prevResult": nil}, fixture.Keys{"cni.dev/valid-attachments": []types.GCAttachment{}})
	}
	c.run(t, gc, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.longestGC = max(c.longestGC, time.Since(start))
}

// run runs a call, which must succeed, or fail as may allows.
func (c *churn) run(t *testing.T, call fixture.Call, may func(*types.Error) bool) (ok bool) {
	out, err := call.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Errorf("%s: %v", call.Verb, err)
		return false
	}
	c.mu.Lock()
	c.verbs[call.Verb]++
	c.mu.Unlock()
	if out.State.Success() && out.Stderr == "" {
		return true
	}
	if e, err := out.AsError(); err != nil || may == nil || !may(e) {
		t.Errorf("%s %v: %v: %s%s", call.Verb, call.Env, out.State, out.Stdout, out.Stderr)
	}
	return false
}

// emptied waits until the node is as it was, because objects of a deleted namespace go
// some time later. By then no process and no lock may be left.
func (c *churn) emptied(t *testing.T, before fixture.State) {
	t.Helper()
	for range 2400 {
		if slices.Equal(before, fixture.StateOf(t, c.Lab).Unnumbered()) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	fixture.Same(t, "all pods are gone", before, fixture.StateOf(t, c.Lab).Unnumbered())
	err := c.Node.Run(func() error {
		files, err := filepath.Glob("/run/multihome/.locks/*")
		for _, path := range append(files, "/proc/thread-self/ns/net") {
			err = errors.Join(err, unlocked(path))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	const mounts = "ns/mnt" // a node has its own mount namespace, and all of its processes are in it
	var ours string
	if err := c.Node.Run(func() (err error) { ours, err = os.Readlink("/proc/thread-self/" + mounts); return err }); err != nil {
		t.Fatal(err)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprintf("/proc/%d", os.Getpid()) // its first thread may have entered the node
	for _, p := range processes {
		if p == own {
			continue
		}
		if in, err := os.Readlink(filepath.Join(p, mounts)); err == nil && in == ours {
			exe, _ := os.Readlink(filepath.Join(p, "exe"))
			t.Errorf("%s still runs: %s", p, exe)
		}
	}
}

// unlocked returns an error if a process has locked the file.
func unlocked(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("lock on %s: %w", path, err)
	}
	return nil
}

// guest is a pod in the churn, whose namespace has a path like those that runtimes
// make.
type guest struct {
	*lab.Pod
	on   *churn
	path string
	nics []*fixture.Attachment
	over fixture.Keys
}

// newGuest makes a pod with NICs as macvlan leaves them.
func (c *churn) newGuest(t *testing.T, id string, addrs [2][]netip.Prefix, over fixture.Keys, nics int) *guest {
	t.Helper()
	n, err := testbed.NewNetns(id)
	if err != nil {
		t.Error(err)
		return nil
	}
	g := &guest{on: c, Pod: &lab.Pod{Netns: n, ContainerID: id}, path: "/run/netns/" + id, over: over}
	err = c.Node.Run(func() error {
		if err := os.WriteFile(g.path, nil, 0o600); err != nil {
			return err
		}
		return unix.Mount(n.Path(), g.path, "", unix.MS_BIND, "")
	})
	for i := range nics {
		prev, e := g.plug(c.LANs[i], fixture.NICName(i), addrs[i])
		g.nics = append(g.nics, &fixture.Attachment{Pod: g.Pod, NIC: fixture.NICName(i), Node: c.Lab, Prev: prev})
		err = errors.Join(err, e)
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	return g
}

// plug gives the pod a NIC, and returns the result that macvlan would return.
func (g *guest) plug(lan *lab.LAN, nic string, addrs []netip.Prefix) (*types100.Result, error) {
	if err := g.on.Node.AddMacvlan(lan.NIC, g.Netns, nic); err != nil {
		return nil, err
	}
	if err := g.AddAddrs(nic, addrs...); err != nil {
		return nil, err
	}
	mac, err := g.MAC(nic)
	if err != nil {
		return nil, err
	}
	r := &types100.Result{CNIVersion: "1.1.0", Interfaces: []*types100.Interface{{Name: nic, Mac: mac.String(), Sandbox: g.path}}}
	for i, a := range addrs {
		router := lan.Router[i].Addr()
		if nic == lab.NIC {
			everywhere := netip.PrefixFrom(a.Addr(), 0).Masked()
			if err := g.AddRoutes(testbed.Route{Dst: everywhere, Via: router, Dev: nic}); err != nil {
				return nil, err
			}
			r.Routes = append(r.Routes, &types.Route{Dst: net.IPNet{IP: everywhere.Addr().AsSlice(), Mask: net.CIDRMask(0, a.Addr().BitLen())}})
		}
		r.IPs = append(r.IPs, &types100.IPConfig{
			Interface: types100.Int(0), Gateway: router.AsSlice(),
			Address: net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())},
		})
	}
	return r, nil
}

func (g *guest) call(a *fixture.Attachment, verb string) fixture.Call {
	return a.Call(verb, g.over).With("CNI_NETNS", g.path)
}

// add adds all NICs at once, and repeats the ADDs that came before the first NIC's.
func (g *guest) add(t *testing.T) {
	early := func(e *types.Error) bool { return strings.Contains(e.Msg, lab.NIC) }
	first, further := g.nics[0], g.nics[1:]
	added := make([]bool, len(further))
	var wg sync.WaitGroup
	for i, a := range further {
		wg.Go(func() { added[i] = g.on.run(t, g.call(a, "ADD"), early) })
	}
	g.on.run(t, g.call(first, "ADD"), nil)
	wg.Wait()
	for i, a := range further {
		if !added[i] {
			g.on.run(t, g.call(a, "ADD"), nil)
		}
	}
}

func (g *guest) check(t *testing.T) {
	for _, a := range g.nics {
		g.on.run(t, g.call(a, "CHECK"), nil)
	}
}

func (g *guest) del(t *testing.T) {
	for _, a := range slices.Backward(g.nics) {
		g.on.run(t, g.call(a, "DEL"), nil)
	}
}

// delBlindly calls DEL like a runtime that has lost the namespace and the results.
func (g *guest) delBlindly(t *testing.T) {
	for _, a := range slices.Backward(g.nics) {
		g.on.run(t, a.Call("DEL", g.over, fixture.Keys{"prevResult": nil}).With("CNI_NETNS", ""), nil)
	}
}

// die deletes the namespace, as a runtime does.
func (g *guest) die(t *testing.T) {
	err := g.on.Node.Run(func() error {
		return errors.Join(unix.Unmount(g.path, unix.MNT_DETACH), os.Remove(g.path))
	})
	if err := errors.Join(err, g.Close()); err != nil {
		t.Error(err)
	}
}
