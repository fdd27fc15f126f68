// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/doctor"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/records"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/spool"
)

// ward is a node that doctor examines, with its own /etc, /opt and programs.
type ward struct {
	t    *testing.T
	node *lab.Lab
	dir  string
}

// stubs replace programs that change more than a network namespace: they do to the
// node's files and processes what the real programs do.
var stubs = map[string]string{
	"systemctl": `case $1 in
		disable) shift 2; for unit; do rm -f /etc/systemd/system/*.wants/$unit; done ;;
		restart|reload) ;;
		*) exit 1 ;;
	esac`,
	"cilium": `test "$1 $2" = "config set" && echo "$4" >$DIR/cilium/tmp/cilium/config-map/$3`,
	// It knows but the options that doctor names. Each of them is a rule of nft's after a reload.
	"firewall-cmd": `for last; do :; done
		case "$*" in
		"--permanent --zone=trusted --add-interface="*+) name=${last#*=}; echo "insert rule inet firewalld zones iifname \"${name%+}*\" accept" >>$DIR/zones; echo "insert rule inet firewalld policies oifname \"${name%+}*\" accept" >>$DIR/policies ;;
		"--permanent --new-policy=multihome" | "--permanent --policy=multihome --add-ingress-zone=ANY" | "--permanent --policy=multihome --add-egress-zone=trusted") ;;
		"--permanent --policy=multihome --set-target=ACCEPT") cat $DIR/policies >>$DIR/zones ;;
		--reload) nft -f $DIR/zones ;;
		*) exit 1 ;;
		esac`,
	"kube-proxy": `test "$1" = --cleanup && nft delete table ip kube-proxy`,
	"kubectl": `test "$1 $2 $3 $4 $5" = "-n kube-system set env daemonset/calico-node"
		kill $(cat $DIR/calico-node.pid)
		env "$6" $DIR/bin/calico-node wait >$DIR/log 2>&1 &
		echo $! >$DIR/calico-node.pid`,
}

func newWard(t *testing.T, l *lab.Lab) *ward {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "doctor-") // t.TempDir may be below /run, but the node has a /run of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	p := &ward{t, l, dir}
	for name, script := range stubs {
		p.write("bin/"+name, "#!/bin/sh -e\n"+script+"\n")
	}
	p.sh(`cd "$DIR"; chmod +x bin/*; mkdir -p opt/cni/bin cilium/tmp/cilium/config-map
		mkdir -p etc/cni/net.d etc/systemd/system etc/modules-load.d etc/sysctl.d etc/alternatives
		cp -P /etc/alternatives/*tables* etc/alternatives
		set --
		for f in iproute2 ld.so.cache ld.so.conf ld.so.conf.d nsswitch.conf passwd protocols; do test ! -e /etc/$f || set -- "$@" /etc/$f; done
		cp -a "$@" etc
		mount --bind etc /etc; mount --bind opt /opt`)
	t.Cleanup(func() { p.sh("umount /etc /opt") })
	return p
}

// write writes a file below the node's directory.
func (p *ward) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

func (p *ward) command(argv ...string) *exec.Cmd {
	c := exec.CommandContext(p.t.Context(), argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "PATH="+filepath.Join(p.dir, "bin")+":"+fixture.Plugins+":"+os.Getenv("PATH"), "DIR="+p.dir, "MULTIHOME="+filepath.Join(fixture.Plugins, "multihome"))
	return c
}

// sh runs a script on the node, and fails the test if the script fails.
func (p *ward) sh(script string) {
	p.t.Helper()
	c := exec.Command("sh", "-euc", script)
	c.Env = p.command("sh").Env
	var out []byte
	if err := p.node.Node.Run(func() (err error) { out, err = c.CombinedOutput(); return err }); err != nil {
		p.t.Fatalf("%s: %v: %s", script, err, out)
	}
}

// runs starts a program that does nothing, under another name, until the test ends. It
// runs in a root directory or, with "", in the common one. A file holds its process ID.
func (p *ward) runs(name, root string, env ...string) {
	p.t.Helper()
	path := filepath.Join(p.dir, "bin", name)
	argv := []string{path, "wait"}
	if root != "" {
		path = filepath.Join(p.dir, root, name)
		argv = []string{"chroot", filepath.Join(p.dir, root), "/" + name, "wait"}
	}
	p.sh("cp $MULTIHOME '" + path + "'")
	p.write(name+".pid", "")
	c := p.command(append([]string{"sh", "-c", `echo $$ >"$0"; exec "$@"`, filepath.Join(p.dir, name+".pid")}, argv...)...)
	c.Env = append(c.Env, env...)
	if err := p.node.Node.Run(c.Start); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		p.sh("kill $(cat $DIR/" + name + ".pid) || true")
		_ = c.Wait()
	})
	// Wait until the process runs under its name.
	p.sh(fmt.Sprintf(`until pid=$(cat $DIR/%s.pid) && test -n "$pid" && test "$(cat /proc/$pid/comm)" = %.15s; do sleep 0.02; done`, name, name))
}

// doctor runs `multihome doctor`, and checks that its exit status fits its report.
func (p *ward) doctor(args ...string) doctor.Report {
	p.t.Helper()
	args = append([]string{filepath.Join(fixture.Plugins, "multihome"), "doctor", "-o", "json"}, args...)
	c := p.command(args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	errRun := p.node.Node.Run(c.Run)
	var r doctor.Report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		p.t.Fatalf("%v: %v: %s%s", errRun, err, stdout.String(), stderr.String())
	}
	want := 0
	if !r.Healthy() {
		want = 1
	} else if len(r.Unseen) > 0 {
		want = 2
	}
	if got := c.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit status %d, want %d; not looked at: %v; %s", got, want, r.Unseen, stderr.String())
	}
	return r
}

// silent fails the test if doctor finds something, or can't look.
func (p *ward) silent() {
	p.t.Helper()
	if r := p.doctor(); len(r.Findings)+len(r.Unseen) > 0 {
		p.t.Errorf("%+v", r)
	}
}

// findingsOf returns the findings of a kind.
func findingsOf(r doctor.Report, id string) (out []doctor.Finding) {
	for _, f := range r.Findings {
		if f.ID == id {
			out = append(out, f)
		}
	}
	return out
}

// ailment is a condition that doctor finds. A script on the node, or a function, causes
// it; byHand does what the comments of the remedy say.
type ailment struct {
	id       string
	severity doctor.Severity
	what     string // a part of the finding
	scene    func(t *testing.T) *lab.Scene
	cause    string
	do       func(t *testing.T, p *ward, s *lab.Scene)
	byHand   func(t *testing.T, p *ward, s *lab.Scene)
	breaks   bool // the condition breaks traffic
	unseen   bool // the condition hides something from doctor
}

func scene(chained ...string) func(t *testing.T) *lab.Scene {
	return func(t *testing.T) *lab.Scene { t.Helper(); return fixture.NewScene(t, lab.Ens192(), chained...) }
}

// conflist writes the scene's network into the node's directory of configurations, with
// another chain.
func conflist(chained ...string) func(t *testing.T, p *ward, s *lab.Scene) {
	return func(_ *testing.T, p *ward, s *lab.Scene) {
		p.write("etc/cni/net.d/lan.conflist", s.LANs[0].Conflist(chained...))
	}
}

