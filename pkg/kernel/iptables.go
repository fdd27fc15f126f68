// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// xtablesWait is how many seconds a program waits for the lock that those of
// the legacy flavour share on a node.
const xtablesWait = "30"

// xtables is the iptables of one address family.
var xtables = map[netstate.Family]struct {
	program string
	nft     nftTable // the one that programs of the nft flavour call mangle
	legacy  string   // lists the tables of the legacy flavour that a namespace has
}{
	netstate.IPv4: {"iptables", nftTable{unix.NFPROTO_IPV4, netstate.MangleTable}, "/proc/thread-self/net/ip_tables_names"},
	netstate.IPv6: {"ip6tables", nftTable{unix.NFPROTO_IPV6, netstate.MangleTable}, "/proc/thread-self/net/ip6_tables_names"},
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
	if lacks != nil {
		if name, err = firstInPath(name+"-legacy", name); err != nil {
			return "", err
		}
	}
	return name, errors.Join(inPath(name), inPath(restorer(name)))
}

// restorer is the program of the same flavour that makes many changes at once.
func restorer(program string) string { return program + "-restore" }

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

// programError is that a program of iptables failed.
type programError struct {
	program string
	status  int
	text    string // what it said
	err     error
}

func (e *programError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("%s: %v", e.program, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", e.program, e.err, e.text)
}

// runXtables runs a program of iptables in the namespace of the calling thread, and
// returns the lines that it prints.
func runXtables(stdin, program string, args ...string) ([]string, error) {
	cmd := exec.Command(program, append([]string{"-w", xtablesWait}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		text := strings.Join(strings.FieldsFunc(stderr.String(), func(r rune) bool { return r == '\n' }), " ")
		return nil, &programError{program, cmd.ProcessState.ExitCode(), text, err}
	}
	return strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n"), nil
}

// refused reports whether a program failed because it found something otherwise than
// it was told.
func refused(err error) bool {
	var e *programError
	return errors.As(err, &e) && e.status == 1
}

// mangle is table mangle of one address family, by one program.
type mangle struct {
	s       *Space
	family  netstate.Family
	program string
}

// run runs the program, or the one that restores, in the namespace: a program is in
// the namespace of the thread that starts it.
func (m mangle) run(stdin, program string, args ...string) (out []string, err error) {
	err = m.s.enter(func() (err error) {
		out, err = runXtables(stdin, program, args...)
		return err
	})
	return out, err
}

// list returns what the table has of our chains, in the words of iptables -S.
func (m mangle) list(chains []netstate.MarkChain) ([]string, error) {
	out, err := m.run("", m.program, "-t", netstate.MangleTable, "-S")
	if !refused(err) {
		return out, err
	}
	// iptables-nft lists nothing of a table in which anything is that nft alone can
	// say (nft_is_table_compatible of iptables/nft.c). But it lists single chains.
	there, e := m.s.nftChains(m.family)
	if e != nil || len(there) == 0 {
		return nil, errors.Join(err, e)
	}
	for _, c := range chains {
		if !slices.ContainsFunc(there, func(t nftChain) bool { return t.name == c.Name }) {
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

// has asks the program for a rule, which it may print in other words than we have.
func (m mangle) has(chain, rule string) (bool, error) {
	_, err := m.run("", m.program, append([]string{"-t", netstate.MangleTable, "-C", chain}, strings.Fields(rule)...)...)
	if refused(err) {
		return false, nil
	}
	return err == nil, err
}

// restore changes the table, all at once or not at all.
func (m mangle) restore(script string) error {
	_, err := m.run(script, restorer(m.program), "--noflush")
	return err
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

// compare reports whether one of our chains is there, and says what of them all is
// missing or beyond what there should be.
func (m mangle) compare(want []netstate.MarkChain) (found bool, damage string, err error) {
	lines, err := m.list(want)
	if err != nil {
		return false, "", err
	}
	var all []string
	for _, c := range want {
		if !slices.Contains(lines, "-N "+c.Name) {
			all = append(all, "no -N "+c.Name)
			continue // nothing can jump to it
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

// differs compares a chain's rules with those that are listed. A rule that is
// not listed in our words is looked for by the program, for its version may have
// others.
func (m mangle) differs(c netstate.MarkChain, lines []string) ([]string, error) {
	var out []string
	other := 0 // rules of ours in other words
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
			if err := (mangle{s, mark.Family, program}).remove(mark.Chains()); err != nil {
				return err
			}
		}
	}
	if op.After == nil || mark.Damage != "" {
		return nil
	}
	if strings.HasSuffix(mark.Dev, "+") {
		return fmt.Errorf("iptables takes %s for every link whose name begins so: want a name without + at its end, or markBackend nftables", mark.Dev)
	}
	program, err := s.programFor(mark.Family)
	if err != nil {
		return err
	}
	s.tables = nil
	return mangle{s, mark.Family, program}.add(mark)
}

// removeNftChains removes our chains, and what jumps to them, in one transaction. It
// needs no program.
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

// add makes the chains and what jumps to them. What it made is read back:
// iptables-nft 1.8.9 goes on after a failed request, and writes a rule in the words of
// another revision of its extension.
func (m mangle) add(mark netstate.Mark) error {
	if err := m.restore(mark.Restored()); err != nil {
		return err
	}
	found, damage, err := m.compare(mark.Chains())
	if err == nil && (!found || damage != "") {
		err = fmt.Errorf("%s succeeded and made something else: %s", restorer(m.program), damage)
	}
	return err
}

// remove undoes add. What the programs make for themselves, an empty table and its
// built-in chains, is theirs and stays.
func (m mangle) remove(chains []netstate.MarkChain) error {
	lines, err := m.list(chains)
	if err != nil {
		return err
	}
	var jumps, own []string
	for _, c := range chains {
		if !slices.Contains(lines, "-N "+c.Name) {
			continue // and nothing can jump to it
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
