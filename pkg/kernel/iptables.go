// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/coreos/go-iptables/iptables"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// xtablesWait is how many seconds a program waits for the lock that those of
// the legacy flavour share on a node.
const xtablesWait = 30

// xtables is the iptables of one address family.
var xtables = map[netstate.Family]struct {
	program  string
	protocol iptables.Protocol
	nft      nftTable // the one that programs of the nft flavour call mangle
	legacy   string   // lists the tables of the legacy flavour that a namespace has
}{
	netstate.IPv4: {"iptables", iptables.ProtocolIPv4, nftTable{unix.NFPROTO_IPV4, netstate.MangleTable}, "/proc/thread-self/net/ip_tables_names"},
	netstate.IPv6: {"ip6tables", iptables.ProtocolIPv6, nftTable{unix.NFPROTO_IPV6, netstate.MangleTable}, "/proc/thread-self/net/ip6_tables_names"},
}

// programFor returns the program to make chains with: what the node calls
// iptables, whose flavour is its administrator's choice, unless that may be one
// that needs nf_tables and the kernel's can't serve it.
func (s *Space) programFor(f netstate.Family) (string, error) {
	name := xtables[f].program
	lacks, err := s.holds(xtables[f].nft.family)
	if err != nil {
		return "", err
	}
	if lacks == nil {
		return name, inPath(name)
	}
	return firstInPath(name+"-legacy", name)
}

// firstInPath returns the first program that is there; the error names the last
// one, which every node has that has any.
func firstInPath(names ...string) (name string, err error) {
	for _, name = range names {
		if err = inPath(name); err == nil {
			return name, nil
		}
	}
	return "", err
}

func inPath(name string) error {
	_, err := exec.LookPath(name)
	return err
}

// Chains of ours may be of either flavour, whichever the node's iptables was when
// they were made. To find them no program is run: they are looked for at every
// ADD and DEL, and hardly ever is there one.

// nftChains returns those of our chains that nf_tables holds.
func (s *Space) nftChains(f netstate.Family) ([]nftChain, error) {
	have, err := s.listTables()
	if err != nil || !have.hasNft(xtables[f].nft) {
		return nil, err
	}
	chains, err := s.nftConn.nftChains(xtables[f].nft)
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	return slices.DeleteFunc(chains, func(c nftChain) bool {
		return !slices.ContainsFunc(netstate.Mark{}.Chains(), func(ours netstate.MarkChain) bool { return ours.Name == c.name })
	}), nil
}

// legacyTables returns the families in which somebody uses table mangle of the
// legacy flavour in the namespace. To look into it would make it.
func (s *Space) legacyTables() (map[netstate.Family]bool, error) {
	out := map[netstate.Family]bool{}
	err := s.enter(func() error {
		for f, x := range xtables {
			fd, err := unix.Open(x.legacy, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if errors.Is(err, unix.ENOENT) {
				continue // the kernel has no such flavour
			}
			if err != nil {
				return fmt.Errorf("%s: %w", x.legacy, err)
			}
			var buf [256]byte // names of at most 32 bytes, and there are five of them
			n, err := unix.Read(fd, buf[:])
			_ = unix.Close(fd)
			if err != nil {
				return fmt.Errorf("%s: %w", x.legacy, err)
			}
			out[f] = slices.Contains(strings.Fields(string(buf[:n])), netstate.MangleTable)
		}
		return nil
	})
	return out, err
}

// legacyProgram returns the program to look with into table mangle of the legacy
// flavour, "" if there is none. Without a program nobody of this node made chains
// there.
func (s *Space) legacyProgram(f netstate.Family) (string, error) {
	have, err := s.listTables()
	if err != nil || !have.legacy[f] {
		return "", err
	}
	name := xtables[f].program
	for _, program := range []string{name + "-legacy", name} {
		if inPath(program) == nil {
			return program, nil
		}
	}
	return "", nil
}

// mangle is table mangle of one address family, by one program. Its methods
// run that in the namespace of the calling thread.
type mangle struct{ *iptables.IPTables }

// withMangle runs f with the thread in the namespace, from where the program is
// started, which thus is in it as well.
func (s *Space) withMangle(family netstate.Family, program string, f func(m mangle) error) error {
	return s.enter(func() error {
		x := s.xtables[program]
		if x == nil {
			var err error
			x, err = iptables.New(iptables.IPFamily(xtables[family].protocol), iptables.Path(program), iptables.Timeout(xtablesWait))
			if err != nil {
				return fmt.Errorf("%s: %w", program, err)
			}
			if s.xtables == nil {
				s.xtables = map[string]*iptables.IPTables{}
			}
			s.xtables[program] = x
		}
		return tidied(f(mangle{x}))
	})
}

// tidied is an error without the line ends that programs put behind it.
func tidied(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), " "))
}