// ailments has at least one for each kind, except kinds that need another kernel: see
// TestDoctor of integration/uml.
var ailments = map[string]ailment{
	"IPv4 is not forwarded": {
		id: "ip-forward", severity: doctor.Problem, what: "net.ipv4.ip_forward is 0", breaks: true,
		cause: "sysctl -w net.ipv4.ip_forward=0",
	},
	"IPv6 is not forwarded": {
		id: "ip-forward", severity: doctor.Problem, what: "net.ipv6.conf.all.forwarding is 0", breaks: true,
		cause: "sysctl -w net.ipv6.conf.all.forwarding=0",
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { // the default route goes too: the kernel takes it for one of a router advertisement
			p.sh("ip -6 route replace default via fd00:6::1 dev ens192")
		},
	},
	"rp_filter of all": {
		id: "rp-filter-all", severity: doctor.Note, what: "all.rp_filter is 1, with 1 NIC",
		cause: "sysctl -w net.ipv4.conf.all.rp_filter=1",
	},
	"rp_filter of a NIC": {
		id: "rp-filter-nic", severity: doctor.Note, what: "conf.ens192.rp_filter is 1, with 1 NIC",
		cause: "sysctl -w net.ipv4.conf.ens192.rp_filter=1",
	},
	"proxy ARP": {
		id: "proxy-arp", severity: doctor.Problem, what: "conf.ens192.proxy_arp is 1",
		cause: "sysctl -w net.ipv4.conf.ens192.proxy_arp=1",
	},
	"arp_ignore": {
		id: "arp-ignore", severity: doctor.Problem, what: "conf.all.arp_ignore is 8",
		cause: "sysctl -w net.ipv4.conf.all.arp_ignore=8",
	},
	"FORWARD drops": {
		id: "forward-policy", severity: doctor.Problem, what: "chain ip filter FORWARD drops", breaks: true,
		cause: "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP",
	},
	"FORWARD of iptables-legacy drops": {
		id: "forward-policy", severity: doctor.Problem, what: "chain iptables-legacy -t filter FORWARD drops", breaks: true,
		cause: "iptables-legacy -P FORWARD DROP",
	},
	"a firewall rejects": {
		id: "forward-policy", severity: doctor.Problem, what: "chain inet a f drops what is forwarded from or to veth*", breaks: true,
		cause: "nft 'table inet a { chain f { type filter hook forward priority filter + 10; ct state established,related accept; reject with icmpx admin-prohibited; }; }'",
	},
	"firewalld rejects": {
		id: "forward-policy", severity: doctor.Problem, what: "chain inet firewalld filter_FORWARD drops what is forwarded from or to veth*", breaks: true,
		cause: "nft 'table inet firewalld { chain zones { }; chain policies { }; chain filter_FORWARD { type filter hook forward priority filter + 10; ct state established,related accept; jump policies; jump zones; reject with icmpx admin-prohibited; }; }'",
	},
	"FORWARD drops what is for the node's macvlan": {
		id: "forward-policy", severity: doctor.Problem, what: "drops what is forwarded from or to veth*, ens192.host",
		scene: scene(with(`"hostLink": "macvlan"`)),
		cause: "iptables -P FORWARD DROP; iptables -A FORWARD -i veth+ -j ACCEPT; iptables -A FORWARD -o veth+ -j ACCEPT",
	},
	"INPUT drops": {
		id: "input-policy", severity: doctor.Warning, what: "chain ip filter INPUT drops what comes to the node from veth*", breaks: true,
		cause: `for t in iptables ip6tables; do $t -P INPUT DROP; $t -A INPUT -i lo -j ACCEPT; $t -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; $t -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT; done; ip6tables -A INPUT -p ipv6-icmp -j ACCEPT
			iptables -N KUBE-NODEPORTS; iptables -A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS`,
	},
	"INPUT of iptables-legacy drops": {
		id: "input-policy", severity: doctor.Warning, what: "chain iptables-legacy -t filter INPUT drops", breaks: true,
		cause: "iptables-legacy -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables-legacy -P INPUT DROP",
	},
	"INPUT drops what comes from the node's macvlan": {
		id: "input-policy", severity: doctor.Warning, what: "drops what comes to the node from veth*, ens192.host", breaks: true,
		scene: scene(with(`"hostLink": "macvlan"`)),
		cause: "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -P INPUT DROP; iptables -A INPUT -i veth+ -j ACCEPT",
	},
	"a firewall with other chains rejects": {
		id: "input-policy", severity: doctor.Note, what: "chain inet firewalld filter_INPUT drops, unless a rule that doctor doesn't read accepts it, what comes to the node from veth*", breaks: true,
		cause: "nft 'table inet firewalld { chain policies { }; chain zones { tcp dport 22 accept; }; chain filter_INPUT { type filter hook input priority filter + 10; ct state established,related accept; iifname lo accept; meta l4proto ipv6-icmp accept; jump zones; reject with icmpx admin-prohibited; }; }'",
	},
	"kube-proxy drops invalid packets": {
		id: "conntrack-invalid", severity: doctor.Note, what: "chain ip filter KUBE-FORWARD drops invalid packets",
		cause: "iptables -N KUBE-FORWARD; iptables -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP; iptables -A FORWARD -j KUBE-FORWARD",
	},
	"two modes of kube-proxy": {
		id: "kube-proxy-modes", severity: doctor.Warning, what: "iptables and nftables",
		cause: "iptables -t nat -N KUBE-SVC-NPX46M4PTMTKRN6Y; nft 'table ip kube-proxy { chain services { }; }'",
	},
	"kube-proxy takes the LAN for its own, in mode iptables": {
		id: "not-masqueraded", severity: doctor.Problem, what: "10.6.168.171/16 on eth0 is not masqueraded, and 10.6.200.7 is an endpoint in its subnet",
		cause: kubeProxyIptables("! -s 10.0.0.0/8"),
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.sh("iptables -t nat -F KUBE-SVC-X; iptables -t nat -A KUBE-SVC-X ! -s 10.244.0.0/16 -j KUBE-MARK-MASQ")
		},
	},
	"kube-proxy has no pod range, in mode nftables": {
		id: "not-masqueraded", severity: doctor.Problem, what: "fd00:6::171/64 on eth0 is not masqueraded, and fd00:6::7007 is an endpoint in its subnet",
		cause: `nft 'table ip6 kube-proxy { chain mark-for-masquerade { }; chain service-X { }; chain endpoint-X { ip6 saddr fd00:6::7007 jump mark-for-masquerade; }; }'`,
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { // masqueradeAll
			p.sh("nft add rule ip6 kube-proxy service-X ip6 daddr fd00:10:96::10 tcp dport 80 jump mark-for-masquerade")
		},
	},
	"networkd manages foreign rules": {
		id: "networkd-foreign", severity: doctor.Problem, what: "ManageForeignRoutingPolicyRules is yes",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) { p.runs("systemd-networkd", "") },
	},
	"networkd manages foreign routes": {
		id: "networkd-foreign", severity: doctor.Problem, what: "ManageForeignRoutes is true",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("etc/systemd/networkd.conf", "[Network]\nManageForeignRoutingPolicyRules=no\nManageForeignRoutes=true\n")
			p.runs("systemd-networkd", "")
		},
	},
	"networkd takes links": {
		id: "networkd-links", severity: doctor.Warning, what: "/etc/systemd/network/10-all.network takes links such as veth",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("etc/systemd/network/10-all.network", "[Match]\nName=*\n\n[Network]\nDHCP=yes\n")
			p.runs("systemd-networkd", "")
		},
	},
	"NetworkManager manages links": {
		id: "networkmanager-links", severity: doctor.Warning, what: "links such as veth",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("etc/NetworkManager/conf.d/calico.conf", "[keyfile]\nunmanaged-devices=interface-name:cali*;interface-name:tunl*\n")
			p.runs("NetworkManager", "")
		},
	},
	"NetworkManager manages the node's macvlan, and no veth": {
		id: "networkmanager-links", severity: doctor.Warning, what: "links such as ens192.host",
		scene: scene(with(`"hostLink": "macvlan"`)),
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("etc/udev/rules.d/85-nm-unmanaged.rules", veths)
			p.runs("NetworkManager", "")
		},
	},
	"nm-cloud-setup is enabled": {
		id: "nm-cloud-setup", severity: doctor.Warning, what: "nm-cloud-setup.timer is enabled",
		cause: "mkdir -p /etc/systemd/system/timers.target.wants; ln -s /usr/lib/systemd/system/nm-cloud-setup.timer /etc/systemd/system/timers.target.wants/",
	},
	"nm-cloud-setup was there": {
		id: "nm-cloud-setup", severity: doctor.Warning, what: "rule pref 30400 from 10.6.168.123 lookup 30400",
		cause: "ip rule add pref 30400 from 10.6.168.123 lookup 30400",
	},
	"a rule without a priority takes what comes from the node's address": {
		id: "rule-before-ours", severity: doctor.Problem, what: "rule pref 999 from 10.6.168.123 lookup 51: packets from 10.6.168.123 to 10.6.168.171 by ens192", breaks: true,
		cause: "ip route add default via 10.6.0.1 table 51; ip rule add from 10.6.168.123 lookup 51",
	},
	"wg-quick leads everything into its tunnel": {
		id: "rule-before-ours", severity: doctor.Problem, breaks: true,
		what: "rule pref 998 from all lookup main suppress_prefixlength 0, rule pref 999 not from all fwmark 0xca6c/0xffffffff lookup 51820: packets from fd00:6::123 to fd00:6::171 by ens192",
		cause: `ip -4 route add default via 10.6.0.1 table 51820; ip -6 route add default via fd00:6::1 table 51820
			for f in -4 -6; do ip $f rule add not fwmark 51820 table 51820; ip $f rule add table main suppress_prefixlength 0; done`,
	},
	"a rule of the administrator refuses": {
		id: "rule-before-ours", severity: doctor.Problem, what: "rule pref 100 from all to 10.6.168.0/24 prohibit proto static: packets from 10.6.168.123 to 10.6.168.171 nowhere (permission denied)", breaks: true,
		cause: "ip rule add pref 100 from all to 10.6.168.0/24 prohibit proto static",
	},
	"Multus comes too late": {
		id: "multus-not-first", severity: doctor.Warning, what: "/etc/cni/net.d/10-calico.conflist is before /etc/cni/net.d/70-multus.conf",
		cause: `echo '{"name": "k8s-pod-network", "plugins": [{"type": "calico"}]}' >/etc/cni/net.d/10-calico.conflist
			echo '{"name": "multus-cni-network", "type": "multus-shim"}' >/etc/cni/net.d/70-multus.conf`,
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { p.sh("cd /etc/cni/net.d; mv 70-multus.conf 00-multus.conf") },
	},
	"Cilium renamed Multus": {
		id: "cilium-exclusive", severity: doctor.Problem, what: "/etc/cni/net.d/00-multus.conf.cilium_bak",
		cause: "echo '{}' >/etc/cni/net.d/00-multus.conf.cilium_bak",
	},
	"Cilium will": {
		id: "cilium-exclusive", severity: doctor.Problem, what: "cni-exclusive is true",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) { p.runs("cilium-agent", "cilium") },
	},
	"Cilium checks sources": {
		id: "cilium-source-check", severity: doctor.Warning, what: "enable-source-ip-verification is true, and there is route 10.6.168.199 dev lxc1",
		cause: "ip link add lxc1 up type bridge; ip route add 10.6.168.199 dev lxc1 table 500 proto 109",
		do:    func(_ *testing.T, p *ward, _ *lab.Scene) { p.runs("cilium-agent", "cilium") },
	},
	"Cilium translates within connect()": {
		id: "cilium-socket-lb", severity: doctor.Warning, what: "cluster-pool-ipv4-cidr is 10.244.0.0/16",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("cilium/tmp/cilium/config-map/cluster-pool-ipv4-cidr", "10.244.0.0/16")
			p.runs("cilium-agent", "cilium")
		},
		byHand: conflist(with(`"overlayPodCIDR": ["10.244.0.0/16"]`)),
	},
	"Cilium translates on the node alone": {
		id: "cilium-socket-lb", severity: doctor.Warning, what: "bpf-lb-sock-hostns-only is true",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("cilium/tmp/cilium/config-map/bpf-lb-sock-hostns-only", "true")
			p.runs("cilium-agent", "cilium")
		},
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.write("cilium/tmp/cilium/config-map/bpf-lb-sock-hostns-only", "false")
		},
	},
	"Felix takes our table": {
		id: "felix-tables", severity: doctor.Problem, what: "table 200 is ours, and Felix takes 1-250 by default",
		scene: scene(with(`"hostRuleTable": 200`)),
		do:    func(_ *testing.T, p *ward, _ *lab.Scene) { p.runs("calico-node", "") },
	},
	"Felix is told to": {
		id: "felix-tables", severity: doctor.Problem, what: "table 500 is ours, and Felix takes 100-1000 by FELIX_ROUTETABLERANGES=100-1000",
		do: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.runs("calico-node", "", "FELIX_ROUTETABLERANGES=100-1000")
		},
	},
	"the node's IPv6 comes by router advertisements": {
		id: "accept-ra", severity: doctor.Warning, what: "net.ipv6.conf.ens192.accept_ra is 1, and net.ipv6.conf.all.forwarding is 1",
		cause: "ip addr add fd00:6::777/64 dev ens192 nodad valid_lft 1000 preferred_lft 500",
	},
	"a plugin is missing": {
		id: "plugin-missing", severity: doctor.Problem, what: "there is no plugin sriov, and /etc/cni/net.d/other.conflist needs it",
		cause: `cp $(dirname $MULTIHOME)/coordinator $(dirname $MULTIHOME)/cni/* /opt/cni/bin; touch /opt/cni/bin/sriov
			echo '{"name": "other", "plugins": [{"type": "sriov", "ipam": {"type": "host-local"}}, {"type": "coordinator"}]}' >/etc/cni/net.d/other.conflist`,
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { p.sh("chmod +x /opt/cni/bin/sriov") },
	},
	"no such link": {
		id: "parent-unfit", severity: doctor.Problem, what: "ens999 isn't there, and /etc/cni/net.d/other.conflist puts NICs on it",
		cause: `echo '{"name": "other", "plugins": [{"type": "macvlan", "master": "ens999"}, {"type": "coordinator"}]}' >/etc/cni/net.d/other.conflist`,
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.sh("sed -i s/ens999/ens192/ /etc/cni/net.d/other.conflist")
		},
	},
	"a link that is down": {
		id: "parent-unfit", severity: doctor.Problem, what: "ens999 is down",
		cause: `ip link add ens999 type veth peer name far
			echo '{"name": "other", "plugins": [{"type": "ifacer"}, {"type": "macvlan", "master": "ens999"}, {"type": "coordinator"}]}' >/etc/cni/net.d/other.conflist`,
	},
	"a port of a bridge": {
		id: "parent-unfit", severity: doctor.Problem, what: "ens999 is a port of br0",
		cause: `ip link add br0 type bridge; ip link set br0 up; ip link add ens999 type veth peer name far; ip link set ens999 up master br0; ip link property add dev br0 altname bridge0
			echo '{"name": "other", "plugins": [{"type": "macvlan", "master": "ens999"}, {"type": "coordinator"}]}' >/etc/cni/net.d/other.conflist`,
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.sh("sed -i s/ens999/bridge0/ /etc/cni/net.d/other.conflist")
		},
	},
	"macvlan and ipvlan": {
		id: "shared-parent", severity: doctor.Problem, what: "ens192 has macvlans by network macvlan-ens192, and ipvlans by /etc/cni/net.d/other.conflist",
		cause: `echo '{"name": "other", "plugins": [{"type": "ipvlan", "master": "ens192"}]}' >/etc/cni/net.d/other.conflist`,
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) {
			p.sh("sed -i s/ipvlan/macvlan/ /etc/cni/net.d/other.conflist")
		},
	},
	"a dead pod by the node's macvlan": {
		id: "leftovers", severity: doctor.Warning, what: "coordinator: eth0 of ",
		scene: scene(with(`"hostLink": "macvlan"`)),
		do:    func(t *testing.T, p *ward, s *lab.Scene) { dies(t, p, s) },
	},
	"a dead pod of route": {
		id: "leftovers", severity: doctor.Warning, what: "route: eth0 of ",
		scene: scene(routed),
		do:    func(t *testing.T, p *ward, s *lab.Scene) { dies(t, p, s) },
	},
	"a dead pod of ifacer": {
		id: "leftovers", severity: doctor.Warning, what: "ifacer: eth0 of ",
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			dead := dies(t, p, s)
			a := attachment.Attachment{Network: "vlan100", ContainerID: dead.ContainerID, IfName: lab.NIC}
			err := s.Node.Run(func() error {
				return records.LinkUsers.Write(a.Pod(), records.Record{Network: a.Network, ContainerID: a.ContainerID, IfName: a.IfName, Links: []string{"ens192.100"}})
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	},
	"a dead pod by the node's macvlan, whose record was lost": {
		id: "stale-entries", severity: doctor.Warning, what: " by link ens192.host is no pod's",
		scene: scene(with(`"hostLink": "macvlan"`)),
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			p.sh("rm -r /run/multihome/" + attachment.Attachment{ContainerID: dies(t, p, s).ContainerID}.Pod())
		},
	},
	"a dead pod of route, whose record was lost": {
		id: "stale-entries", severity: doctor.Warning, what: " is no pod's",
		scene: scene(routed),
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			p.sh("rm -r /run/multihome/.routes/" + attachment.Attachment{ContainerID: dies(t, p, s).ContainerID}.Pod())
		},
	},
	"an entry for nobody": {
		id: "stale-entries", severity: doctor.Warning, what: "10.6.168.77 by link ens192.host is no pod's",
		scene: scene(with(`"hostLink": "macvlan"`)),
		cause: "ip neigh add 10.6.168.77 dev ens192.host lladdr 02:00:00:00:00:77 nud permanent",
	},
	"a route to nobody by another CNI's bridge": {
		id: "stale-entries", severity: doctor.Warning, what: "fd00:6::77 by link cni0 is no pod's",
		cause: "ip link add cni0 up type bridge; ip -6 route add fd00:6::77 dev cni0 table 500 proto 109; ip neigh add fd00:6::77 dev cni0 lladdr 02:00:00:00:00:77 nud permanent",
	},
	"a NIC of the node in our group": {
		id: "stale-group", severity: doctor.Warning, what: "link ens192 is in group 109",
		cause: "ip link set ens192 group 109",
	},
	"an address was moved into a virtual machine": {
		id: "bridged-nic", severity: doctor.Problem, what: "eth0 is a port of bridge k6t-eth0 in the pod", unseen: true,
		do: func(t *testing.T, _ *ward, s *lab.Scene) {
			fixture.Sh(t, s.Web.Netns, "ip link add k6t-eth0 up type bridge; ip addr flush dev eth0; ip link set eth0 master k6t-eth0")
		},
		byHand: madeAnew("ip link del k6t-eth0; ip addr flush dev eth0"),
	},
	"an address was moved into a virtual machine, and its NIC has another name": {
		id: "bridged-nic", severity: doctor.Problem, what: "eth0-nic is a port of bridge k6t-eth0 in the pod", unseen: true,
		do: func(t *testing.T, _ *ward, s *lab.Scene) {
			fixture.Sh(t, s.Web.Netns, `ip link add k6t-eth0 up type bridge; ip addr flush dev eth0; ip link set eth0 down; ip link set eth0 name eth0-nic; ip link set eth0-nic up master k6t-eth0
				ip link add eth0 type bridge; ip addr add 10.6.168.171/16 dev eth0`)
		},
		byHand: madeAnew("ip link del k6t-eth0; ip link del eth0; ip link set eth0-nic down; ip link set eth0-nic name eth0"),
	},
	"rules and routes are flushed": {
		id: "drift", severity: doctor.Problem, what: "eth0: ", breaks: true,
		cause: "ip rule del pref 1000; ip route flush table 500",
	},
	"the node has another address": {
		id: "drift", severity: doctor.Problem, what: "10.6.168.124",
		cause: "ip addr add 10.6.168.124/16 dev ens192",
	},
	"a setting of a link of ours": {
		id: "drift", severity: doctor.Problem, what: "rp_filter",
		do: func(_ *testing.T, p *ward, s *lab.Scene) {
			p.sh("sysctl -w net.ipv4.conf." + s.Web.HostEnd(lab.NIC) + ".rp_filter=2")
		},
	},
	"a NIC is gone": {
		id: "nic-gone", severity: doctor.Problem, what: "eth0 of network macvlan-ens192 is not there", unseen: true,
		do:     func(t *testing.T, _ *ward, s *lab.Scene) { fixture.Sh(t, s.Web.Netns, "ip link del eth0") },
		byHand: madeAnew("true"),
	},
	"a NIC is down": {
		id: "nic-down", severity: doctor.Problem, what: "eth0 of network macvlan-ens192 is down", breaks: true, unseen: true,
		do: func(t *testing.T, _ *ward, s *lab.Scene) { fixture.Sh(t, s.Web.Netns, "ip link set eth0 down") },
	},
	"an address is given twice": {
		id: "duplicate-address", severity: doctor.Problem, what: "10.6.168.171 is on ",
		do: func(t *testing.T, _ *ward, s *lab.Scene) {
			fixture.Sh(t, s.App.Netns, "ip link add eth9 type bridge; ip addr add 10.6.168.171/32 dev eth9")
		},
		byHand: func(t *testing.T, _ *ward, s *lab.Scene) {
			fixture.Sh(t, s.App.Netns, "ip link del eth9")
		},
	},
	"no default route": {
		id: "no-default-route", severity: doctor.Warning, what: "10.6.168.171/16 on eth0, and no IPv4 default route",
		do: func(t *testing.T, _ *ward, s *lab.Scene) { fixture.Sh(t, s.Web.Netns, "ip route del default") },
	},
	"Services of kube-proxy in mode nftables beyond serviceCIDR": {
		id: "service-range", severity: doctor.Warning, what: "no route of ours to fd00:10:112::10",
		cause:  "nft 'table ip6 kube-proxy { set cluster-ips { type ipv6_addr; elements = { fd00:10:96::10, fd00:10:112::10 }; }; }'",
		byHand: conflist(strings.Replace(fixture.Chained, `"fd00:10:96::/108"`, `"fd00:10:96::/108", "fd00:10:112::/108"`, 1)),
	},
	"a load balancer of kube-proxy's in mode nftables": {
		id: "load-balancer-range", severity: doctor.Warning, what: "no route of ours to 10.6.9.9",
		cause:  `nft 'table ip kube-proxy { chain service-a { }; set cluster-ips { type ipv4_addr; elements = { 10.96.0.10 }; }; map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.10 . tcp . 80 : goto service-a, 10.6.9.9 . tcp . 80 : goto service-a }; }; }'`,
		byHand: conflist(with(`"hijackCIDR": ["10.6.9.0/24"]`)),
	},
	"an IPv6 load balancer of kube-proxy's in mode nftables": {
		id: "load-balancer-range", severity: doctor.Warning, what: "no route of ours to fd00:9::9",
		cause:  `nft 'table ip6 kube-proxy { chain service-a { }; map service-ips { type ipv6_addr . inet_proto . inet_service : verdict; elements = { fd00:9::9 . udp . 53 : goto service-a }; }; }'`,
		byHand: conflist(with(`"hijackCIDR": ["fd00:9::9"]`)),
	},
	"Services of kube-proxy in mode ipvs beyond serviceCIDR": {
		id: "service-range", severity: doctor.Warning, what: "no route of ours to 10.112.0.10",
		cause:  "ip link add kube-ipvs0 type bridge; ip addr add 10.112.0.10/32 dev kube-ipvs0",
		byHand: conflist(strings.Replace(fixture.Chained, `"10.96.0.0/12"`, `"10.96.0.0/12", "10.112.0.0/12"`, 1)),
	},
	"networks need an agent that was never ready": {
		id: "agent-not-ready", severity: doctor.Problem, what: "lan.conflist come by it",
		do:     func(t *testing.T, p *ward, s *lab.Scene) { t.Helper(); pooled(t, p, s, "multihome-ipam") },
		byHand: func(t *testing.T, _ *ward, s *lab.Scene) { t.Helper(); fixture.AgentReady(t, s.Lab) },
	},
	"the agent ended": {
		id: "agent-not-running", severity: doctor.Warning, what: "multihome-agent doesn't run",
		do:     func(t *testing.T, _ *ward, s *lab.Scene) { t.Helper(); fixture.AgentReady(t, s.Lab) },
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { p.runs("multihome-agent", "") },
	},
	"a claim has no address": {
		id: "claim-missing", severity: doctor.Problem, what: "pod default/web: pool lan has 0 of 10 addresses free",
		do: spooled(func(d *spool.Directory, box spool.Sandbox) error {
			return old(spool.Pod{UID: box.UID}.File(), spool.PutPod(d, spool.Pod{Namespace: "default", Name: "web", UID: box.UID, Reason: "pool lan has 0 of 10 addresses free"}))
		}),
		byHand: spooled(claimed),
	},
	"a NIC isn't in the claim": {
		id: "claim-missing", severity: doctor.Problem, what: "pod default/web, NIC eth0 of network macvlan-ens192: its claim lacks this NIC",
		do: spooled(func(d *spool.Directory, box spool.Sandbox) error {
			return write(d, spool.Want{Namespace: "default", Pod: "web", UID: box.UID, ContainerID: box.ContainerID, Interface: lab.NIC, Call: "1", Network: "macvlan-ens192", Netns: box.Netns})
		}),
		byHand: spooled(claimed),
	},
	"a claim was deleted": {
		id: "sandbox-without-claim", severity: doctor.Warning, what: "eth0 of pod default/web in container",
		do:     spooled(func(d *spool.Directory, box spool.Sandbox) error { return write(d, box) }),
		byHand: spooled(claimed),
	},
	"a pod died without DEL while no agent ran": {
		id: "address-held", severity: doctor.Warning, what: "its namespace is gone, and 10.6.168.171, fd00:6::171 isn't given back yet",
		do: spooled(func(d *spool.Directory, box spool.Sandbox) error {
			box.Netns = netns.ID{Path: "/run/netns/nobody", Inode: 1}
			return write(d, box)
		}),
		byHand: spooled(forgotten),
	},
	"a process outlives its pod": {
		id: "address-held", severity: doctor.Warning, what: "processes have 10.6.168.171, fd00:6::171, and /run/netns/nobody",
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			t.Helper()
			spooled(func(d *spool.Directory, box spool.Sandbox) error {
				box.Netns.Path = "/run/netns/nobody"
				return write(d, box)
			})(t, p, s)
			p.sh("nsenter --net=/run/netns/web sleep 600 >/dev/null 2>&1 & echo $! >$DIR/keeper.pid")
			t.Cleanup(func() { p.sh("kill $(cat $DIR/keeper.pid) 2>/dev/null || true") })
		},
		byHand: func(t *testing.T, p *ward, s *lab.Scene) {
			t.Helper()
			p.sh("kill $(cat $DIR/keeper.pid)")
			spooled(forgotten)(t, p, s)
		},
	},
	"DEL left a link": {
		id: "address-held", severity: doctor.Warning, what: "DEL was called, and its namespace still has 10.99.0.1",
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			t.Helper()
			fixture.Sh(t, s.Web.Netns, "ip link add eth9 type bridge; ip addr add 10.99.0.1/24 dev eth9")
			spooled(func(d *spool.Directory, box spool.Sandbox) error {
				box.Interface, box.Addresses = "eth9", []spool.Address{{Address: netip.MustParsePrefix("10.99.0.1/24")}}
				if err := write(d, box); err != nil {
					return err
				}
				return old(box.GoneFile(), spool.Del(d, box.ContainerID, "eth9"))
			})(t, p, s)
		},
		byHand: func(t *testing.T, _ *ward, s *lab.Scene) { t.Helper(); fixture.Sh(t, s.Web.Netns, "ip link del eth9") },
	},
	"an address was removed in the pod": {
		id: "address-lost", severity: doctor.Problem, what: "its namespace lacks 10.6.168.99",
		do: spooled(func(d *spool.Directory, box spool.Sandbox) error {
			box.Addresses = append(box.Addresses, spool.Address{Address: netip.MustParsePrefix("10.6.168.99/16")})
			return errors.Join(write(d, box), claimed(d, box))
		}),
		byHand: spooled(forgotten),
	},
	"IPv6 was switched off in the pod": {
		id: "address-lost", severity: doctor.Problem, what: "eth0 of network macvlan-ens192 lacks fd00:6::171", unseen: true,
		do: func(t *testing.T, _ *ward, s *lab.Scene) {
			fixture.Sh(t, s.Web.Netns, "sysctl -w net.ipv6.conf.eth0.disable_ipv6=1")
		},
		byHand: madeAnew("true"),
	},
	"another system's IPAM beside our agent": {
		id: "foreign-ipam", severity: doctor.Problem, what: "/opt/cni/bin/spiderpool of /etc/cni/net.d/lan.conflist is a file of 8 bytes that isn't a plugin of ours",
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			t.Helper()
			pooled(t, p, s, "spiderpool")
			fixture.AgentReady(t, s.Lab)
			p.write("opt/cni/bin/spiderpool", "foreign\n")
		},
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { p.sh("cp $(dirname $MULTIHOME)/spiderpool /opt/cni/bin") },
	},
	"another system's IPAM alone": {
		id: "foreign-ipam", severity: doctor.Note, what: "/opt/cni/bin/spiderpool of /etc/cni/net.d/lan.conflist is ",
		do: func(t *testing.T, p *ward, s *lab.Scene) {
			t.Helper()
			pooled(t, p, s, "spiderpool")
			p.write("opt/cni/bin/spiderpool", "foreign\n")
		},
		byHand: func(_ *testing.T, p *ward, _ *lab.Scene) { p.sh("rm /opt/cni/bin/spiderpool") },
	},
}

