// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

const conflist = `{"cniVersion": "1.1.0", "name": "lan", "plugins": [{"type": "macvlan"}]}`

// cache notes an attachment as libcni does (pkg libcni, cachedInfo).
func cache(t *testing.T, dir, id, ifname, netns string) {
	t.Helper()
	text := fmt.Sprintf(`{"kind": "cniCacheV1", "containerId": %q, "config": %q, "ifName": %q, "networkName": "lan", "netns": %q,
		"cniArgs": [["K8S_POD_NAMESPACE", "default"], ["K8S_POD_NAME", "web"]],
		"result": {"cniVersion": "1.1.0", "ips": [{"address": "10.6.0.5/16"}]}}`, id, base64.StdEncoding.EncodeToString([]byte(conflist)), ifname, netns)
	results := filepath.Join(dir, "results")
	if err := os.MkdirAll(results, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(results, "lan-"+id+"-"+ifname), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFind(t *testing.T) {
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	name := "inspect-" + strconv.Itoa(os.Getpid())
	if out, err := exec.Command("ip", "netns", "attach", name, strconv.Itoa(process(t, pod))).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	defer func() { _ = exec.Command("ip", "netns", "delete", name).Run() }()
	dir := t.TempDir()
	cache(t, dir, "abc1", "net1", pod.Path())
	cache(t, dir, "abc1", "eth0", pod.Path())
	cache(t, dir, "abd2", "eth0", "/nowhere")

	for _, what := range []string{"abc", "abc1", name, "/run/netns/" + name, pod.Path(), strconv.Itoa(process(t, pod))} {
		p, err := Find(what, []string{dir})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if p.ContainerID != "abc1" || p.Name != "default/web" || len(p.Attachments) != 2 || p.Attachments[0].IfName != "eth0" ||
			p.Attachments[1].Result == nil || p.Attachments[1].Result.IPs[0].Address.String() != "10.6.0.5/16" {
			t.Errorf("%s: %+v", what, p)
		}
	}
	for what, want := range map[string]string{
		"ab":       "it may be any of abc1, abd2",
		"x":        "no namespace, process or container",
		"":         "no namespace, process or container",
		"/nowhere": "no such file",
	} {
		if p, err := Find(what, []string{dir}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %s", what, p, err, want)
		}
	}
	if p, err := Find(pod.Path(), nil); err != nil || p.Netns != pod.Path() || p.ContainerID != "" {
		t.Errorf("what nobody noted: %+v, %v", p, err)
	}
}

// TestOlderCache reads what libcni before 1.2 writes, as podman 4.3 has it: without the
// namespace, which is in the result alone.
func TestOlderCache(t *testing.T) {
	const entry = `{"kind": "cniCacheV1", "containerId": "abc1", "ifName": "eth0", "networkName": "lan", %s
		"cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAME", "web"]],
		"result": {"cniVersion": "1.0.0", "interfaces": [{"name": "vethabc"}, {"name": "veth0", "sandbox": "/other"}, {"name": "eth0", "sandbox": "/run/netns/web"}]}}`
	for added, want := range map[string]string{"": "/run/netns/web", `"netns": "/newer",`: "/newer"} {
		dir := t.TempDir()
		results := ResultsOf(dir)
		if err := os.Mkdir(results, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(results, "lan-abc1-eth0"), fmt.Appendf(nil, entry, added), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Find("abc1", []string{dir})
		if err != nil || p.Netns != want || p.Name != "web" {
			t.Errorf("with %q: %+v, %v, want web in %s", added, p, err, want)
		}
	}
}

// TestMultus: a NIC that Multus had made is of the network whose plugins made it, whichever cache is read first.
func TestMultus(t *testing.T) {
	const entry = `{"kind": "cniCacheV1", "containerId": "abc1", "ifName": "eth0", "networkName": %q, "netns": "/run/netns/web", "config": %q,
		"result": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/web"}]}}`
	const lan = `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan"}, {"type": "coordinator"}]}`
	put := func(dir, network, config string) {
		t.Helper()
		if err := os.MkdirAll(ResultsOf(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(ResultsOf(dir), network+"-abc1-eth0"), fmt.Appendf(nil, entry, network, base64.StdEncoding.EncodeToString([]byte(config))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, config := range map[string]string{
		"a single plugin": `{"cniVersion": "1.0.0", "name": "node", "type": "multus"}`,
		"a list":          `{"cniVersion": "1.0.0", "name": "node", "plugins": [{"type": "multus"}, {"type": "portmap"}]}`,
		"a daemon":        `{"cniVersion": "1.0.0", "name": "node", "type": "multus-shim"}`,
	} {
		runtimes, multus := t.TempDir(), t.TempDir()
		put(runtimes, "node", config)
		for _, dirs := range [][]string{{runtimes}, {runtimes, multus}, {multus, runtimes}} {
			want := "node"
			if len(dirs) > 1 {
				put(multus, "lan", lan)
				want = "lan"
			}
			p, err := Find("abc1", dirs)
			if err != nil || len(p.Attachments) != 1 || p.Attachments[0].Network != want {
				t.Errorf("%s, %v: %+v, %v: want network %s", name, dirs, p.Attachments, err, want)
			}
		}
	}
}

// process starts a process in a namespace, and returns its ID.
func process(t *testing.T, n *testbed.Netns) int {
	t.Helper()
	c := exec.Command("sleep", "infinity")
	if err := n.Do(c.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c.Process.Pid
}

func TestRead(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	script := fmt.Sprintf(`ip link add uplink up type veth peer name wire
		ip link add vetha up type veth peer name eth0 netns %[1]d
		ip link add net1 link uplink netns %[1]d type macvlan mode bridge
		ip route add 10.9.0.0/16 dev vetha table 500
		ip neigh add 10.9.0.1 dev vetha lladdr 02:00:00:00:00:09 nud permanent
		ip neigh add 10.9.0.2 dev vetha nud stale lladdr 02:00:00:00:00:0a`, process(t, pod))
	if err := node.Do(func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}

	var got State
	if err := node.Do(func() (err error) {
		got, err = Pod{Name: "pod", Netns: pod.Path()}.Read()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	lines := strings.Join(got.Lines(), "\n") + "\n"
	for _, want := range []string{
		"host: route 10.9.0.0/16 dev vetha table 500",
		"host: neigh 10.9.0.1 dev vetha lladdr 02:00:00:00:00:09 nud permanent\n",
		"host: neigh 10.9.0.2 dev vetha lladdr 02:00:00:00:00:0a\n",
		"host: rule pref 32766 from all lookup main",
		"pod: -6 rule pref 32766 from all lookup main",
		"pod: link net1 ",
		"peer name eth0 netns pod",
		"peer name vetha netns host",
	} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %q in:\n%s", want, lines)
		}
	}
	if got.Parents["net1"] != "uplink" {
		t.Errorf("parents: %v", got.Parents)
	}

	if err := pod.Do(func() error {
		_, err := Pod{Name: "pod", Netns: pod.Path()}.Read()
		if err == nil || !strings.Contains(err.Error(), "the node's own") {
			t.Errorf("a pod of the host's network: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestReadTakesNoLock reads while a plugin holds the pod.
func TestReadTakesNoLock(t *testing.T) {
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	c := exec.Command("flock", pod.Path(), "sleep", "infinity")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	for exec.Command("flock", "-n", pod.Path(), "true").Run() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	state, err := Pod{Name: "pod", Netns: pod.Path()}.Read()
	if err != nil || len(netstate.All[netstate.Link](state.Snapshot, netstate.Pod)) == 0 {
		t.Errorf("%v, %v", state, err)
	}
}

// TestReadMarks reads reply marks as they should be by what leads to them, and then
// with a rule more.
func TestReadMarks(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	pod, err := testbed.NewNetns("pod")
	if err != nil {
		t.Fatal(err)
	}
	defer pod.Close()
	mac := netstate.MAC{2, 0, 0, 0, 0, 9}
	script := func(n *testbed.Netns, text string) {
		t.Helper()
		if err := n.Do(func() error {
			out, err := exec.Command("sh", "-ec", text).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	script(node, fmt.Sprintf(`ip link add uplink up type veth peer name wire
		ip link add eth0 link uplink netns %d type macvlan mode bridge`, process(t, pod)))
	script(pod, fmt.Sprintf(`ip link set eth0 up
		ip addr add 10.9.0.5/16 dev eth0
		ip rule add pref 32763 fwmark 0x10/0x10 lookup 100 protocol 109
		ip route add default via 10.9.0.1 dev eth0 table 100 proto 109
		ip neigh add 10.9.0.1 dev eth0 lladdr %s nud permanent
		nft -f - <<END
%sEND`, mac, netstate.Mark{Dev: "eth0", From: mac, Bits: 0x10}.Ruleset()))
	script(node, fmt.Sprintf("nft -f - <<END\n%sEND", netstate.SourceCheck{}.Ruleset()))

	read := func() (found []string) {
		t.Helper()
		if err := node.Do(func() error {
			got, err := Pod{Name: "pod", Netns: pod.Path()}.Read()
			for _, m := range netstate.All[netstate.Mark](got.Snapshot, netstate.Pod) {
				found = append(found, m.String())
			}
			for _, c := range netstate.All[netstate.SourceCheck](got.Snapshot, netstate.Host) {
				found = append(found, c.String())
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	if got, want := read(), []string{"table inet multihome iifname eth0 from 02:00:00:00:00:09 mark 0x10", "table inet multihome-sources"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	script(pod, "nft add rule inet multihome output accept")
	script(node, "nft add rule inet multihome-sources prerouting accept")
	if got, want := read(), []string{`table inet multihome damaged "chain output"`, `table inet multihome-sources damaged "chain prerouting"`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	script(pod, "nft delete table inet multihome")
	script(node, "nft delete table inet multihome-sources")
	if got := read(); len(got) > 0 {
		t.Errorf("got %q, want none", got)
	}
}
