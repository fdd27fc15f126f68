// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

var ciliumExclusive = Kind{
	ID: "cilium-exclusive", Severity: Problem,
	What: "Cilium renamed the configurations of other CNIs, or is about to",
	Why:  "With cni-exclusive, its default, Cilium renames every other file in /etc/cni/net.d to *.cilium_bak, that of Multus among them: pods are made without further NICs, and without an error (multus#972).",
	Remedy: `# where the cilium command is set up for the cluster:
cilium config set cni-exclusive false
COMMANDS`,
}

var ciliumSourceCheck = Kind{
	ID: "cilium-source-check", Severity: Warning,
	What: "Cilium drops what pods in overlay mode answer their node from an underlay NIC's address",
	Why:  "By eth0, which is Cilium's, a pod may send from eth0's address only (enable-source-ip-verification, true by default): what the node begins towards the NIC's address stays unanswered. The NIC's LAN is not affected.",
	Remedy: `# for all pods of the cluster:
cilium config set enable-source-ip-verification false`,
}

var ciliumSocketLB = Kind{
	ID: "cilium-socket-lb", Severity: Warning,
	What:   "Cilium stands for kube-proxy, and ClusterIPs of a pod with an underlay NIC are not translated, or lead to its LAN",
	Why:    "Cilium's socket load balancer turns a ClusterIP into a pod's address within connect(), before any route is looked up: without a route of ours to the cluster's pods the connection leaves by the NIC (cilium#43896). With bpf-lb-sock-hostns-only nothing translates what pods send by a link that is not Cilium's.",
	Remedy: "# WHAT\nmultihome repairFLAGS",
}

// cilium looks at what Cilium's agent was started with.
func cilium(n *node) error {
	renamed, err := filepath.Glob(filepath.Join(n.options.ConfDir, "*.cilium_bak"))
	exclusive := false
	pid, runs := n.programs["cilium-agent"]
	switch {
	case runs:
		n.fact("Cilium", "runs")
		conf := ciliumConf(filepath.Join("/proc", pid, "root/tmp/cilium/config-map"))
		if _, errConf := os.Stat(string(conf)); errConf != nil {
			err = errors.Join(err, fmt.Errorf("its configuration: %w", errConf))
			break
		}
		exclusive = conf.value("cni-exclusive", "true") == "true"
		n.ciliumChecksSources(conf.value("enable-source-ip-verification", "true"))
		n.ciliumServices(conf)
	case len(n.links("cilium_host")) > 0:
		err = errors.Join(err, errors.New("there is link cilium_host, and no cilium-agent to be seen in the node's network namespace: its configuration is not known"))
	default:
		n.fact("Cilium", "none")
	}
	if len(renamed) == 0 && !exclusive {
		return err
	}
	what := "cni-exclusive is true"
	var back []string
	for _, file := range renamed {
		what = "there is " + strings.Join(renamed, ", ")
		back = append(back, "mv "+file+" "+strings.TrimSuffix(file, ".cilium_bak"))
	}
	n.found(ciliumExclusive, what, "COMMANDS", strings.Join(back, "\n"))
	return err
}

// ciliumConf is the directory of the agent's --config-dir, with a file for each key of
// its ConfigMap.
type ciliumConf string

func (c ciliumConf) value(key, byDefault string) string {
	data, err := os.ReadFile(filepath.Join(string(c), key))
	if err != nil {
		return byDefault // it is not set
	}
	return strings.TrimSpace(string(data))
}

// ciliumChecksSources asks for routes of ours to pods by links of Cilium's.
func (n *node) ciliumChecksSources(verification string) {
	if verification == "false" {
		return
	}
	for _, r := range netstate.All[netstate.Route](n.snapshot, host) {
		if r.Owned() && strings.HasPrefix(r.Dev, "lxc") {
			n.found(ciliumSourceCheck, fmt.Sprintf("enable-source-ip-verification is %s, and there is route %s", verification, r))
			return
		}
	}
}

// ciliumServices wants pods on the underlay to have a way to what Cilium makes of
// ClusterIPs, where there is no kube-proxy.
func (n *node) ciliumServices(conf ciliumConf) {
	if len(n.kubeProxyModes()) > 0 {
		return
	}
	for i := range n.pods {
		p := &n.pods[i]
		if p.isOverlay() {
			continue
		}
		if conf.value("bpf-lb-sock-hostns-only", "false") == "true" {
			n.foundIn(p, ciliumSocketLB, "bpf-lb-sock-hostns-only is true, and there is no kube-proxy",
				"WHAT", "keep kube-proxy (kubeProxyReplacement: false), or set socketLB.hostNamespaceOnly to false in Cilium's values; then:")
			continue
		}
		for _, key := range []string{"cluster-pool-ipv4-cidr", "cluster-pool-ipv6-cidr", "ipv4-native-routing-cidr"} {
			for _, cidr := range strings.Fields(conf.value(key, "")) {
				prefix, err := netip.ParsePrefix(cidr)
				if err == nil && !p.reaches(prefix) {
					n.foundIn(p, ciliumSocketLB, fmt.Sprintf("%s is %s, and the pod has no route of ours there", key, cidr),
						"WHAT", fmt.Sprintf("set \"overlayPodCIDR\": [%q] in the configuration of coordinator, %s; then:", cidr, strings.Join(n.where(p), ", ")))
				}
			}
		}
	}
}