// pooled writes a network into the node's directory of configurations that takes its addresses
// from pools.
func pooled(t *testing.T, p *ward, s *lab.Scene, ipam string) {
	t.Helper()
	p.write("etc/cni/net.d/lan.conflist", fixture.WithIPAM(t, s.LANs[0].Conflist(fixture.Chained), fixture.Keys{"type": ipam}))
}

// spooled runs f with the node's spool, and with what ADD would have left there for the scene's
// first pod.
func spooled(f func(d *spool.Directory, box spool.Sandbox) error) func(t *testing.T, p *ward, s *lab.Scene) {
	return func(t *testing.T, _ *ward, s *lab.Scene) {
		t.Helper()
		fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
			id, err := netns.Identify("/run/netns/web")
			if err != nil {
				return err
			}
			return f(d, spool.Sandbox{
				Namespace: "default", Pod: "web", UID: s.Web.UID(), ContainerID: s.Web.ContainerID, Interface: lab.NIC, Call: "1",
				Network: "macvlan-ens192", Netns: id, Addresses: fixture.SpoolNIC(s.LANs[0], lab.NIC, "macvlan-ens192", 0).Addresses,
			})
		})
	}
}

// claimed brings the claim of a sandbox to the node, as the agent does.
func claimed(d *spool.Directory, box spool.Sandbox) error {
	return spool.PutPod(d, spool.Pod{Namespace: box.Namespace, Name: box.Pod, UID: box.UID, NICs: []spool.NIC{{Interface: box.Interface, Network: box.Network, Addresses: box.Addresses}}})
}

