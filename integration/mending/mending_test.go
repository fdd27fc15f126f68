// SPDX-License-Identifier: Apache-2.0

package mending

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// back waits until every question has an answer again, and returns how long that took.
func back(t *testing.T, checks []lab.Check) time.Duration {
	t.Helper()
	begin := time.Now()
	var wg sync.WaitGroup
	for some := range slices.Chunk(checks, max(1, len(checks)/8)) { // more at once would slow down what is measured
		wg.Go(func() {
			for _, c := range some {
				tries := 0
				for tries < 1200 && ask(c) != nil {
					tries++
				}
				if tries == 1200 {
					t.Errorf("%s: it doesn't come back", c.Name)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begin)
}

// ask connects as a check does, and waits for a tenth of a second.
func ask(c lab.Check) error {
	err := c.From.Do(func() error {
		d := net.Dialer{Timeout: 100 * time.Millisecond}
		if c.Source.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(c.Source, 0))
		}
		conn, err := d.Dial("tcp", c.To.String())
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	if err != nil {
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// broken waits until a question gets no answer.
func broken(t *testing.T, checks []lab.Check) {
	t.Helper()
	for _, c := range checks {
		if ask(c) != nil {
			return
		}
	}
	t.Error("the control: the damage breaks no traffic")
}

// drifts reports whether there is something to repair on the node.
func drifts(t *testing.T, s *fixture.Site) bool {
	t.Helper()
	return s.Repair(t, "/etc/cni/net.d", "--dry-run") != "nothing to repair\n"
}

// damages are what happens on nodes, and whether traffic breaks.
var damages = map[string]struct {
	onNode, inPod string
	quiet         bool // it breaks no connection by itself
}{
	"ip rule flush on the node":     {onNode: "for v in -4 -6; do ip $v rule flush; done"},
	"ip rule flush in the pod":      {inPod: "for v in -4 -6; do ip $v rule flush; done"},
	"ip route flush table 500":      {onNode: "for v in -4 -6; do ip $v route flush table 500; done"},
	"nft flush ruleset in the pod":  {inPod: "nft flush ruleset"},
	"tables in the pod are flushed": {inPod: "for v in -4 -6; do for n in $(seq 99 110); do ip $v route flush table $n 2>/dev/null || true; done; done"},
	"neighbours of the veth are deleted": {
		onNode: `ip neigh show nud permanent | while read a _ d rest; do case $d in veth*) ip neigh del $a dev $d;; esac; done`,
		inPod:  `ip neigh show dev veth0 nud permanent | while read a rest; do ip neigh del $a dev veth0; done`,
		quiet:  true, // ARP may find them again
	},
	"what systemd-networkd does when it is reloaded": {onNode: `for v in -4 -6; do
		ip $v rule | grep -v 'lookup \(local\|main\|default\)' | while read p rest; do ip $v rule del pref ${p%:}; done
		ip $v route flush table 500; done`},
	"a service mesh takes the table of replies": {inPod: `n=$(ip rule | sed -n 's/^32763:.*lookup \([0-9]*\).*/\1/p')
		for v in -4 -6; do ip $v rule add fwmark 0x111/0xfff pref 32764 lookup $n; ip $v route del default table $n; ip $v route add local default dev lo table $n; done`},
	"routes to the node are deleted": {quiet: true, inPod: "for v in -4 -6; do ip $v route flush dev veth0 table main; done"}, // the LAN leads there, too
}

// TestMending damages what living pods rely on: traffic comes back by itself. Without a
// mender, which is the control, it doesn't.
func TestMending(t *testing.T) {
	for mode, chain := range map[string]string{"veth": fixture.Chained, "macvlan": strings.Replace(fixture.Chained, "{", `{"hostLink": "macvlan", `, 1)} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, fixture.TwoLANs["dual"], chain)
			checks := fixture.ByTCP(s.Checks())
			for i := range checks {
				if mode == "macvlan" { // every link to the node is the NIC
					checks[i].ReplyBy = strings.Replace(checks[i].ReplyBy, "veth0", lab.NIC, 1)
				}
			}
			s.Verify(t, checks...)
			m := start(t, s.Lab)
			for name, d := range damages {
				if mode == "macvlan" && strings.Contains(d.inPod, "veth0") {
					continue
				}
				m.signal(syscall.SIGSTOP)
				if d.onNode != "" {
					fixture.Sh(t, s.Node.Netns, d.onNode)
				}
				if d.inPod != "" {
					fixture.Sh(t, s.Web.Netns, d.inPod)
				}
				if !d.quiet {
					broken(t, checks)
				}
				m.signal(syscall.SIGCONT)
				t.Logf("%s: back after %v", name, back(t, checks).Round(10*time.Millisecond))
				m.eventually("a node without drift: "+name, func() bool { return !drifts(t, s) })
				s.Verify(t, checks...)
			}
			s.Check(t)
			s.Healthy(t, t.TempDir())
			for _, line := range append(m.said("failed"), m.said("fight")...) {
				t.Error(line)
			}
		})
	}
}

// TestLookups has connections to a pod begin while the node's routes to it are gone. The kernel
// looks for the pod in the LAN then, where it can't be reached from its node, and doesn't send
// the packet again as long as it looks: here for hours, with the default settings for three seconds. Mending ends that.
func TestLookups(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	m := start(t, s.Lab)
	fixture.Sh(t, s.Node.Netns, "for v in ipv4 ipv6; do for f in /proc/sys/net/$v/neigh/*/mcast_solicit; do echo 10000 >$f; done; done")
	var to []lab.Check
	for _, c := range fixture.ByTCP(s.Checks()) {
		if strings.HasPrefix(c.Name, "node to NIC") {
			to = append(to, c)
		}
	}
	if len(to) < 2 {
		t.Fatalf("%d requests of the node to the pod, want one of each family", len(to))
	}
	looksFor := func() string { return fixture.Sh(t, s.Node.Netns, "ip neigh show nud incomplete") }
	m.signal(syscall.SIGSTOP)
	fixture.Sh(t, s.Node.Netns, damages["ip route flush table 500"].onNode)
	ended := make(chan error, len(to))
	for _, c := range to {
		go func() {
			ended <- c.From.Do(func() error {
				conn, err := net.Dial("tcp", c.To.String())
				if err == nil {
					err = conn.Close()
				}
				return err
			})
		}()
		m.eventually("the node looks for "+c.To.String(), func() bool { return strings.Contains(looksFor(), c.To.Addr().String()+" ") })
	}
	time.Sleep(4 * time.Second)
	if n := len(ended); n > 0 {
		t.Errorf("the control: %d connections ended by themselves", n)
	}
	m.signal(syscall.SIGCONT)
	for range to {
		t.Log(<-ended) // by an answer, or by an error
	}
	if left := looksFor(); left != "" {
		t.Errorf("the node still looks for:\n%s", left)
	}
	back(t, to)
}

// TestNodeAddresses gives the node another address, and takes one away.
func TestNodeAddresses(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	s.Verify(t, fixture.ByTCP(s.Checks())...)
	m := start(t, s.Lab)
	to := netip.MustParseAddrPort(fmt.Sprint("10.6.168.125:", fixture.AppPort))
	additional := []lab.Check{{Name: "pod to the node's new address", From: s.Web.Netns, Source: s.Web.Addrs(lab.NIC)[0].Addr(), To: to}}
	fixture.Sh(t, s.Node.Netns, "ip addr add 10.6.168.125/16 dev ens192")
	t.Logf("an address added: reached after %v", back(t, additional).Round(10*time.Millisecond))
	m.eventually("a route to it", func() bool {
		return strings.Contains(fixture.Sh(t, s.Web.Netns, "ip route show table main"), "10.6.168.125 dev veth0")
	})
	fixture.Sh(t, s.Node.Netns, "ip addr del 10.6.168.125/16 dev ens192")
	m.eventually("no route to what is gone", func() bool {
		return !strings.Contains(fixture.Sh(t, s.Web.Netns, "ip route show table all"), "10.6.168.125")
	})
	fixture.Sh(t, s.Node.Netns, "ip addr flush dev ens192 scope global")
	lan := s.LANs[0]
	lan.Node = fixture.PrefixesOf("10.6.168.124/16", "fd00:6::124/64")
	if err := s.Node.AddAddrs(lan.NIC, lan.Node...); err != nil {
		t.Fatal(err)
	}
	for _, r := range lan.Router {
		fixture.Sh(t, s.Node.Netns, fmt.Sprintf("ip %s route replace default via %s dev %s", fixture.IPFamily(r.Addr()), r.Addr(), lan.NIC))
	}
	s.SetServices(t)
	t.Logf("all addresses are others: back after %v", back(t, fixture.ByTCP(s.Checks())).Round(10*time.Millisecond))
	m.eventually("a node without drift", func() bool { return !drifts(t, s) })
	s.Verify(t, fixture.ByTCP(s.Checks())...)
	s.Healthy(t, t.TempDir())
}

// TestConfiguration changes a network's configuration on the node.
func TestConfiguration(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["v4"], fixture.Chained)
	fixture.OwnEtcCNI(t, s.Lab)
	s.OnNode(t, "mkdir -p /etc/cni/net.d")
	m := start(t, s.Lab)
	other := strings.Replace(fixture.Chained, "10.96.0.0/12", "10.112.0.0/12", 1)
	for i, lan := range s.LANs {
		file := filepath.Join("/etc/cni/net.d", lan.NIC+".conflist")
		if err := s.Node.Run(func() error { return os.WriteFile(file, []byte(lan.Conflist(other)), 0o644) }); err != nil {
			t.Fatal(err)
		}
		s.NICs[i].Network = s.NetworkIn(t, i, other)
	}
	app := s.App.Addrs(lab.NIC)[0].Addr()
	service := netip.MustParseAddrPort("10.112.0.10:80")
	if err := s.Node.SetServices(testbed.Service{ClusterIP: service, Endpoint: netip.AddrPortFrom(app, fixture.AppPort)}); err != nil {
		t.Fatal(err)
	}
	t.Logf("another service CIDR: reached after %v", back(t, []lab.Check{{Name: "service", From: s.Web.Netns, Source: s.Web.Addrs(lab.NIC)[0].Addr(), To: service}}).Round(10*time.Millisecond))
	m.eventually("a node without drift", func() bool { return !drifts(t, s) })
	s.Check(t)
}

// TestFight has a program that deletes our rule as soon as it is there. What else is broken
// meanwhile is mended.
func TestFight(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	m := start(t, s.Lab)
	ctx, cancel := context.WithCancel(t.Context())
	var deleted int
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			deleted += strings.Count(fixture.Sh(t, s.Node.Netns, "ip rule del pref 1000 2>/dev/null && echo deleted || true"), "deleted")
			time.Sleep(10 * time.Millisecond)
		}
	})
	m.eventually("the word of a fight", func() bool { return len(m.said("fight")) > 0 })
	fixture.Sh(t, s.Web.Netns, "ip rule del pref 32763")
	m.eventually("the pod's rule", func() bool { return strings.Contains(fixture.Sh(t, s.Web.Netns, "ip rule"), "32763:") })
	time.Sleep(3 * time.Second)
	cancel()
	wg.Wait()
	if got := m.said("fight"); len(got) != 1 || !strings.Contains(got[0], "host: rule pref 1000 from all lookup 500") {
		t.Errorf("it says %q", got)
	}
	if deleted > 11 { // the first one, and those that were mended
		t.Errorf("the rule came back %d times", deleted)
	}
}

