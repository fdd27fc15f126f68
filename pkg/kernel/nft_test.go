// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestClosedLater removes a table, so that the socket's close is left to the
// kernel, and waits until that has done so: a socket holds its namespace.
func TestClosedLater(t *testing.T) {
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	k, err := kernel.Open(pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	mark := netstate.Mark{Dev: "veth0", Bits: 0x80}
	if err := k.Apply([]netstate.Op{{NS: netstate.Pod, After: mark}}); err != nil {
		t.Error(err)
	}
	if filterSockets(t, pod) == 0 {
		t.Error("no socket to nf_tables is seen while it is open")
	}
	if err := k.Remove([]netstate.Op{{NS: netstate.Pod, Before: mark}}); err != nil {
		t.Error(err)
	}
	k.Close()
	for range 12_000 {
		if filterSockets(t, pod) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the socket to nf_tables is still open")
}

// filterSockets counts a namespace's sockets of NETLINK_NETFILTER, but for the
// kernel's own.
func filterSockets(t *testing.T, n *testbed.Netns) (count int) {
	t.Helper()
	err := n.Do(func() error {
		list, err := os.ReadFile("/proc/thread-self/net/netlink")
		for line := range strings.Lines(string(list)) {
			f := strings.Fields(line)
			if f[1] == "12" && f[2] != "0" {
				count++
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return count
}
