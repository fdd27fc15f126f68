// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/survey"
)

var forwardPolicy = Kind{
	ID: "forward-policy", Severity: Problem,
	What:   "a chain of hook forward drops packets that no rule accepts, and no rule accepts the links to pods",
	Why:    "Packets between pods and the rest of the world that go through the node are forwarded, so they pass this chain. Docker sets the policy of FORWARD to DROP (kubernetes#39823), and firewalls do so as well; kube-proxy accepts only packets that it marked. The table of firewalld is changed by firewall-cmd alone: since 2.2 nobody else may (firewalld#1357), and a reload makes it anew. The plugins change no firewall.",
	Remedy: "COMMANDS\n# also add these rules to the configuration that is loaded when the node or the firewall starts",
}

var inputPolicy = Kind{
	ID: "input-policy", Severity: Warning,
	What:   "a chain of hook input drops packets that no rule accepts, and no rule accepts what comes by the links to pods; a note if rules that doctor doesn't read may accept it",
	Why:    "What pods send to their node comes by these links and passes this chain: without such a rule, pods reach no port of the node that isn't open to all, and no Service with endpoints there, among them the API server's on a node of the control plane, a DNS cache on the node and pods with hostNetwork (k3s#977, microk8s#2418). The node's own connections to pods are not affected if the chain accepts answers (ct state established). It's a note if the chain jumps to another one, as ufw's and firewalld's do, or accepts packets by their addresses or by a set: doctor doesn't follow these. The plugins change no firewall.",
	Remedy: "COMMANDS\n# also add these rules to the configuration that is loaded when the node or the firewall starts",
}

var conntrackInvalid = Kind{
	ID: "conntrack-invalid", Severity: Note,
	What:   "packets that conntrack considers invalid are dropped; a warning if a pod is in overlay mode",
	Why:    "A connection breaks if the node sees only one of its directions. With net.netfilter.nf_conntrack_tcp_be_liberal=0, conntrack considers packets outside of its window invalid, and kube-proxy in mode iptables drops them, unless the setting was 1 when kube-proxy started (kubernetes#94861, #120412). A pod whose first NIC is on the underlay answers through the node what came through the node. In overlay mode, the answers to packets that the node forwards to the NIC's address leave by the NIC, so the node doesn't see them.",
	Remedy: "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1",
}

// netfilter checks the chains that forwarded packets pass, and those that packets to the
// node pass.
func netfilter(n *node) error {
	for _, c := range n.chains {
		switch {
		case c.Forward && c.Drops:
			n.forwardPolicy(c)
		case c.Input && c.Drops:
			n.inputPolicy(c)
		}
	}
	i := slices.IndexFunc(n.chains, func(c survey.Chain) bool { return c.DropsInvalid })
	if i < 0 {
		return nil
	}
	liberal, err := sysctl("netfilter/nf_conntrack_tcp_be_liberal")
	if err != nil || liberal != 0 {
		return err
	}
	k := conntrackInvalid
	if slices.ContainsFunc(n.pods, pod.isOverlay) {
		k.Severity = Warning
	}
	n.found(k, fmt.Sprintf("chain %s drops invalid packets, and net.netfilter.nf_conntrack_tcp_be_liberal is 0", n.chains[i]))
	return nil
}

// isOverlay reports whether the pod reaches its node by a link of another CNI, so that
// nothing marks replies: it has rules of ours, but none that asks for a mark.
func (p pod) isOverlay() bool {
	owned := func(r netstate.Rule) bool { return r.Owned() }
	rules := netstate.All[netstate.Rule](p.snapshot, inPod)
	return slices.ContainsFunc(rules, owned) && !slices.ContainsFunc(rules, func(r netstate.Rule) bool { return r.Owned() && r.Mask != 0 })
}