// forgotten removes what is known of a sandbox, as the agent does when nothing has its addresses.
func forgotten(d *spool.Directory, box spool.Sandbox) error { return spool.Forget(d, box) }

// write writes a want or a sandbox of a while ago into the spool.
func write(d *spool.Directory, entry interface{ File() string }) error {
	contents, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	return old(entry.File(), d.Write(entry.File(), contents))
}

// old makes a file of the spool an old one, unless there was an error.
func old(file string, err error) error {
	then := time.Now().Add(-time.Minute)
	return errors.Join(err, os.Chtimes(filepath.Join(spool.Dir, file), then, then))
}

// TestDoctorOfPools: doctor finds nothing where pods have addresses of pools, and all of them
// when the agent's files are lost; show says from which pools the addresses are.
func TestDoctorOfPools(t *testing.T) {
	t.Parallel()
	l := fixture.NewLab(t, lab.Ens192())
	lan := l.LANs[0]
	fixture.AgentReady(t, l)
	network, err := l.Network(fixture.WithIPAM(t, lan.Conflist(fixture.Chained), fixture.Keys{"type": "multihome-ipam"}), fixture.CNIPath()...)
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"web", "app"} {
		fixture.InSpool(t, l, func(d *spool.Directory) error {
			return spool.PutPod(d, spool.Pod{Namespace: "default", Name: name, UID: lab.PodUID(name), NICs: []spool.NIC{fixture.SpoolNIC(lan, lab.NIC, "macvlan-ens192", i)}})
		})
	}
	if _, err := l.NewScene(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	p := newWard(t, l)
	p.runs("multihome-agent", "")
	if r := p.doctor(); len(r.Pods) != 2 || len(r.Findings)+len(r.Unseen) > 0 {
		t.Errorf("%+v", r)
	}
	p.sh(`$MULTIHOME show web | grep '^ *10.6.168.171/16  from pool lan, claim default/web$'`)
	p.sh("rm /run/multihome/ipam/pods/*")
	if r := p.doctor(); len(findingsOf(r, "sandbox-without-claim")) != 2 || len(r.Findings) != 2 || r.Findings[0].Pod == "" {
		t.Errorf("%+v", r)
	}
}

