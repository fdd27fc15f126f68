// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"bytes"
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

// Chain is a chain of netfilter, whoever made it. What its rules do is known of
// those that forwarded packets pass, and only as far as it is asked for here.
type Chain struct {
	Family string // as nft(8) calls it: ip, ip6, inet
	Table  string
	Name   string
	Legacy bool // of iptables' older flavour, which has nothing to do with nf_tables

	Forward bool // packets that the node forwards begin here: hook forward
	Drops   bool // what no rule decides: by its policy, or by an unconditional last rule
	// AcceptsIn and AcceptsOut are the links from which, and to which, a rule of the
	// chain lets everything pass; a '*' at the end of a name stands for any end.
	AcceptsIn, AcceptsOut []string
	DropsInvalid          bool // a rule drops what conntrack takes for invalid
}

// String names the chain as nft(8) does, or iptables(8).
func (c Chain) String() string {
	if c.Legacy {
		return map[string]string{"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}[c.Family] + " -t " + c.Table + " " + c.Name
	}
	return c.Family + " " + c.Table + " " + c.Name
}

// invalidChains are those with rules about invalid packets that packets jump to
// from hook forward: kube-proxy's.
var invalidChains = []string{"KUBE-FORWARD"}

// nftFamilies are those in which IP packets are filtered.
var nftFamilies = map[uint8]string{unix.NFPROTO_IPV4: "ip", unix.NFPROTO_IPV6: "ip6", unix.NFPROTO_INET: "inet"}

// Chains returns all chains there are for IP packets, of both flavours. What is not
// known is named in the error, which comes beside the others.
func Chains(s *kernel.Namespace) ([]Chain, error) {
	out, errNft := nftablesChains(s)
	legacy, errLegacy := legacyChains(s)
	return append(out, legacy...), errors.Join(errNft, errLegacy)
}

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
			// A chain without a hook has no type either; that of hook prerouting is 0.
			chain.Forward = h.Kind == "filter" && h.Hook == unix.NF_INET_FORWARD
			if chain.Forward || slices.Contains(invalidChains, h.Name) {
				rules, err := c.RulesOf(h)
				if err != nil {
					return out, fmt.Errorf("%s: list rules of chain %s: %w", s.NS(), chain, err)
				}
				chain.Drops = chain.Forward && h.Drops
				chain.look(rules)
			}
			out = append(out, chain)
		}
	}
	return out, nil
}

// look notes what the rules of a chain do.
func (c *Chain) look(rules []nft.Rule) {
	for i, r := range rules {
		var list []nft.Expression
		invalid := false
		for _, e := range r.Expressions {
			comment := e.Name == "match" && unix.ByteSliceToString(e.Attr(unix.NFTA_MATCH_NAME)) == "comment"
			if e.Name != "counter" && !comment {
				list = append(list, e)
			}
			invalid = invalid || isInvalid(e)
		}
		var verdict int32 = nft.NoVerdict
		if n := len(list); n > 0 && list[n-1].Name == "immediate" {
			verdict, _ = list[n-1].Verdict()
		}
		switch {
		case verdict == nft.VerdictDrop && invalid:
			c.DropsInvalid = true
		case len(list) == 1 && i == len(rules)-1 && (verdict == nft.VerdictDrop || list[0].Name == "reject"):
			c.Drops = c.Forward
		case len(list) == 3 && verdict == nft.VerdictAccept:
			c.accept(list[0], list[1])
		}
	}
}

// isInvalid reports whether an expression is the extension of iptables for the states
// of conntrack, or loads them: nobody drops packets by another of them.
func isInvalid(e nft.Expression) bool {
	return e.Name == "match" && unix.ByteSliceToString(e.Attr(unix.NFTA_MATCH_NAME)) == "conntrack" || e.Is(nft.Conntrack(unix.NFT_CT_STATE))
}

// accept notes the link that two expressions ask for: meta iifname NAME.
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

// legacyChains returns those of the tables filter and nat of the older flavour, as
// far as the namespace has these tables: to look into one would make it.
func legacyChains(s *kernel.Namespace) (out []Chain, err error) {
	err = s.Enter(func() error {
		for _, f := range netstate.Families {
			names, err := os.ReadFile(iptables.Families[f].Legacy)
			if err != nil {
				continue // the kernel has no such flavour, or nobody used it
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
				Forward: table == "filter" && words[1] == "FORWARD",
			})
		}
		i := slices.IndexFunc(out, func(c Chain) bool { return c.Name == words[1] })
		if i >= 0 && (out[i].Forward || slices.Contains(invalidChains, words[1])) {
			out[i].lookLegacy(words)
		}
	}
	return out, nil
}

// lookLegacy notes what a line says as iptables -S prints it.
func (c *Chain) lookLegacy(words []string) {
	does := func(target string) bool { return slices.Equal(words[len(words)-2:], []string{"-j", target}) }
	switch {
	case len(words) < 3:
	case words[0] == "-P":
		c.Drops = words[2] == "DROP"
	case does("DROP") && slices.Contains(words, "INVALID"):
		c.DropsInvalid = true
	case len(words) == 6 && words[2] == "-i" && does("ACCEPT"):
		c.AcceptsIn = append(c.AcceptsIn, strings.Replace(words[3], "+", "*", 1))
	case len(words) == 6 && words[2] == "-o" && does("ACCEPT"):
		c.AcceptsOut = append(c.AcceptsOut, strings.Replace(words[3], "+", "*", 1))
	}
}