// forwardPolicy adds a finding if a chain doesn't accept all links to pods, in both
// directions.
func (n *node) forwardPolicy(c survey.Chain) {
	missing := append(n.unaccepted(c, "i", c.AcceptsIn), n.unaccepted(c, "o", c.AcceptsOut)...)
	if len(missing) == 0 {
		return
	}
	slices.Sort(missing)
	if c.Table == firewalld {
		missing = firewallCommands(n.podLinks(), true)
	}
	n.found(forwardPolicy, fmt.Sprintf("chain %s drops what is forwarded from or to %s", c, strings.Join(n.podLinks(), ", ")), "COMMANDS", strings.Join(missing, "\n"))
}

// inputPolicy adds a finding if a chain doesn't accept what comes to the node by all links
// to pods.
func (n *node) inputPolicy(c survey.Chain) {
	missing := n.unaccepted(c, "i", c.AcceptsIn)
	if len(missing) == 0 {
		return
	}
	if c.Table == firewalld {
		missing = firewallCommands(n.podLinks(), false)
	}
	k, does := inputPolicy, "drops"
	if c.MayAccept {
		k.Severity, does = Note, "drops, unless a rule that doctor doesn't read accepts it,"
	}
	n.found(k, fmt.Sprintf("chain %s %s what comes to the node from %s", c, does, strings.Join(n.podLinks(), ", ")), "COMMANDS", strings.Join(missing, "\n"))
}

// firewalld is the table of firewalld. Nobody else may write to it (NftablesTableOwner), and a reload makes it anew.
const firewalld = "firewalld"

// firewallCommands returns the commands that put links into firewalld's zone trusted, and have it forward to them.
func firewallCommands(links []string, forward bool) (out []string) {
	for _, link := range links {
		out = append(out, "firewall-cmd --permanent --zone=trusted --add-interface="+strings.Replace(link, "*", "+", 1))
	}
	if forward {
		const policy = "firewall-cmd --permanent --policy=multihome "
		out = append(out, "firewall-cmd --permanent --new-policy=multihome", policy+"--add-ingress-zone=ANY", policy+"--add-egress-zone=trusted", policy+"--set-target=ACCEPT")
	}
	return append(out, "firewall-cmd --reload")
}

// unaccepted returns the commands that make a chain accept the links to pods, from ("i") or
// to ("o") which it accepts only those of a list.
func (n *node) unaccepted(c survey.Chain, dir string, accepts []string) (out []string) {
	for _, link := range n.podLinks() {
		if !slices.ContainsFunc(accepts, func(a string) bool { return covers(a, link) }) {
			out = append(out, acceptance(c, dir, link))
		}
	}
	return out
}

// podLinks returns the names of this suite's links to pods on the node. A '*' stands for
// any ending.
func (n *node) podLinks() []string {
	out := []string{"veth*"}
	for _, l := range netstate.All[netstate.Link](n.snapshot, host) {
		if l.Owned() && l.Type == "macvlan" {
			out = append(out, l.Name)
		}
	}
	return out
}

// covers reports whether a pattern covers a name. A '*' at its end stands for any ending;
// the name may have one as well.
func covers(pattern, name string) bool {
	prefix, open := strings.CutSuffix(pattern, "*")
	return pattern == name || open && strings.HasPrefix(name, prefix)
}

// acceptance returns the command that makes a chain accept packets from ("i") or to ("o")
// a link. It uses iptables for the tables of iptables, because iptables may not
// understand rules that nft adds to them.
func acceptance(c survey.Chain, dir, link string) string {
	program := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[c.Family]
	if c.Legacy {
		program += "-legacy"
	}
	if (c.Name == "FORWARD" || c.Name == "INPUT") && program != "" {
		return fmt.Sprintf("%s -t %s -I %s -%s %s -j ACCEPT", program, c.Table, c.Name, dir, strings.Replace(link, "*", "+", 1))
	}
	return fmt.Sprintf("nft insert rule %s %s %s %sifname '\"%s\"' accept", c.Family, c.Table, c.Name, dir, link)
}

var kubeProxyModes = Kind{
	ID: "kube-proxy-modes", Severity: Warning,
	What: "there are rules of several modes of kube-proxy",
	Why:  "kube-proxy removes the rules of another mode only when it is told to. The old rules still translate Services to pods that are long gone.",
	Remedy: `kube-proxy --cleanup
# and restart this node's pod of kube-proxy`,
}