// kubeProxyIptables returns the rules that kube-proxy makes in mode iptables for a
// Service with an endpoint in the LAN, on another node; match selects the traffic that
// it masquerades.
func kubeProxyIptables(match string) string {
	return `for c in MARK-MASQ SVC-X SEP-X; do iptables -t nat -N KUBE-$c; done
		iptables -t nat -A KUBE-SVC-X ` + match + ` -d 10.96.0.10/32 -p tcp -m comment --comment "default/web cluster IP" -m tcp --dport 80 -j KUBE-MARK-MASQ
		iptables -t nat -A KUBE-SVC-X -j KUBE-SEP-X
		iptables -t nat -A KUBE-SEP-X -s 10.6.200.7/32 -j KUBE-MARK-MASQ
		iptables -t nat -A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination 10.6.200.7:80`
}

// madeAnew gives the pod its NIC again, after a script in the pod.
func madeAnew(script string) func(t *testing.T, _ *ward, s *lab.Scene) {
	return func(t *testing.T, _ *ward, s *lab.Scene) {
		t.Helper()
		fixture.Sh(t, s.Web.Netns, script)
		n := s.Attachments[0].Network
		if err := errors.Join(n.Del(t.Context(), s.Web, lab.NIC), n.Add(t.Context(), s.Web, lab.NIC)); err != nil {
			t.Fatal(err)
		}
	}
}

