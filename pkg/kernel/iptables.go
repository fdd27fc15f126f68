// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/iptables"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nft"
)

// programFor returns the program that makes chains: iptables or ip6tables, whose flavour
// is the choice of the node's administrator. Where the kernel's nf_tables lacks the
// family, it prefers the legacy flavour.
func (s *Namespace) programFor(f netstate.Family) (string, error) {
	name := iptables.Families[f].Program
	lacks, err := s.lacksFamily(iptables.Families[f].Nft.Family)
	if err != nil {
		return "", err
	}
	if lacks != nil {
		if name, err = iptables.FirstInPath(name+"-legacy", name); err != nil {
			return "", err
		}
	}
	return name, errors.Join(iptables.InPath(name), iptables.InPath(iptables.Restorer(name)))
}

// Our chains may be of either flavour: the one that the node's iptables had when they were
// made. Every ADD and DEL looks for them, and most find none. So the search runs no
// program.

// nftChains returns our chains that are in nf_tables.
func (s *Namespace) nftChains(f netstate.Family) ([]nft.Chain, error) {
	have, err := s.listTables()
	if err != nil || !have.hasNft(iptables.Families[f].Nft) {
		return nil, err
	}
	chains, err := s.nftConn.Chains(iptables.Families[f].Nft)
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	return slices.DeleteFunc(chains, func(c nft.Chain) bool {
		return !slices.ContainsFunc(netstate.Mark{}.Chains(), func(ours netstate.MarkChain) bool { return ours.Name == c.Name })
	}), nil
}

