// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestLinksInThirdNamespace: a pod's NIC sits on a link of a third namespace, and its
// veth ends in one, with the ifindexes of links that the node has as well. Neither is
// the node's.
func TestLinksInThirdNamespace(t *testing.T) {
	var spaces []*testbed.Netns
	for _, name := range []string{"node", "third", "pod", "far"} {
		n, err := testbed.NewNetns(name)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		spaces = append(spaces, n)
	}
	node, third, pod, far := spaces[0], spaces[1], spaces[2], spaces[3]
	// The ends are made in pairs, so that each has the ifindex of its twin.
	for _, n := range []*testbed.Netns{node, third} {
		if err := testbed.ConnectVeth(n, "ens192", far, n.Name()); err != nil {
			t.Fatal(err)
		}
		if err := n.AddMacvlan("ens192", pod, "mv-"+n.Name()); err != nil {
			t.Fatal(err)
		}
		if err := testbed.ConnectVeth(n, "end", pod, "ve-"+n.Name()); err != nil {
			t.Fatal(err)
		}
	}
	err := node.Do(func() error {
		k, err := kernel.Open(pod.Path())
		if err != nil {
			return err
		}
		defer k.Close()
		snap := netstate.NewSnapshot()
		if err := k.ReadPod(snap); err != nil {
			return err
		}
		for nic, want := range map[string]string{"mv-node": "ens192", "mv-third": "", "ve-node": "", "ve-third": ""} {
			if parent, err := k.ReadParent(snap, nic); parent != want || err != nil {
				t.Errorf("%s sits on %q of the node (%v), want %q", nic, parent, err, want)
			}
		}
		for nic, want := range map[string]string{"ve-node": "end", "ve-third": "", "mv-node": "", "mv-third": ""} {
			if err := k.ReadPeer(snap, nic); err != nil {
				return err
			}
			l, _ := netstate.Get(snap, netstate.Pod, netstate.Link{Name: nic})
			if l.Peer.Name != want {
				t.Errorf("%s ends at %q of the node, want %q", nic, l.Peer.Name, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestOpenHostLetsGoOfItsThread where it fails: no file can be opened, or only one.
func TestOpenHostLetsGoOfItsThread(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(next)
	for room := range uint64(2) {
		lower := limit
		lower.Cur = uint64(next) + 1 + room
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lower); err != nil {
			t.Fatal(err)
		}
		k, err := kernel.OpenHost()
		if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); e != nil {
			t.Fatal(e)
		}
		if err == nil {
			k.Close()
			t.Errorf("with room for %d files it opens the node", room)
		}
		stack := make([]byte, 100)
		if header := string(stack[:runtime.Stack(stack, false)]); strings.Contains(header, "locked to thread") {
			t.Errorf("with room for %d files: %v; %s", room, err, header)
		}
	}
}