// dies makes a third pod, and ends it without DEL: the file on which its namespace was
// mounted is then empty, until it is removed.
func dies(t *testing.T, p *ward, s *lab.Scene) *lab.Pod {
	t.Helper()
	dead, err := s.NewPod("dead")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Attachments[0].Network.Add(t.Context(), dead, lab.NIC); err != nil {
		t.Fatal(err)
	}
	p.sh("umount /run/netns/dead")
	return dead
}

// TestDoctor causes each condition, checks that doctor finds it, does literally what
// the remedy says, and checks that the finding is gone.
func TestDoctor(t *testing.T) {
	for name, a := range ailments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if a.scene == nil {
				a.scene = scene(fixture.Chained)
			}
			s := a.scene(t)
			p := newWard(t, s.Lab)
			p.silent() // before anything is wrong
			if a.cause != "" {
				p.sh(a.cause)
			}
			if a.do != nil {
				a.do(t, p, s)
			}
			if a.breaks && !anyFailed(lab.RunAll(s.Checks("tcp"))) {
				t.Error("the control: traffic doesn't suffer")
			}
			sick := p.doctor()
			if len(sick.Unseen) > 0 && !a.unseen {
				t.Errorf("not looked at: %v", sick.Unseen)
			}
			found := findingsOf(sick, a.id)
			is := func(f doctor.Finding) bool { return f.Severity == a.severity && strings.Contains(f.What, a.what) }
			if !slices.ContainsFunc(found, is) {
				t.Fatalf("want %s %s: … %s …, got %+v", a.severity, a.id, a.what, found)
			}
			if a.byHand != nil {
				a.byHand(t, p, s)
			}
			for _, f := range found {
				p.sh(f.Remedy)
			}
			r := p.doctor()
			if left := findingsOf(r, a.id); len(left)+len(r.Unseen) > 0 {
				t.Errorf("after the remedy:\n%s\nremaining findings %+v, not looked at %v", found[0].Remedy, left, r.Unseen)
			}
			if a.breaks {
				fixture.Holds(t, s)
			}
		})
	}
}

// elsewhere are the kinds with tests of their own, here or in integration/uml.
var elsewhere = []string{"no-gateway", "neighbour-table", "conntrack-table", "module-missing"}

// TestDoctorsKinds checks that each kind has a test.
func TestDoctorsKinds(t *testing.T) {
	tested := slices.Clone(elsewhere)
	for _, a := range ailments {
		tested = append(tested, a.id)
	}
	for _, k := range doctor.Kinds {
		if !slices.Contains(tested, k.ID) {
			t.Errorf("%s has no test", k.ID)
		}
	}
}