// legacyTables returns the families that have table mangle of the legacy flavour in the
// namespace. It reads the list of tables in /proc: listing the rules of the table would
// create it.
func (s *Namespace) legacyTables() (map[netstate.Family]bool, error) {
	out := map[netstate.Family]bool{}
	err := s.Enter(func() error {
		for f, x := range iptables.Families {
			fd, err := unix.Open(x.Legacy, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if errors.Is(err, unix.ENOENT) {
				continue // the kernel has no such flavour
			}
			if err != nil {
				return fmt.Errorf("%s: %w", x.Legacy, err)
			}
			var buf [256]byte // there are five tables, with names of at most 32 bytes
			n, err := unix.Read(fd, buf[:])
			_ = unix.Close(fd)
			if err != nil {
				return fmt.Errorf("%s: %w", x.Legacy, err)
			}
			out[f] = slices.Contains(strings.Fields(string(buf[:n])), netstate.MangleTable)
		}
		return nil
	})
	return out, err
}

// legacyProgram returns the program that reads table mangle of the legacy flavour, "" if
// there is no such table or no program. Without a program our chains can't be there.
func (s *Namespace) legacyProgram(f netstate.Family) (string, error) {
	have, err := s.listTables()
	if err != nil || !have.legacy[f] {
		return "", err
	}
	name := iptables.Families[f].Program
	for _, program := range []string{name + "-legacy", name} {
		if iptables.InPath(program) == nil {
			return program, nil
		}
	}
	return "", nil
}

// mangle is table mangle of one address family, read and written by one program.
type mangle struct {
	s       *Namespace
	family  netstate.Family
	program string
}

// run runs a program in the namespace and returns the lines of its output. A program runs
// in the namespace of the thread that starts it.
func (m mangle) run(stdin, program string, args ...string) (out []string, err error) {
	err = m.s.Enter(func() (err error) {
		out, err = iptables.Run(stdin, program, args...)
		return err
	})
	return out, err
}

// list returns our chains and the jumps to them as `iptables -S` prints them. The lines
// may include others of the table.
func (m mangle) list(chains []netstate.MarkChain) ([]string, error) {
	out, err := m.run("", m.program, "-t", netstate.MangleTable, "-S")
	if !iptables.Refused(err) {
		return out, err
	}
	// iptables-nft refuses to list a table that holds anything that only nft can express
	// (nft_is_table_compatible of iptables/nft.c). But it lists single chains.
	there, e := m.s.nftChains(m.family)
	if e != nil || len(there) == 0 {
		return nil, errors.Join(err, e)
	}
	for _, c := range chains {
		if !slices.ContainsFunc(there, func(t nft.Chain) bool { return t.Name == c.Name }) {
			continue
		}
		lines, err := m.run("", m.program, "-t", netstate.MangleTable, "-S", c.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
		jumps, err := m.has(c.From, c.Jump())
		if err != nil {
			return nil, err
		}
		if jumps {
			out = append(out, c.JumpLine())
		}
	}
	return out, nil
}

// has asks the program whether a chain has a rule (-C). The program may print the rule in
// another notation than ours.
func (m mangle) has(chain, rule string) (bool, error) {
	_, err := m.run("", m.program, append([]string{"-t", netstate.MangleTable, "-C", chain}, strings.Fields(rule)...)...)
	if iptables.Refused(err) {
		return false, nil
	}
	return err == nil, err
}

// restore applies a script of iptables-restore to the table, all of it or nothing.
func (m mangle) restore(script string) error {
	_, err := m.run(script, iptables.Restorer(m.program), "--noflush")
	return err
}

// readChains is ReadMark for the backend iptables.
func (s *Namespace) readChains(snap *netstate.Snapshot, want netstate.Mark) error {
	var programs []string
	chains, err := s.nftChains(want.Family)
	if err != nil {
		return err
	}
	if len(chains) > 0 {
		name := iptables.Families[want.Family].Program
		program, err := iptables.FirstInPath(name+"-nft", name)
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
		found, damage, err := mangle{s, want.Family, program}.compare(want.Chains())
		want.Damage = damage
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

// compare reports whether one of our chains is there. In damage it lists what the chains
// lack and what they have in excess.
func (m mangle) compare(want []netstate.MarkChain) (found bool, damage string, err error) {
	lines, err := m.list(want)
	if err != nil {
		return false, "", err
	}
	var all []string
	for _, c := range want {
		if !slices.Contains(lines, "-N "+c.Name) {
			all = append(all, "no -N "+c.Name)
			continue // without the chain there is no jump to it
		}
		found = true
		differs, err := m.differs(c, lines)
		if err != nil {
			return false, "", err
		}
		all = append(all, differs...)
		if !slices.Contains(lines, c.JumpLine()) {
			all = append(all, "no "+c.JumpLine())
		}
	}
	return found, strings.Join(all, ", "), nil
}

// differs compares a chain's rules with the listed lines and returns the differences. For
// a rule that isn't listed in our notation it asks the program, whose version may print it
// in another.
func (m mangle) differs(c netstate.MarkChain, lines []string) ([]string, error) {
	var out []string
	other := 0 // our rules that are listed in another notation
	for _, rule := range c.Rules {
		if slices.Contains(lines, "-A "+c.Name+" "+rule) {
			continue
		}
		there, err := m.has(c.Name, rule)
		if err != nil {
			return nil, err
		}
		if there {
			other++
			continue
		}
		out = append(out, "no -A "+c.Name+" "+rule)
	}
	for _, line := range lines {
		switch rule, in := strings.CutPrefix(line, "-A "+c.Name+" "); {
		case !in || slices.Contains(c.Rules, rule):
		case other > 0:
			other--
		default:
			out = append(out, "also "+line)
		}
	}
	return out, nil
}

// applyChains removes our chains of both flavours, and makes them anew if the operation
// adds the mark.
func (s *Namespace) applyChains(op netstate.Op) error {
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
			if err := (mangle{s, mark.Family, program}).remove(mark.Chains()); err != nil {
				return err
			}
		}
	}
	if op.After == nil || mark.Damage != "" {
		return nil
	}
	if strings.HasSuffix(mark.Dev, "+") {
		return fmt.Errorf("iptables takes %s for every link whose name begins with %s: want a name without + at its end, or markBackend nftables", mark.Dev, strings.TrimSuffix(mark.Dev, "+"))
	}
	program, err := s.programFor(mark.Family)
	if err != nil {
		return err
	}
	s.tables = nil
	return mangle{s, mark.Family, program}.add(mark)
}

// removeNftChains removes our chains and the jumps to them from nf_tables in one
// transaction. It needs no program.
func (s *Namespace) removeNftChains(f netstate.Family) error {
	chains, err := s.nftChains(f)
	if err != nil || len(chains) == 0 {
		return err
	}
	table := iptables.Families[f].Nft
	rules, err := s.nftConn.Rules(table)
	if err != nil {
		return err
	}
	var reqs []*nl.NetlinkRequest
	for _, rule := range rules {
		if slices.ContainsFunc(chains, rule.JumpsTo) {
			reqs = append(reqs, rule.Delete(table))
		}
	}
	for _, chain := range chains {
		reqs = append(reqs, chain.Flush(), chain.Delete())
	}
	s.tables = nil
	return s.nftConn.Transaction(reqs...)
}

// add makes the chains and the jumps to them. Then it reads them back, because
// iptables-nft 1.8.9 goes on after a failed request, and may write a rule with another
// revision of its extension.
func (m mangle) add(mark netstate.Mark) error {
	if err := m.restore(mark.Restored()); err != nil {
		return err
	}
	found, damage, err := m.compare(mark.Chains())
	if err == nil && (!found || damage != "") {
		err = fmt.Errorf("%s reported success, but the chains that it made differ: %s", iptables.Restorer(m.program), damage)
	}
	return err
}

// remove removes the chains and the jumps to them. The table and its built-in chains,
// which the programs make by themselves, stay.
func (m mangle) remove(chains []netstate.MarkChain) error {
	lines, err := m.list(chains)
	if err != nil {
		return err
	}
	var jumps, own []string
	for _, c := range chains {
		if !slices.Contains(lines, "-N "+c.Name) {
			continue // without the chain there is no jump to it
		}
		for _, line := range lines {
			if line == c.JumpLine() {
				jumps = append(jumps, "-D "+strings.TrimPrefix(line, "-A "))
			}
		}
		own = append(own, "-F "+c.Name, "-X "+c.Name)
	}
	if len(own) == 0 {
		return nil
	}
	return m.restore("*" + netstate.MangleTable + "\n" + strings.Join(append(jumps, own...), "\n") + "\nCOMMIT\n")
}