// missing reports whether a program failed because a chain isn't there. It is
// not asked by its words: iptables-nft 1.8.9 calls such a chain incompatible.
func missing(err error) bool {
	var e *iptables.Error
	return errors.As(err, &e) && e.ExitStatus() == 1
}

// readChains is ReadMark of our chains.
func (s *Space) readChains(snap *netstate.Snapshot, want netstate.Mark) error {
	var programs []string
	chains, err := s.nftChains(want.Family)
	if err != nil {
		return err
	}
	if len(chains) > 0 {
		name := xtables[want.Family].program
		program, err := firstInPath(name+"-nft", name)
		if err != nil {
			return fmt.Errorf("%s: read %s table %s: %w", s.ns, want.Kind(), netstate.MangleTable, err)
		}
		programs = append(programs, program)
	}
	program, err := s.legacyProgram(want.Family)
	if err != nil {
		return err
	}
	if program != "" && !slices.Contains(programs, program) {
		programs = append(programs, program)
	}
	for _, program := range programs {
		found := false
		err := s.withMangle(want.Family, program, func(m mangle) (err error) {
			found, want.Damage, err = m.compare(want.Chains())
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: read %s table %s: %w", s.ns, want.Kind(), netstate.MangleTable, err)
		}
		if found {
			snap.Put(s.ns, want)
			return nil
		}
	}
	return nil
}

// compare reports whether the first of our chains is there, and says what of
// them all is missing or beyond what there should be.
func (m mangle) compare(want []netstate.MarkChain) (found bool, damage string, err error) {
	var all []string
	for i, c := range want {
		listed, err := m.List(netstate.MangleTable, c.Name)
		switch {
		case missing(err) && i == 0:
			return false, "", nil
		case missing(err):
			all = append(all, "no -N "+c.Name)
			continue // nothing can jump to it
		case err != nil:
			return false, "", err
		}
		differs, err := m.differs(c, listed[1:])
		if err != nil {
			return false, "", err
		}
		all = append(all, differs...)
		jumps, err := m.Exists(netstate.MangleTable, c.From, strings.Fields(c.Jump())...)
		if err != nil {
			return false, "", err
		}
		if !jumps {
			all = append(all, "no -A "+c.From+" "+c.Jump())
		}
	}
	return true, strings.Join(all, ", "), nil
}

// differs compares a chain's rules with those that are listed. A rule that is
// not listed in our words is looked for by the program, for its version may have
// others.
func (m mangle) differs(c netstate.MarkChain, listed []string) ([]string, error) {
	var out []string
	other := 0 // rules of ours in other words
	for _, rule := range c.Rules {
		if slices.Contains(listed, "-A "+c.Name+" "+rule) {
			continue
		}
		there, err := m.Exists(netstate.MangleTable, c.Name, strings.Fields(rule)...)
		if err != nil {
			return nil, err
		}
		if there {
			other++
			continue
		}
		out = append(out, "no -A "+c.Name+" "+rule)
	}
	for _, line := range listed {
		switch ours := slices.ContainsFunc(c.Rules, func(rule string) bool { return line == "-A "+c.Name+" "+rule }); {
		case ours:
		case other > 0:
			other--
		default:
			out = append(out, "also "+line)
		}
	}
	return out, nil
}

// applyChains removes our chains from wherever they are, and makes them anew.
func (s *Space) applyChains(op netstate.Op) error {
	mark := op.Object().(netstate.Mark)
	if op.Before != nil {
		if err := s.removeNftChains(mark.Family); err != nil {
			return err
		}
		program, err := s.legacyProgram(mark.Family)
		if err != nil {
			return err
		}
		if program != "" {
			s.tables = nil
			if err := s.withMangle(mark.Family, program, func(m mangle) error { return m.remove(mark.Chains()) }); err != nil {
				return err
			}
		}
	}
	if op.After == nil || mark.Damage != "" {
		return nil
	}
	program, err := s.programFor(mark.Family)
	if err != nil {
		return err
	}
	s.tables = nil
	return s.withMangle(mark.Family, program, func(m mangle) error { return m.add(mark.Chains()) })
}

// removeNftChains removes our chains, and what jumps to them, in one transaction:
// the programs take one for each, and each waits until no packet is on its way
// through what was removed. It needs no program.
func (s *Space) removeNftChains(f netstate.Family) error {
	chains, err := s.nftChains(f)
	if err != nil || len(chains) == 0 {
		return err
	}
	table := xtables[f].nft
	rules, err := s.nftConn.nftRules(table)
	if err != nil {
		return err
	}
	var reqs []*nl.NetlinkRequest
	for _, rule := range rules {
		if slices.ContainsFunc(chains, rule.jumpsTo) {
			reqs = append(reqs, rule.delete(table))
		}
	}
	for _, chain := range chains {
		reqs = append(reqs, chain.flush(), chain.delete())
	}
	s.tables = nil
	return s.nftConn.transaction(reqs...)
}

func (r nftRule) jumpsTo(c nftChain) bool {
	return slices.ContainsFunc(r.expressions, func(e expression) bool { return e.jump() == c.name })
}

// add fills the chains, and then lets packets into them: whoever is killed in
// between leaves what changes no packet. What it made is read back: iptables-nft
// 1.8.9 goes on after a failed request, and writes a rule in the words of another
// revision of its extension.
func (m mangle) add(chains []netstate.MarkChain) error {
	for _, c := range chains {
		if err := m.ClearChain(netstate.MangleTable, c.Name); err != nil {
			return err
		}
		for _, rule := range c.Rules {
			if err := m.Append(netstate.MangleTable, c.Name, strings.Fields(rule)...); err != nil {
				return err
			}
		}
	}
	for _, c := range chains {
		if err := m.InsertUnique(netstate.MangleTable, c.From, 1, strings.Fields(c.Jump())...); err != nil {
			return err
		}
	}
	found, damage, err := m.compare(chains)
	if err == nil && (!found || damage != "") {
		err = fmt.Errorf("the program succeeded and made something else: %s", damage)
	}
	return err
}

// remove undoes add, backwards, as far as it got. What the programs make for
// themselves, an empty table and its built-in chains, is theirs and stays.
func (m mangle) remove(chains []netstate.MarkChain) error {
	// Asked for one chain, a program fails in one way if there is none and if it
	// can't tell.
	there, err := m.ListChains(netstate.MangleTable)
	if err != nil {
		return err
	}
	for _, c := range slices.Backward(chains) {
		if !slices.Contains(there, c.Name) {
			continue // and nothing can jump to it
		}
		for {
			jumps, err := m.Exists(netstate.MangleTable, c.From, strings.Fields(c.Jump())...)
			if err != nil {
				return err
			}
			if !jumps {
				break
			}
			if err := m.Delete(netstate.MangleTable, c.From, strings.Fields(c.Jump())...); err != nil {
				return err
			}
		}
		if err := m.ClearAndDeleteChain(netstate.MangleTable, c.Name); err != nil {
			return err
		}
	}
	return nil
}
