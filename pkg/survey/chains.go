// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/iptables"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
)

// Chain is a chain of netfilter, made by any software. The fields about its rules are
// set only for chains that forwarded packets pass, and for those that packets to the node
// pass.
type Chain struct {
	Family string // in nft(8): ip, ip6, inet
	Table  string
	Name   string
	Legacy bool // of iptables-legacy, which does not use nf_tables

	Forward bool // a base chain of hook forward
	Input   bool // a base chain of hook input
	Drops   bool // drops packets that no other rule decides on: by its policy or its last rule
	// AcceptsIn and AcceptsOut are links from which, and to which, a rule of the chain, or of one to
	// which it jumps, accepts all packets. A '*' at the end of a name stands for any end.
	AcceptsIn, AcceptsOut []string
	// MayAccept tells that rules accept packets by what isn't read: by their addresses or a
	// set, or in another chain to which the chain jumps. It's set for hook input only.
	MayAccept    bool
	DropsInvalid bool // a rule drops forwarded packets in conntrack state invalid
}

// String returns the chain's name as nft(8) or iptables(8) writes it.
func (c Chain) String() string {
	if c.Legacy {
		return map[string]string{"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}[c.Family] + " -t " + c.Table + " " + c.Name
	}
	return c.Family + " " + c.Table + " " + c.Name
}

// invalidChains lists chains, reached from hook forward, with rules about invalid
// packets. They are kube-proxy's.
var invalidChains = []string{"KUBE-FORWARD"}

// portChains lists chains of kube-proxy and kubelet, reached from hook input, that accept
// packets to ports at most.
var portChains = []string{"KUBE-EXTERNAL-SERVICES", "KUBE-FIREWALL", "KUBE-NODEPORTS", "KUBE-NODE-PORT", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL"}

// otherMatches lists extensions of iptables that tell nothing about where a packet comes
// from, or goes to, but its port.
var otherMatches = []string{"comment", "conntrack", "state", "tcp", "udp", "multiport", "icmp", "icmp6", "limit", "pkttype"}

// nftFamilies names the families of nftables that filter IP packets.
var nftFamilies = map[uint8]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet"}

// Chains returns all chains for IP packets, of nf_tables and of iptables-legacy. If some
// can't be read, it returns the others with an error that names what is missing.
func Chains(s *kernel.Namespace) ([]Chain, error) {
	out, errNft := nftablesChains(s)
	legacy, errLegacy := legacyChains(s)
	return append(out, legacy...), errors.Join(errNft, errLegacy)
}

// nftablesChains returns the chains of nf_tables.
func nftablesChains(s *kernel.Namespace) ([]Chain, error) {
	c, err := s.Nft()
	var tables []nft.Table
	if err == nil {
		tables, err = c.Tables()
	}
	if kernel.NoNftables(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: list tables of nftables: %w", s.NS(), err)
	}
	var out []Chain
	for _, t := range tables {
		if nftFamilies[t.Family] == "" {
			continue
		}
		chains, err := c.Chains(t)
		if err != nil {
			return out, fmt.Errorf("%s: list chains of table %s %s: %w", s.NS(), nftFamilies[t.Family], t.Name, err)
		}
		for _, h := range chains {
			chain := Chain{Family: nftFamilies[t.Family], Table: t.Name, Name: h.Name}
			// A chain without a hook has no type. Check the type, because the number of
			// hook prerouting is 0.
			chain.Forward = h.Kind == "filter" && h.Hook == unix.NF_INET_FORWARD
			chain.Input = h.Kind == "filter" && h.Hook == unix.NF_INET_LOCAL_IN
			if chain.isBase() || slices.Contains(invalidChains, h.Name) {
				rules, err := c.RulesOf(h)
				if err != nil {
					return out, fmt.Errorf("%s: list rules of chain %s: %w", s.NS(), chain, err)
				}
				chain.Drops = chain.isBase() && h.Drops
				chain.look(rules)
			}
			if chain.isBase() {
				if err := chain.addReached(func(name string) ([]nft.Rule, error) { return c.RulesOf(nft.Chain{Table: t, Name: name}) }); err != nil {
					return out, fmt.Errorf("%s: list rules that chain %s leads to: %w", s.NS(), chain, err)
				}
			}
			out = append(out, chain)
		}
	}
	return out, nil
}

// isBase reports whether it is a base chain that is read.
func (c Chain) isBase() bool { return c.Forward || c.Input }

// look sets the fields about rules.
func (c *Chain) look(rules []nft.Rule) {
	for i, r := range rules {
		list, verdict, target := parts(r)
		invalid := slices.ContainsFunc(list, isInvalid)
		decides := verdict == nft.VerdictAccept || len(list) > 0 && list[len(list)-1].Name == "lookup" // a map of verdicts
		if c.Input && (target != "" && !slices.Contains(portChains, target) || decides && isUnread(list)) {
			c.MayAccept = true
		}
		switch {
		case verdict == nft.VerdictDrop && invalid:
			c.DropsInvalid = !c.Input
		case len(list) == 1 && i == len(rules)-1 && (verdict == nft.VerdictDrop || list[0].Name == "reject"):
			c.Drops = c.isBase()
		case len(list) == 1 && verdict == nft.VerdictAccept:
			c.AcceptsIn, c.AcceptsOut = append(c.AcceptsIn, "*"), append(c.AcceptsOut, "*")
		case len(list) == 3 && verdict == nft.VerdictAccept:
			c.accept(list[0], list[1])
		}
	}
}

// parts returns the expressions of a rule, without those that neither match nor decide, and the verdict that is
// last.
func parts(r nft.Rule) (list []nft.Expression, verdict int32, target string) {
	for _, e := range r.Expressions {
		comment := e.Name == "match" && unix.ByteSliceToString(e.Attr(unix.NFTA_MATCH_NAME)) == "comment"
		if e.Name != "counter" && !comment {
			list = append(list, e)
		}
	}
	verdict = nft.NoVerdict
	if n := len(list); n > 0 && list[n-1].Name == "immediate" {
		verdict, target = list[n-1].Verdict()
	}
	return list, verdict, target
}

// addReached adds the links from which and to which chains accept all packets that this one jumps to, as those of
// firewalld's zones do.
func (c *Chain) addReached(rulesOf func(chain string) ([]nft.Rule, error)) error {
	reached, err := reach(c.Name, rulesOf)
	for _, both := range [][2]*[]string{{&c.AcceptsIn, &reached.AcceptsIn}, {&c.AcceptsOut, &reached.AcceptsOut}} {
		for _, name := range *both[1] {
			if !slices.Contains(*both[0], name) {
				*both[0] = append(*both[0], name)
			}
		}
	}
	return err
}

// reach returns a chain with the links from which and to which its rules accept all packets: there, or in chains
// to which they jump with all packets, or with all of a link. It stops at a rule that decides on all. Above are
// the chains that led there.
func reach(name string, rulesOf func(chain string) ([]nft.Rule, error), above ...string) (c Chain, err error) {
	rules, err := rulesOf(name)
	if err != nil {
		return c, err
	}
	above = append(slices.Clip(above), name)
	for _, r := range rules {
		list, verdict, target := parts(r)
		all, link := len(list) == 1, len(list) == 3
		var next Chain
		if target != "" && (all || link) && !slices.Contains(above, target) {
			if next, err = reach(target, rulesOf, above...); err != nil {
				return c, err
			}
		}
		accepts := verdict == nft.VerdictAccept || slices.Contains(next.AcceptsIn, "*")
		switch {
		case accepts && all:
			c.AcceptsIn, c.AcceptsOut = append(c.AcceptsIn, "*"), append(c.AcceptsOut, "*")
			return c, nil
		case accepts && link:
			c.accept(list[0], list[1])
		case all && target != "":
			c.AcceptsIn, c.AcceptsOut = append(c.AcceptsIn, next.AcceptsIn...), append(c.AcceptsOut, next.AcceptsOut...)
		case all && (verdict != nft.NoVerdict || list[0].Name == "reject"):
			return c, nil
		}
	}
	return c, nil
}

// isInvalid reports whether an expression matches or loads the state of conntrack.
// The state itself is not read: in practice rules only drop packets of state invalid.
func isInvalid(e nft.Expression) bool {
	return e.Name == "match" && unix.ByteSliceToString(e.Attr(unix.NFTA_MATCH_NAME)) == "conntrack" || e.Is(nft.Conntrack(unix.NFT_CT_STATE))
}

// isUnread reports whether the expressions of a rule that accepts say, in a way that isn't
// read, where a packet comes from or goes to: by its addresses, or by a set of links.
func isUnread(list []nft.Expression) bool {
	for i, e := range list {
		switch e.Name {
		case "match":
			if !slices.Contains(otherMatches, unix.ByteSliceToString(e.Attr(unix.NFTA_MATCH_NAME))) {
				return true
			}
		case "meta":
			byName, byIndex := e.Is(nft.Meta(unix.NFT_META_IIFNAME)), e.Is(nft.Meta(unix.NFT_META_IIF))
			if (byName || byIndex) && i+1 < len(list) && list[i+1].Name == "lookup" {
				return true
			}
		case "payload":
			// The fields before the addresses are the protocol, the TTL and their like.
			const saddr6, saddr4 = 8, 12
			ip := e.Is(nft.Expression{Name: "payload", Attrs: []nft.Attribute{nft.Number32(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_NETWORK_HEADER)}})
			if offset := e.Attr(unix.NFTA_PAYLOAD_OFFSET); ip && len(offset) == 4 {
				if n := binary.BigEndian.Uint32(offset); n == saddr6 || n >= saddr4 {
					return true
				}
			}
		}
	}
	return false
}

// accept adds the link that two expressions match: meta iifname NAME or oifname NAME.
func (c *Chain) accept(load, cmp nft.Expression) {
	var name string
	netlink.Attrs(cmp.Attr(unix.NFTA_CMP_DATA), func(typ uint16, v []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			name = unix.ByteSliceToString(v)
			if !bytes.ContainsRune(v, 0) {
				name += "*"
			}
		}
	})
	switch {
	case name == "" || !cmp.Is(nft.Expression{Name: "cmp", Attrs: []nft.Attribute{nft.Number32(unix.NFTA_CMP_OP, unix.NFT_CMP_EQ)}}):
	case load.Is(nft.Meta(unix.NFT_META_IIFNAME)):
		c.AcceptsIn = append(c.AcceptsIn, name)
	case load.Is(nft.Meta(unix.NFT_META_OIFNAME)):
		c.AcceptsOut = append(c.AcceptsOut, name)
	}
}

// legacyChains returns the chains of iptables-legacy's tables filter and nat. It skips
// a table that does not exist: listing it would create it.
func legacyChains(s *kernel.Namespace) (out []Chain, err error) {
	err = s.Enter(func() error {
		for _, f := range netstate.Families {
			names, err := os.ReadFile(iptables.Families[f].Legacy)
			if err != nil {
				continue // the kernel has no iptables-legacy, or no program used it
			}
			for _, table := range []string{"filter", "nat"} {
				if !slices.Contains(strings.Fields(string(names)), table) {
					continue
				}
				chains, err := legacyChainsOf(f, table)
				if err != nil {
					return fmt.Errorf("%s: list chains of iptables-legacy's table %s: %w", s.NS(), table, err)
				}
				out = append(out, chains...)
			}
		}
		return nil
	})
	return out, err
}

// legacyChainsOf returns the chains of a table of iptables-legacy.
func legacyChainsOf(f netstate.Family, table string) ([]Chain, error) {
	program, err := iptables.FirstInPath(iptables.Families[f].Program+"-legacy", iptables.Families[f].Program)
	if err != nil {
		return nil, err
	}
	lines, err := iptables.Run("", program, "-t", table, "-S")
	if err != nil {
		return nil, err
	}
	var out []Chain
	for _, line := range lines {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		if words[0] == "-P" || words[0] == "-N" { // all of them come before the rules
			out = append(out, Chain{
				Family: nftFamilies[iptables.Families[f].Nft.Family], Table: table, Name: words[1], Legacy: true,
				Forward: table == "filter" && words[1] == "FORWARD", Input: table == "filter" && words[1] == "INPUT",
			})
		}
		i := slices.IndexFunc(out, func(c Chain) bool { return c.Name == words[1] })
		if i >= 0 && (out[i].isBase() || slices.Contains(invalidChains, words[1])) {
			out[i].lookLegacy(words)
			// All chains come before the rules.
			jumps := slices.ContainsFunc(out, func(c Chain) bool { return c.Name == words[len(words)-1] && !slices.Contains(portChains, c.Name) })
			out[i].MayAccept = out[i].MayAccept || out[i].Input && words[0] == "-A" && (jumps || isUnreadLegacy(words))
		}
	}
	return out, nil
}

// isUnreadLegacy reports whether a rule, by the words of iptables -S, accepts packets by
// their addresses, or by an extension that isn't read.
func isUnreadLegacy(words []string) bool {
	if words[len(words)-1] != "ACCEPT" {
		return false
	}
	for i, w := range words {
		if w == "-s" || w == "-d" || w == "-m" && !slices.Contains(otherMatches, words[i+1]) {
			return true
		}
	}
	return false
}

// lookLegacy sets the fields about rules by the words of a line of iptables -S.
func (c *Chain) lookLegacy(words []string) {
	does := func(target string) bool { return slices.Equal(words[len(words)-2:], []string{"-j", target}) }
	switch {
	case len(words) < 3:
	case words[0] == "-P":
		c.Drops = words[2] == "DROP"
	case does("DROP") && slices.Contains(words, "INVALID"):
		c.DropsInvalid = !c.Input
	case len(words) == 4 && does("ACCEPT"):
		c.AcceptsIn, c.AcceptsOut = append(c.AcceptsIn, "*"), append(c.AcceptsOut, "*")
	case len(words) == 6 && words[2] == "-i" && does("ACCEPT"):
		c.AcceptsIn = append(c.AcceptsIn, strings.Replace(words[3], "+", "*", 1))
	case len(words) == 6 && words[2] == "-o" && does("ACCEPT"):
		c.AcceptsOut = append(c.AcceptsOut, strings.Replace(words[3], "+", "*", 1))
	}
}