// veths is what NetworkManager's rules for udev say of veths.
const veths = `ENV{ID_NET_DRIVER}=="veth", ENV{INTERFACE}!="eth[0-9]*", ENV{NM_UNMANAGED}="1"` + "\n"

// TestDoctorOfNetworkManager: there is nothing to be said of NetworkManager as distributions have it, if no pod
// has another link than a veth.
func TestDoctorOfNetworkManager(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	p.write("etc/udev/rules.d/85-nm-unmanaged.rules", veths)
	p.runs("NetworkManager", "")
	p.silent()
}

// TestDoctorOfForgottenPods: runtimes keep results of pods that are gone (multus#1488). Their
// networks may have changed since.
func TestDoctorOfForgottenPods(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	config := `{"cniVersion": "1.0.0", "name": "old", "plugins": [{"type": "ipvlan", "master": "ens192"}, {"type": "ifacer", "interfaces": ["a", "b"]}]}`
	cached, err := json.Marshal(inspect.Cached{Kind: "cniCacheV1", ContainerID: "gone", Network: "old", IfName: "eth0", Netns: "/run/netns/gone", Config: []byte(config), Result: json.RawMessage(`{"cniVersion": "1.0.0"}`)})
	if err != nil {
		t.Fatal(err)
	}
	p.write("cached", string(cached))
	p.sh("cp $DIR/cached /var/lib/cni/results/old-gone-eth0")
	p.silent()
}

// TestDoctorMovesRules: the remedy of rule-before-ours moves rules whole, in their order, and
// no other rule.
func TestDoctorMovesRules(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	rules := func() string { return fixture.Sh(t, s.Node.Netns, "ip -4 -d rule show") }
	before := rules()
	p.sh(`ip route add default via 10.6.0.1 table 51
		ip rule add pref 7 from 10.6.0.0/16 fwmark 0/0xf0 iif lo lookup 51 suppress_ifgroup 9 proto static
		ip rule add pref 7 from all iif ens9 lookup 51
		ip rule add pref 8 from all fwmark 1 lookup 51
		ip rule add pref 9 not from 192.0.2.0/24 to 10.6.168.171 uidrange 0-10 lookup 51`)
	all := rules()
	found := findingsOf(p.doctor(), "rule-before-ours")
	if len(found) != 1 || !strings.Contains(found[0].What, "rule pref 7 from 10.6.0.0/16") || !strings.Contains(found[0].What, "rule pref 9 not from 192.0.2.0/24") {
		t.Fatalf("%+v\n%s", found, all)
	}
	p.sh(found[0].Remedy)
	var want []string
	for line := range strings.Lines(all) {
		switch {
		case strings.HasPrefix(line, "7:") && strings.Contains(line, "iif lo"):
			line = "1007" + strings.TrimPrefix(line, "7")
		case strings.HasPrefix(line, "9:"):
			line = "1009" + strings.TrimPrefix(line, "9")
		}
		want = append(want, line)
	}
	got := slices.Collect(strings.Lines(rules()))
	slices.Sort(want)
	slices.Sort(got)
	if d := cmp.Diff(want, got); d != "" || len(got) != strings.Count(before, "\n")+4 {
		t.Errorf("rules after the remedy (-want +got):\n%s", d)
	}
	p.silent()
	fixture.Holds(t, s)
}

// TestDoctorOfManyNICs checks warnings that depend on other NICs.
func TestDoctorOfManyNICs(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	p := newWard(t, s.Lab)
	if r := p.doctor(); len(r.Findings) > 0 {
		t.Errorf("a healthy node: %+v", r.Findings)
	}
	p.sh("sysctl -w net.ipv4.conf.all.rp_filter=1")
	if f := findingsOf(p.doctor(), "rp-filter-all"); len(f) != 1 || f[0].Severity != doctor.Warning {
		t.Errorf("strict for two NICs: %+v", f)
	}
	p.sh("sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.ens224.rp_filter=1")
	r := p.doctor()
	if f := findingsOf(r, "rp-filter-all"); len(f) != 1 || f[0].Severity != doctor.Note {
		t.Errorf("loose for two NICs: %+v", f)
	}
	if f := findingsOf(r, "rp-filter-nic"); len(f) != 0 {
		t.Errorf("strict for one NIC, and loose for all: %+v", f)
	}
	p.sh("sysctl -w net.ipv4.conf.all.rp_filter=0")
	f := findingsOf(p.doctor(), "rp-filter-nic")
	if len(f) != 1 || f[0].Severity != doctor.Warning || !strings.Contains(f[0].What, "conf.ens224.rp_filter is 1, with 2 NICs") {
		t.Fatalf("strict for one NIC of two: %+v", f)
	}
	p.sh(f[0].Remedy)
	if r := p.doctor(); len(r.Findings) > 0 {
		t.Errorf("after the remedy: %+v", r.Findings)
	}
}

// TestDoctorOfGateways uses a LAN whose IPAM names no gateway at first.
func TestDoctorOfGateways(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.TwoLANs["v4"], fixture.Chained)
	s.Plug(t, 0, lab.NIC)
	p := newWard(t, s.Lab)
	plug := func(gateway string) *lab.Network {
		n, err := s.Network(`{"cniVersion": "1.1.0", "name": "storage", "plugins": [{"type": "macvlan", "master": "ens224", "mode": "bridge",
			"ipam": {"type": "static", "addresses": [{"address": "10.7.168.171/16"`+gateway+`}]}}, `+fixture.Chained+"]}", fixture.CNIPath()...)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Add(t.Context(), s.Web, "net1"); err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := plug("")
	found := findingsOf(p.doctor(), "no-gateway")
	if len(found) != 1 || found[0].Severity != doctor.Note || !strings.Contains(found[0].Remedy, "a gateway for net1 in the IPAM of network storage") {
		t.Errorf("no gateway: %+v", found)
	}
	if err := n.Del(t.Context(), s.Web, "net1"); err != nil {
		t.Fatal(err)
	}
	plug(`, "gateway": "10.7.0.1"`)
	if r := p.doctor(); len(r.Findings) > 0 {
		t.Errorf("with a gateway: %+v", r.Findings)
	}
}

// TestDoctorOfOverlay checks the warning that the underlay NIC answers connections
// which the node forwards to it.
func TestDoctorOfOverlay(t *testing.T) {
	t.Parallel()
	s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
	s.Overlay(t, "calico")
	s.Plug(t, 1, "net1")
	p := newWard(t, s.Lab)
	if r := p.doctor(); len(r.Findings) > 0 {
		t.Errorf("a healthy node: %+v", r.Findings)
	}
	p.sh(ailments["kube-proxy drops invalid packets"].cause)
	if f := findingsOf(p.doctor(), "conntrack-invalid"); len(f) != 1 || f[0].Severity != doctor.Warning {
		t.Errorf("invalid packets are dropped: %+v", f)
	}
}

