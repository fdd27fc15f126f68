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
	What:   "a chain of hook forward drops what no rule accepts, and none accepts the links to pods",
	Why:    "What pods and the rest of the world send each other by the node is forwarded. Docker sets FORWARD to DROP (kubernetes#39823), firewalls do as well; kube-proxy accepts only what it marked. The plugins change no firewall.",
	Remedy: "COMMANDS\n# and the same where these rules are made from when the node starts, or the firewall is loaded again",
}

var conntrackInvalid = Kind{
	ID: "conntrack-invalid", Severity: Note,
	What:   "packets that conntrack takes for invalid are dropped; a warning with a pod in overlay mode",
	Why:    "A connection of which the node sees one direction only is cut: with net.netfilter.nf_conntrack_tcp_be_liberal=0, conntrack takes what is out of its window for invalid, and kube-proxy in mode iptables drops that, unless the setting was 1 when it started (kubernetes#94861, #120412). Pods whose first NIC is on the underlay answer by their node what came by it. In overlay mode the NIC answers what the node forwards to its address.",
	Remedy: "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1",
}

// netfilter looks at the chains that forwarded packets pass.
func netfilter(n *node) error {
	for _, c := range n.chains {
		if c.Forward && c.Drops {
			n.forwardPolicy(c)
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

// isOverlay reports whether the pod's own routes to its node are by a link of another
// CNI, so that nothing marks replies.
func (p pod) isOverlay() bool {
	owned := func(r netstate.Rule) bool { return r.Owned() }
	rules := netstate.All[netstate.Rule](p.snapshot, inPod)
	return slices.ContainsFunc(rules, owned) && !slices.ContainsFunc(rules, func(r netstate.Rule) bool { return r.Owned() && r.Mask != 0 })
}

// forwardPolicy wants a chain to accept all links to pods, in both directions.
func (n *node) forwardPolicy(c survey.Chain) {
	var missing []string
	for _, link := range n.podLinks() {
		for dir, accepts := range map[string][]string{"i": c.AcceptsIn, "o": c.AcceptsOut} {
			if !slices.ContainsFunc(accepts, func(a string) bool { return covers(a, link) }) {
				missing = append(missing, acceptance(c, dir, link))
			}
		}
	}
	if len(missing) == 0 {
		return
	}
	slices.Sort(missing)
	n.found(forwardPolicy, fmt.Sprintf("chain %s drops what is forwarded from or to %s", c, strings.Join(n.podLinks(), ", ")), "COMMANDS", strings.Join(missing, "\n"))
}

// podLinks are the node's ends of links to pods, as far as they are this suite's.
func (n *node) podLinks() []string {
	out := []string{"veth*"}
	for _, l := range netstate.All[netstate.Link](n.snapshot, host) {
		if l.Owned() && l.Type == "macvlan" {
			out = append(out, l.Name)
		}
	}
	return out
}

// covers reports whether a name, whose '*' stands for any end, covers another one.
func covers(by, name string) bool {
	prefix, open := strings.CutSuffix(by, "*")
	return by == name || open && strings.HasPrefix(name, prefix)
}

// acceptance is the command by which a chain accepts what comes from ("i") or goes to
// ("o") a link. Tables of iptables are changed by iptables, which doesn't like others
// to do it.
func acceptance(c survey.Chain, dir, link string) string {
	program := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[c.Family]
	if c.Legacy {
		program += "-legacy"
	}
	if c.Name == "FORWARD" && program != "" {
		return fmt.Sprintf("%s -t %s -I %s -%s %s -j ACCEPT", program, c.Table, c.Name, dir, strings.Replace(link, "*", "+", 1))
	}
	return fmt.Sprintf("nft insert rule %s %s %s %sifname '\"%s\"' accept", c.Family, c.Table, c.Name, dir, link)
}

var kubeProxyModes = Kind{
	ID: "kube-proxy-modes", Severity: Warning,
	What: "the rules of several modes of kube-proxy are there",
	Why:  "kube-proxy removes what another mode left only when it is told to: the older rules translate Services to pods that are long gone.",
	Remedy: `kube-proxy --cleanup
# and restart this node's pod of kube-proxy`,
}

// kubeProxy tells the mode of kube-proxy by what each alone makes: chains for each
// Service (pkg/proxy/iptables), a link that holds all their addresses (pkg/proxy/ipvs),
// a table of its own (pkg/proxy/nftables).
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
	What:   "kube-proxy doesn't masquerade what a pod sends to Services with endpoints in the pod's own LAN",
	Why:    "The endpoint is on another node and sees the pod's address, which is in its own subnet: it answers past the pod's node, from an address that the pod never asked, and the pod resets that. kube-proxy masquerades what comes from outside of the cluster's pod range (--cluster-cidr, --detect-local-mode), so the LAN of underlay pods must not be in that range, and there must be one (pkg/proxy/util/localdetector.go); masqueradeAll does it for all sources. Endpoints on this node answer by their node, and need nothing.",
	Remedy: `# in kube-proxy's configuration, of all nodes: a clusterCIDR without SUBNET, or iptables.masqueradeAll (nftables.masqueradeAll) true; then restart kube-proxy`,
}

// endpoints looks for those in the LANs of pods on this node that would answer past it.
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
				continue // asks from an address of the overlay
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

// isHere reports whether an address is the node's or one of its pods'.
func (n *node) isHere(addr netip.Addr) bool {
	has := func(a netstate.Addr) bool { return a.Prefix.Addr() == addr }
	return slices.ContainsFunc(netstate.All[netstate.Addr](n.snapshot, host), has) ||
		slices.ContainsFunc(netstate.All[netstate.Route](n.snapshot, host), func(r netstate.Route) bool { return r.Owned() && r.Dst == netstate.Single(addr) }) ||
		slices.ContainsFunc(n.pods, func(p pod) bool { return slices.ContainsFunc(p.addrs(""), has) })
}