// TestOff switches mending off and on.
func TestOff(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["v4"], fixture.Chained)
	fixture.OwnEtcCNI(t, s.Lab)
	s.OnNode(t, `mkdir -p /etc/cni/multihome; echo '{"mend": false}' >/etc/cni/multihome/coordinator.json`)
	m := launch(t, s.Lab)
	fixture.Sh(t, s.Web.Netns, "ip rule del pref 32763")
	time.Sleep(3 * time.Second)
	if got := m.said("did"); len(got) > 0 {
		t.Errorf("it is switched off, and did %q", got)
	}
	s.OnNode(t, `echo '{"mend": true}' >/etc/cni/multihome/.new; mv /etc/cni/multihome/.new /etc/cni/multihome/coordinator.json`)
	m.eventually("the rule", func() bool { return strings.Contains(fixture.Sh(t, s.Web.Netns, "ip rule"), "32763:") })
	s.OnNode(t, `echo 'x' >/etc/cni/multihome/coordinator.json`)
	m.eventually("a word of the damaged file", func() bool { return len(m.said("failed")) > 0 })
}

// TestContainer has /proc/sys read-only, as in a container: settings are mended, too.
func TestContainer(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["v4"], fixture.Chained)
	m := launch(t, s.Lab, "unshare", "-m", "sh", "-ec", `mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys
		if echo 0 2>/dev/null >/proc/sys/net/ipv4/ip_forward; then exit 1; fi; exec "$0"`)
	m.eventually("a look at all pods", func() bool { return len(m.said("behind 0")) > 0 })
	fixture.Sh(t, s.Web.Netns, "sysctl -qw net.ipv4.conf.veth0.rp_filter=1; ip rule del pref 32763")
	m.eventually("the setting", func() bool {
		return strings.TrimSpace(fixture.Sh(t, s.Web.Netns, "sysctl -n net.ipv4.conf.veth0.rp_filter")) == "0"
	})
	for _, line := range m.said("failed") {
		t.Error(line)
	}
}

