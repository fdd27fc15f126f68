// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// machines are the machines that cluster.sh makes, by their names; its drawing shows
// them.
var machines = map[string]*testbed.Netns{}

// root is the repository; cluster.sh keeps logs, process numbers and configurations in
// state.
var root, state = os.Getenv("E2E_ROOT"), os.Getenv("E2E_STATE")

// setUp opens the machines, and starts a server at port 8080 of each.
func setUp() error {
	for _, name := range []string{"router", "client", "neighbour", "node1", "node2"} {
		n, err := testbed.OpenNetns(name, "/run/netns/"+name)
		if err == nil {
			_, err = serve(n)
		}
		if err != nil {
			return fmt.Errorf("is this in a cluster of cluster.sh? %w", err)
		}
		machines[name] = n
	}
	return nil
}

// Addresses of each family, IPv4 first.
var (
	clientAddrs   = addrs("10.9.0.3", "fd00:9::3")
	serviceRanges = []string{"10.96.0.0/16", "fd00:10:96::/112"}
	overlayRanges = []string{"10.244.0.0/16", "fd00:10:244::/48"}
)

func addrs(some ...string) []netip.Addr {
	var list []netip.Addr
	for _, s := range some {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

// nodeAddrs returns a node's addresses, which are all on lan6.
func nodeAddrs(node string) []netip.Addr {
	n := strings.TrimPrefix(node, "node")
	return addrs("10.6.0.1"+n, "fd00:6::1"+n)
}

// neighbourAddrs returns the addresses of the neighbour in a LAN.
func neighbourAddrs(lan int) []netip.Addr {
	return lanAddrs(lan, 200)
}

// lanAddrs returns the addresses in a LAN that end in a number.
func lanAddrs(lan, last int) []netip.Addr {
	return addrs(fmt.Sprintf("10.%d.0.%d", lan, last), fmt.Sprintf("fd00:%d::%d", lan, last))
}

func otherNode(node string) string {
	if node == "node1" {
		return "node2"
	}
	return "node1"
}

// of returns the address in the list that has the family of another.
func of(family netip.Addr, list []netip.Addr) netip.Addr {
	for _, a := range list {
		if a.Is4() == family.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// run runs a command in a namespace and returns what it prints.
func run(t *testing.T, n *testbed.Netns, command ...string) string {
	t.Helper()
	var out []byte
	err := n.Do(func() (err error) {
		out, err = exec.Command(command[0], command[1:]...).CombinedOutput()
		return err
	})
	if err != nil {
		t.Fatalf("%s: %s: %v: %s", n.Name(), strings.Join(command, " "), err, out)
	}
	return string(out)
}

// wantIn fails the test if the text lacks one of the lines; the text's lines may be
// longer.
func wantIn(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

// fileOf returns the path of a node's file, as seen from outside.
func fileOf(t *testing.T, node, path string) string {
	t.Helper()
	return filepath.Join("/proc", pidOf(t, node), "root", path)
}

// pidOf returns a process in a node's namespaces.
func pidOf(t *testing.T, node string) string {
	t.Helper()
	pid, err := os.ReadFile(filepath.Join(state, node, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(pid))
}

// restart ends a daemon of a node, and waits until cluster.sh has started another one.
func restart(t *testing.T, node, daemon string) {
	t.Helper()
	before, err := daemonPID(node, daemon)
	if err == nil {
		err = syscall.Kill(before, syscall.SIGKILL)
	}
	if errors.Is(err, syscall.ESRCH) {
		err = nil // kube-proxy ends by itself when its configuration changes
	}
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, func() error {
		now, err := daemonPID(node, daemon)
		if err == nil && now == before {
			err = fmt.Errorf("%s of %s has not started again", daemon, node)
		}
		return err
	})
}

// daemonPID returns the process of a daemon of a node.
func daemonPID(node, daemon string) (int, error) {
	b, err := os.ReadFile(filepath.Join(state, node, daemon+".pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