// where says where the networks of a pod are configured.
func (n *node) where(p *pod) (out []string) {
	for _, a := range p.Attachments {
		for _, k := range n.networks {
			if k.name == a.Network && !slices.Contains(out, k.where()) {
				out = append(out, k.where())
			}
		}
	}
	return out
}

// reaches reports whether the pod has routes of ours in main that lead to all of a
// prefix, or as long as it has no address of that family, whether it can't have.
func (p pod) reaches(prefix netip.Prefix) bool {
	f := netstate.FamilyOf(prefix.Addr())
	has := slices.ContainsFunc(netstate.All[netstate.Addr](p.snapshot, inPod), func(a netstate.Addr) bool {
		addr := a.Prefix.Addr()
		return netstate.FamilyOf(addr) == f && !addr.IsLoopback() && !addr.IsLinkLocalUnicast()
	})
	return !has || slices.ContainsFunc(netstate.All[netstate.Route](p.snapshot, inPod), func(r netstate.Route) bool {
		return r.Owned() && r.Table == netstate.TableMain && r.Dst.Bits() > 0 && r.Dst.Bits() <= prefix.Bits() && r.Dst.Contains(prefix.Addr())
	})
}

var felixTables = Kind{
	ID: "felix-tables", Severity: Problem,
	What: "Calico's Felix takes a routing table that is ours on the node",
	Why:  "Felix uses the tables of routeTableRanges, 1 to 250 by default, as it pleases, and clears those that it finds used in there (calico#5432): the node no longer finds its pods. A range in FelixConfiguration is not seen from here; one in Felix' environment is, and goes before that.",
	Remedy: `# set hostRuleTable of coordinator to a table beyond Felix' ranges, and make the pods anew; or leave out ours, by the DaemonSet of your installation:
kubectl -n kube-system set env daemonset/calico-node FELIX_ROUTETABLERANGES=TABLES`,
}

// span is a range of tables, both ends included.
type span struct{ first, last int }

func calico(n *node) error {
	pid, runs := n.programs["calico-node"]
	if !runs && len(n.links("cali")) == 0 {
		n.fact("Calico", "none")
		return nil
	}
	ranges, source := []span{{1, 250}}, "by default"
	var err error
	if runs {
		n.fact("Calico", "runs")
		var environ []byte
		environ, err = os.ReadFile(filepath.Join("/proc", pid, "environ"))
		for _, v := range strings.Split(string(environ), "\x00") {
			name, value, _ := strings.Cut(v, "=")
			if name == "FELIX_ROUTETABLERANGES" || name == "FELIX_ROUTETABLERANGE" {
				ranges, source = spans(value), "by "+v
			}
		}
	} else {
		n.fact("Calico", "its links are there, and no calico-node to be seen")
	}
	for _, table := range n.hostTables() {
		for _, r := range ranges {
			if r.first <= table && table <= r.last {
				n.found(felixTables, fmt.Sprintf("table %d is ours, and Felix takes %d-%d %s", table, r.first, r.last, source), "TABLES", without(ranges, table))
			}
		}
	}
	return err
}

// hostTables are the tables that rules of ours on the node lead to.
func (n *node) hostTables() (out []int) {
	for _, r := range netstate.All[netstate.Rule](n.snapshot, host) {
		if r.Owned() && !slices.Contains(out, r.Table) {
			out = append(out, r.Table)
		}
	}
	return out
}

// spans reads ranges as Felix' environment has them: 1-99,200-250.
func spans(text string) (out []span) {
	for _, part := range strings.Split(text, ",") {
		from, to, _ := strings.Cut(part, "-")
		first, err := strconv.Atoi(strings.TrimSpace(from))
		last, err2 := strconv.Atoi(strings.TrimSpace(to))
		if err == nil && err2 == nil {
			out = append(out, span{first, last})
		}
	}
	return out
}

// without is the ranges with a table left out.
func without(ranges []span, table int) string {
	var out []string
	add := func(first, last int) {
		if first <= last {
			out = append(out, fmt.Sprintf("%d-%d", first, last))
		}
	}
	for _, r := range ranges {
		if table < r.first || table > r.last {
			add(r.first, r.last)
			continue
		}
		add(r.first, table-1)
		add(table+1, r.last)
	}
	return strings.Join(out, ",")
}