// TestDEL removes pods while they are mended: nothing of them is made again.
func TestDEL(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	var pods []*lab.Pod
	for i := range 8 {
		pods = append(pods, s.AddPod(t, fmt.Sprint("guest", i)))
	}
	before := fixture.StateOf(t, s.Lab).Unnumbered()
	m := start(t, s.Lab)
	networks := []*lab.Network{s.NetworkIn(t, 0, fixture.Chained), s.NetworkIn(t, 1, fixture.Chained)}
	for k, pod := range pods {
		for i, n := range networks {
			if err := n.Add(t.Context(), pod, fixture.NICName(i)); err != nil {
				t.Fatal(err)
			}
		}
		fixture.Sh(t, pod.Netns, "ip rule del pref 32763")
		time.Sleep(time.Duration(k) * 150 * time.Millisecond)
		for i := range networks {
			i = len(networks) - 1 - i
			if err := networks[i].Del(t.Context(), pod, fixture.NICName(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(m.said("did")) == 0 {
		t.Error("the control: it mended nothing meanwhile")
	}
	time.Sleep(2 * time.Second)
	fixture.Same(t, "pods came and went", before, fixture.StateOf(t, s.Lab).Unnumbered())
}

// TestHalfDEL runs coordinator's part of a DEL, and lets the rest of the chain wait: nothing is
// made again at once. When no plugin works on the pod for some time, it is.
func TestHalfDEL(t *testing.T) {
	t.Parallel()
	s := newSite(t, fixture.TwoLANs["dual"][:1], fixture.Chained)
	m := start(t, s.Lab)
	before := s.State(t).Unnumbered()
	half := s.Attached(lab.NIC).Call("DEL", fixture.Keys{"name": "macvlan-ens192"})
	looks := len(m.said("behind"))
	half.Fine(t)
	m.eventually("a look at it", func() bool { return len(m.said("behind")) > looks })
	time.Sleep(time.Second)
	if got := m.said("did"); len(got) > 0 {
		t.Errorf("in the middle of a DEL it does %q", got)
	}
	sleep := exec.Command("sleep", "1000") // as if a plugin of the chain took long
	sleep.Env = append(os.Environ(), "CNI_CONTAINERID="+s.Web.ContainerID)
	if err := s.Node.Run(sleep.Start); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second)
	if got := m.said("did"); len(got) > 0 {
		t.Errorf("while a plugin works on the pod it does %q", got)
	}
	_ = sleep.Process.Kill()
	_ = sleep.Wait() // it was killed
	m.eventually("a new link", func() bool { return len(m.said("did")) > 0 && !drifts(t, s) })
	fixture.Same(t, "made anew", before, s.State(t).Unnumbered())
}

var manyPods = flag.Int("pods", 20, "how many pods TestMany has")

// TestMany damages many pods at once, and says how long it took, and the processor time that
// an idle node and a flood of foreign routes take.
func TestMany(t *testing.T) {
	lans := fixture.TwoLANs["dual"][:1]
	lan := lans[0]
	lan.Pods = []lab.AddrRange{
		{First: netip.MustParseAddr("10.6.170.1"), Last: netip.MustParseAddr("10.6.180.250")},
		{First: netip.MustParseAddr("fd00:6::1:1"), Last: netip.MustParseAddr("fd00:6::1:1000")},
	}
	s := fixture.EmptySite(t, []lab.LAN{lan}, fixture.Chained)
	fixture.AgentReady(t, s.Lab)
	network := s.NetworkIn(t, 0, fixture.Chained)
	var checks []lab.Check
	for i := range *manyPods {
		pod := s.AddPod(t, fmt.Sprint("pod", i))
		if err := network.Add(t.Context(), pod, lab.NIC); err != nil {
			t.Fatal(err)
		}
		fixture.Serve(t, pod.Netns)
		for _, a := range pod.Addrs(lab.NIC) {
			checks = append(checks, lab.Check{Name: fmt.Sprint("node to pod ", i), From: s.Node.Netns, To: netip.AddrPortFrom(a.Addr(), fixture.AppPort)})
		}
	}
	back(t, checks)
	began := time.Now()
	m := start(t, s.Lab)
	t.Logf("the first look at %d pods: %v, %v of a processor", *manyPods, time.Since(began), m.processor())
	time.Sleep(2 * time.Second) // what the pods' first traffic changes
	before, begin := m.processor(), time.Now()
	time.Sleep(*idleFor)
	t.Logf("idle: %v of a processor in %v", m.processor()-before, time.Since(begin).Round(time.Millisecond))
	for name, script := range map[string]string{
		"rule and table 500":   "for v in -4 -6; do ip $v rule del pref 1000; ip $v route flush table 500; done",
		"neighbours":           `for v in -4 -6; do ip $v neigh show nud permanent | while read a _ d rest; do case $d in veth*) ip $v neigh del $a dev $d;; esac; done; done`,
		"the node's addresses": "ip addr add 10.6.168.125/16 dev ens192",
	} {
		before := m.processor()
		fixture.Sh(t, s.Node.Netns, script)
		t.Logf("%s of %d pods: back after %v", name, *manyPods, back(t, checks).Round(10*time.Millisecond))
		m.eventually("all looked at", func() bool { b := m.said("behind"); return b[len(b)-1] == "behind 0" })
		time.Sleep(2 * time.Second)
		t.Logf("it took %v of a processor", m.processor()-before)
	}
	before, begin = m.processor(), time.Now()
	fixture.Sh(t, s.Node.Netns, `for i in 1 2 3 4; do seq 0 24999 | awk '{printf "route add 172.%d.%d.%d/32 dev lo\n", 16+int($1/65536), int($1/256)%256, $1%256}' | ip -batch -; ip route flush root 172.16.0.0/12; done`)
	t.Logf("100,000 foreign routes coming and going: %v of a processor in %v", m.processor()-before, time.Since(begin).Round(time.Millisecond))
	for _, line := range append(m.said("failed"), m.said("fight")...) {
		t.Error(line)
	}
}

var idleFor = flag.Duration("idle", 2*time.Second, "how long TestMany is idle")
