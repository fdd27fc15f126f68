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
	Why:  "With cni-exclusive, which is on by default, Cilium renames every other file in /etc/cni/net.d to *.cilium_bak, that of Multus among them. Pods are then made without further NICs, and without an error (multus#972).",
	Remedy: `# on a machine where the cilium command is set up for the cluster:
cilium config set cni-exclusive false
COMMANDS`,
}

var multusNotFirst = Kind{
	ID: "multus-not-first", Severity: Warning,
	What: "Multus' configuration is not the first one of the node",
	Why:  "Runtimes take the first file of /etc/cni/net.d in the order of their names, so they don't call Multus: pods are made without further NICs, and without an error (multus#766, #1387). The file comes too late while Multus isn't ready after a reboot, or for ever if its name sorts after the other one's. If the runtime is told which network to take (cni_default_network of CRI-O), there is nothing to mend.",
	Remedy: `# give Multus' configuration a name that sorts before FIRST, such as 00-multus.conf, in the configuration of Multus; now it is FILE
# then delete pods that lack NICs, so that they are recreated`,
}

// multus looks for a configuration that runtimes take instead of that of Multus.
func multus(n *node) error {
	files := slices.DeleteFunc(slices.Clone(n.networks), func(k network) bool { return k.file == "" })
	i := slices.IndexFunc(files, network.isMultus)
	if i > 0 {
		n.found(multusNotFirst, fmt.Sprintf("%s is before %s", files[0].file, files[i].file), "FIRST", filepath.Base(files[0].file), "FILE", files[i].file)
	}
	return nil
}

// isMultus reports whether a network is that of Multus, as a plugin that is called for each pod or with a daemon.
func (n network) isMultus() bool {
	return slices.ContainsFunc(n.plugins, func(p map[string]any) bool {
		return slices.Contains([]string{"multus", "multus-shim"}, text(p, "type"))
	})
}

var ciliumSourceCheck = Kind{
	ID: "cilium-source-check", Severity: Warning,
	What: "Cilium drops the answers that pods in overlay mode send to their node from the address of an underlay NIC",
	Why:  "eth0 is Cilium's. A pod may send by it only from eth0's own address (enable-source-ip-verification, true by default), so connections from the node to the address of an underlay NIC get no answer. The NIC's LAN is not affected.",
	Remedy: `# for all pods of the cluster:
cilium config set enable-source-ip-verification false`,
}

var ciliumSocketLB = Kind{
	ID: "cilium-socket-lb", Severity: Warning,
	What:   "Cilium replaces kube-proxy, and for a pod with an underlay NIC it doesn't translate ClusterIPs, or its translation leads to the NIC's LAN",
	Why:    "Cilium's socket load balancer turns a ClusterIP into the address of a pod within connect(), before any route is looked up. Without a route of ours to the cluster's pods, the connection leaves by the NIC (cilium#43896). With bpf-lb-sock-hostns-only, nothing translates packets that pods send by a link that isn't Cilium's.",
	Remedy: "# WHAT\nmultihome repairFLAGS",
}

// cilium checks the configuration of Cilium's agent, and looks for files that it renamed.
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
		err = errors.Join(err, errors.New("there is link cilium_host, but no process cilium-agent in the node's network namespace, so its configuration is unknown"))
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

// ciliumConf is the path of the agent's --config-dir, a directory with a file for each
// key of its ConfigMap.
type ciliumConf string

// value returns the value of a key, or byDefault if it isn't set.
func (c ciliumConf) value(key, byDefault string) string {
	data, err := os.ReadFile(filepath.Join(string(c), key))
	if err != nil {
		return byDefault
	}
	return strings.TrimSpace(string(data))
}

// ciliumChecksSources adds a finding if Cilium verifies source addresses, and a route of
// ours leads to a pod by a link of Cilium's.
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

// ciliumServices adds a finding for each pod on the underlay that can't reach Services
// through Cilium. It finds nothing if there is a kube-proxy.
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

// where returns the files in which a pod's networks with our plugins are configured, or else their names.
func (n *node) where(p *pod) (out []string) {
	for _, a := range p.Attachments {
		for _, k := range n.networks {
			if k.name == a.Network && k.usesOurs() && !slices.Contains(out, k.where()) {
				out = append(out, k.where())
			}
		}
	}
	return out
}

// reaches reports whether a route of ours in the pod's table main covers all of a prefix.
// A pod without an address of that family needs no such route; reaches returns true.
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
	What: "Calico's Felix uses a routing table that is ours on the node",
	Why:  "Felix claims all tables of routeTableRanges, 1 to 250 by default, and clears those that others use (calico#5432). Then the node no longer finds its pods. Doctor sees a range in Felix' environment, which takes precedence, but none in FelixConfiguration.",
	Remedy: `# set hostRuleTable of coordinator to a table outside Felix' ranges, and recreate the pods; or exclude our table in the DaemonSet of your installation:
kubectl -n kube-system set env daemonset/calico-node FELIX_ROUTETABLERANGES=TABLES`,
}

// span is a range of tables. It includes both ends.
type span struct{ first, last int }

// calico compares our tables on the node with the ranges of Calico's Felix.
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
		n.fact("Calico", "there are its links, but no process calico-node")
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

// hostTables returns the tables that rules of ours on the node lead to.
func (n *node) hostTables() (out []int) {
	for _, r := range netstate.All[netstate.Rule](n.snapshot, host) {
		if r.Owned() && !slices.Contains(out, r.Table) {
			out = append(out, r.Table)
		}
	}
	return out
}

// spans parses ranges in the format of Felix' environment, such as 1-99,200-250. It leaves
// out ranges that it can't parse.
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

// without returns the ranges without a table, in the format of Felix' environment.
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