// kubeProxy reports the mode of kube-proxy, and adds a finding if there are several.
func kubeProxy(n *node) error {
	modes := n.kubeProxyModes()
	switch len(modes) {
	case 0:
		n.fact("kube-proxy", "none")
	case 1:
		n.fact("kube-proxy", "%s", modes[0])
	default:
		n.fact("kube-proxy", "%s", strings.Join(modes, " and "))
		n.found(kubeProxyModes, "there are rules of the modes "+strings.Join(modes, " and "))
	}
	return nil
}

// kubeProxyModes returns the modes in which kube-proxy left something on this node. Each
// mode makes objects of its own: chains for each Service (pkg/proxy/iptables), a link
// that holds the addresses of all Services (pkg/proxy/ipvs), or a table
// (pkg/proxy/nftables).
func (n *node) kubeProxyModes() (modes []string) {
	if slices.ContainsFunc(n.chains, func(c survey.Chain) bool {
		return c.Table == "nat" && (strings.HasPrefix(c.Name, "KUBE-SVC-") || strings.HasPrefix(c.Name, "KUBE-SEP-"))
	}) {
		modes = append(modes, "iptables")
	}
	if _, ok := n.link("kube-ipvs0"); ok {
		modes = append(modes, "ipvs")
	}
	if slices.ContainsFunc(n.chains, func(c survey.Chain) bool { return c.Table == "kube-proxy" }) {
		modes = append(modes, "nftables")
	}
	return modes
}

var notMasqueraded = Kind{
	ID: "not-masqueraded", Severity: Problem,
	What:   "kube-proxy doesn't masquerade a pod's packets to Services with endpoints in the pod's own LAN",
	Why:    "The endpoint is on another node and sees the pod's address, which is in its own subnet. So it answers the pod directly, past the pod's node, and with its own address instead of the Service's. The pod never connected to that address and resets the connection. kube-proxy masquerades packets from outside of the cluster's pod range (--cluster-cidr, --detect-local-mode), so there must be such a range, and the LAN of underlay pods must not be in it (pkg/proxy/util/localdetector.go); masqueradeAll masquerades packets of all sources. Endpoints on this node answer through their node and need nothing.",
	Remedy: `# in kube-proxy's configuration, on all nodes: set a clusterCIDR without SUBNET, or iptables.masqueradeAll (nftables.masqueradeAll) to true; then restart kube-proxy`,
}

// endpoints looks for endpoints of Services that are on other nodes and in the LAN of a
// pod on this node: they answer the pod directly, past this node.
func endpoints(n *node) error {
	for _, f := range families {
		b, err := survey.ReadBackends(n.kernel.Host, f)
		if err != nil {
			return err
		}
		elsewhere := slices.DeleteFunc(b.Endpoints, n.isHere)
		for i := range n.pods {
			p := &n.pods[i]
			if p.isOverlay() {
				continue // it reaches Services from an address of the overlay
			}
			for _, a := range p.addrs("") {
				i := slices.IndexFunc(elsewhere, a.Prefix.Contains)
				if netstate.FamilyOf(a.Prefix.Addr()) != f || i < 0 || b.Masquerade(a.Prefix.Addr()) {
					continue
				}
				n.foundIn(p, notMasqueraded, fmt.Sprintf("%s on %s is not masqueraded, and %s is an endpoint in its subnet", a.Prefix, a.Dev, elsewhere[i]), "SUBNET", a.Prefix.Masked().String())
			}
		}
	}
	return nil
}

// isHere reports whether an address belongs to the node or to one of its pods.
func (n *node) isHere(addr netip.Addr) bool {
	has := func(a netstate.Addr) bool { return a.Prefix.Addr() == addr }
	return slices.ContainsFunc(netstate.All[netstate.Addr](n.snapshot, host), has) ||
		slices.ContainsFunc(netstate.All[netstate.Route](n.snapshot, host), func(r netstate.Route) bool { return r.Owned() && r.Dst == netstate.Single(addr) }) ||
		slices.ContainsFunc(n.pods, func(p pod) bool { return slices.ContainsFunc(p.addrs(""), has) })
}