// TestDoctorOfOnePod checks that doctor POD reports on that pod and the node, and
// repairs that pod alone.
func TestDoctorOfOnePod(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	p.sh("sysctl -w net.ipv4.conf.all.rp_filter=2")
	for _, pod := range []*lab.Pod{s.Web, s.App} {
		fixture.Sh(t, pod.Netns, "ip rule del pref 32763")
	}
	ids := func(r doctor.Report) (out []string) {
		for _, f := range r.Findings {
			out = append(out, f.ID)
		}
		return out
	}
	for args, want := range map[string][]string{
		"":                          {"drift", "drift", "rp-filter-all"},
		s.Web.ContainerID[:12]:      {"drift", "rp-filter-all"},
		s.Web.NetNS:                 {"drift", "rp-filter-all"},
		s.Outside.Path():            {"rp-filter-all"},
		"--fix " + s.Outside.Path(): {"rp-filter-all"},
	} {
		r := p.doctor(strings.Fields(args)...)
		if got := ids(r); !slices.Equal(got, want) || len(r.Fixed) > 0 {
			t.Errorf("doctor %s: %v, fixed %v, want %v", args, got, r.Fixed, want)
		}
	}
	r := p.doctor("--fix", s.Web.ContainerID)
	if got := ids(r); !slices.Equal(got, []string{"rp-filter-all"}) || len(r.Fixed) != 1 || !strings.Contains(r.Fixed[0], "ip rule add pref 32763") {
		t.Errorf("doctor --fix of web: %v, fixed %v", got, r.Fixed)
	}
	if r := p.doctor("--fix"); len(r.Fixed) != 1 || !strings.Contains(r.Fixed[0], s.App.ContainerID) {
		t.Errorf("doctor --fix of all: fixed %v", r.Fixed)
	}
	if r := p.doctor("--fix"); len(r.Fixed) > 0 || len(r.Findings) != 1 {
		t.Errorf("doctor --fix again: %+v", r)
	}
	fixture.Holds(t, s)
}

// TestDoctorFixesOursAlone causes everything at once: --fix changes nothing of others,
// and afterwards the state of dead and living pods is right.
func TestDoctorFixesOursAlone(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), with(`"hostLink": "macvlan"`))
	p := newWard(t, s.Lab)
	foreignOn(t, s)
	p.sh("sysctl -w net.ipv4.ip_forward=0; iptables -P FORWARD DROP; ip rule add pref 30400 from 10.6.168.123 lookup 30400")
	p.sh("cp -a /etc $DIR/before")
	dies(t, p, s)
	others := func() string {
		return fixture.Sh(t, s.Node.Netns, "iptables-save | grep -v ^#; nft list tables; ip rule | grep -v 109; ip route show table 30400; sysctl net.ipv4.ip_forward net.ipv4.conf.ens192")
	}
	before := others()
	if r := p.doctor("--fix"); len(r.Fixed) == 0 || len(findingsOf(r, "leftovers")) > 0 || len(findingsOf(r, "ip-forward")) == 0 {
		t.Errorf("doctor fixed %v; remaining findings %+v", r.Fixed, r.Findings)
	}
	if after := others(); after != before {
		t.Errorf("others' state was\n%s\nand is now\n%s", before, after)
	}
	p.sh("diff -r --no-dereference /etc $DIR/before")
	if got := fixture.Sh(t, s.Node.Netns, "ip route show table 500 10.6.168.173; ip -6 route show table 500 fd00:6::173"); got != "" {
		t.Errorf("the dead pod left %s", got)
	}
}

// foreignOn adds others' objects to the node, next to ours.
func foreignOn(t *testing.T, s *lab.Scene) {
	t.Helper()
	fixture.Sh(t, s.Node.Netns, "ip route add 192.0.2.77 dev ens192 table 500; ip route add 192.0.2.78 dev ens192 table 30400")
}

// TestDoctorInAContainer has the node's files under another root directory.
func TestDoctorInAContainer(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	p.sh("mkdir $DIR/host; mount --rbind / $DIR/host; mount -t tmpfs tmpfs $DIR/host/etc; mkdir -p $DIR/host/etc/cni/net.d; echo '{}' >$DIR/host/etc/cni/net.d/00-multus.conf.cilium_bak")
	t.Cleanup(func() { p.sh("umount -l $DIR/host") })
	r := p.doctor("--root", filepath.Join(p.dir, "host"))
	if len(r.Pods) != 2 || len(r.Findings) != 1 || r.Findings[0].ID != "cilium-exclusive" {
		t.Errorf("%+v", r)
	}
}

// TestDoctorSaysWhatItCannotSee removes files and programs that doctor needs.
func TestDoctorSaysWhatItCannotSee(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	run := func(want int, words string, argv ...string) {
		t.Helper()
		c := p.command(argv...)
		var out []byte
		_ = p.node.Node.Run(func() (err error) { out, err = c.CombinedOutput(); return err })
		if got := c.ProcessState.ExitCode(); got != want || !strings.Contains(string(out), words) {
			t.Errorf("%v: exit status %d, want %d and %q:\n%s", argv, got, want, words, out)
		}
	}
	bin := filepath.Join(fixture.Plugins, "multihome")
	run(2, `pod "nobody": no namespace, process or container`, bin, "doctor", "nobody")
	run(2, "unknown flag: --nonsense", bin, "doctor", "--nonsense")
	run(2, "accepts at most 1 arg", bin, "doctor", "a", "b")
	run(2, "root /nowhere: no such file", bin, "doctor", "--root", "/nowhere")
	run(2, "kernel: create a network namespace: operation not permitted", "capsh", "--drop=cap_sys_admin", "--", "-c", bin+" doctor")
	run(2, "the pod's network namespace is unknown, so the pod may be alive: see --cache-dir", bin, "doctor", "--fix", "--cache-dir", "/nowhere")
	fixture.Holds(t, s)
	p.write("etc/cni/net.d/broken.conflist", "{")
	run(2, "configuration /etc/cni/net.d/broken.conflist: unexpected end", bin, "doctor")
}

// TestDoctorOfScenarios checks that doctor finds nothing in any scenario that this
// kernel supports; testdata/doctor-NAME.txtar has its output in every format.
func TestDoctorOfScenarios(t *testing.T) {
	for _, scenario := range lab.Scenarios() {
		if scenario.Possible() != nil {
			continue // it runs on the user-mode kernel
		}
		t.Run(scenario.Name, func(t *testing.T) {
			t.Parallel()
			s, err := scenario.Up(t.Context(), fixture.CNIPath()...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			p := newWard(t, s.Lab)
			if r := p.doctor(); len(r.Findings) > 0 {
				t.Errorf("a healthy node: %+v", r.Findings)
			}
			p.golden("doctor-"+scenario.Name, 0)
		})
	}
}

// TestDoctorSick checks several findings at once.
func TestDoctorSick(t *testing.T) {
	t.Parallel()
	s := fixture.NewScene(t, lab.Ens192(), fixture.Chained)
	p := newWard(t, s.Lab)
	p.sh(`sysctl -w net.ipv4.conf.all.rp_filter=2; iptables -P FORWARD DROP; ip rule del pref 1000; ip -n web route del default
		ip rule add pref 30400 from 10.6.168.123 lookup 30400; echo '{}' >/etc/cni/net.d/00-multus.conf.cilium_bak`)
	p.golden("doctor-sick", 1)
}

// golden compares doctor's output in each format, and its exit status, with a file.
func (p *ward) golden(name string, status int) {
	p.t.Helper()
	var a txtar.Archive
	for _, format := range report.Formats {
		c := p.command(filepath.Join(fixture.Plugins, "multihome"), "doctor", "-o", format)
		var out []byte
		_ = p.node.Node.Run(func() (err error) { out, err = c.CombinedOutput(); return err })
		if got := c.ProcessState.ExitCode(); got != status {
			p.t.Errorf("exit status %d, want %d", got, status)
		}
		a.Files = append(a.Files, txtar.File{Name: "multihome doctor -o " + format, Data: bytes.ReplaceAll(out, []byte("is not seen in this PID namespace"), []byte("doesn't run"))})
	}
	file, got := filepath.Join("testdata", name+".txtar"), txtar.Format(&a)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
		p.t.Errorf("%s (-want +got):\n%s", file, d)
	}
}
