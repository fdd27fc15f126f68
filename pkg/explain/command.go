// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// place is how a person calls the pod's network namespace: a name that ip-netns(8)
// knows, or a path.
type place string

// placeOf returns the shorter of both for a path.
func placeOf(path string) place {
	if slices.Contains([]string{"/run/netns", "/var/run/netns"}, filepath.Dir(path)) {
		return place(filepath.Base(path))
	}
	return place(path)
}

// in is a command that runs in a namespace, for a shell on the node.
func (p place) in(ns netstate.NS, command string) string {
	if ns == netstate.Host {
		return command
	}
	if strings.Contains(string(p), "/") {
		return "nsenter --net=" + quote(string(p)) + " " + command
	}
	if rest, ok := strings.CutPrefix(command, "ip "); ok {
		return "ip -n " + quote(string(p)) + " " + rest
	}
	return "ip netns exec " + quote(string(p)) + " " + command
}

var plainWord = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// quote is a word for a shell.
func quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// commands are what does an operation, for a shell on the node.
func (p place) commands(op netstate.Op) []string {
	var out []string
	for _, command := range p.plain(op) {
		out = append(out, p.in(op.NS, command))
	}
	return out
}

// plain are the commands, in the operation's namespace. They are what netstate says,
// but where that is for reading and a program would take it otherwise.
func (p place) plain(op netstate.Op) []string {
	switch o := op.Object().(type) {
	case netstate.Sysctl:
		if op.After == nil {
			return nil // it goes with its link
		}
	case netstate.Link:
		if op.Before == nil {
			return p.addLink(o)
		}
		if before := op.Before.(netstate.Link); op.After != nil && o.Master != before.Master {
			return enslave(before, o)
		}
	case netstate.Mark:
		if o.Backend == netstate.Iptables {
			return chains(op)
		}
	case netstate.Addr:
		o.Dynamic, o.Tentative = false, false // nothing that can be asked for
		return withObject(op, o).Commands()
	case netstate.Route:
		return []string{routeCommand(op, o)}
	case netstate.Rule:
		return []string{withProtocolNumber(op.Commands()[0])}
	}
	return op.Commands()
}

// withObject is the operation on a variant of its object.
func withObject(op netstate.Op, o netstate.Object) netstate.Op {
	if op.After == nil {
		op.Before = o
	} else {
		op.After = o
	}
	return op
}

// addLink makes a link. Nothing sets an alias in the message that does it, and each
// end of a pair has an MTU of its own.
func (p place) addLink(l netstate.Link) []string {
	alias, peer := l.Alias, l.Peer
	l.Alias, l.Peer = "", netstate.End{}
	add := netstate.Op{After: l}.Commands()[0]
	if peer.Name != "" {
		far := netstate.Link{Name: peer.Name, MAC: peer.MAC, MTU: l.MTU, TxQueueLen: l.TxQueueLen}
		add += fmt.Sprintf(" peer name %s netns %s", far, quote(string(p)))
	}
	if alias == "" {
		return []string{add}
	}
	return []string{add, fmt.Sprintf("ip link set %s alias %s", l.Name, quote(alias))}
}

// enslave gives a link another master while it is down. In one request it might be up
// first, as the kernel is (do_setlink), and a bond would refuse it.
func enslave(before, after netstate.Link) (out []string) {
	down, joined := before, after
	down.Up, joined.Up = false, false
	for _, step := range []netstate.Op{{Before: before, After: down}, {Before: down, After: joined}, {Before: joined, After: after}} {
		if step.Before != step.After {
			out = append(out, step.Commands()...)
		}
	}
	return out
}

// routeCommand says the scope that ip(8) would guess otherwise, and which family a gateway
// is of if it isn't the destination's.
func routeCommand(op netstate.Op, r netstate.Route) string {
	command := withProtocolNumber(op.Commands()[0])
	if !r.IPv6() && !r.Via.IsValid() && r.Scope == netstate.ScopeGlobal {
		command += " scope global"
	}
	if r.Via.Is6() && !r.IPv6() {
		command = strings.Replace(command, " via ", " via inet6 ", 1)
	}
	return command
}

// withProtocolNumber has the numbers of our protocols: their names are known only with the
// drop-in for iproute2.
func withProtocolNumber(command string) string {
	for _, ours := range []netstate.Protocol{netstate.ProtoRoute, netstate.ProtoCoordinator} { // the longer name first
		command = strings.Replace(command, " proto "+ours.String(), fmt.Sprintf(" proto %d", ours), 1)
	}
	return command
}

// chains are the commands about reply marks of backend iptables.
func chains(op netstate.Op) []string {
	var out []string
	table := string(op.Object().Kind()) + " -t " + netstate.MangleTable
	if before, ok := op.Before.(netstate.Mark); ok {
		perhaps := ""
		if before.Damage != "" {
			perhaps = " || true" // nobody knows what of it is there
		}
		for _, c := range slices.Backward(before.Chains()) {
			for _, remove := range []string{"-D " + c.From + " " + c.Jump(), "-F " + c.Name, "-X " + c.Name} {
				out = append(out, table+" "+remove+perhaps)
			}
		}
	}
	if after, ok := op.After.(netstate.Mark); ok {
		for _, c := range after.Chains() {
			out = append(out, fmt.Sprintf("%s -N %s", table, c.Name))
			for _, rule := range c.Rules {
				out = append(out, fmt.Sprintf("%s -A %s %s", table, c.Name, rule))
			}
			out = append(out, fmt.Sprintf("%s -I %s %s", table, c.From, c.Jump())) // before anything that accepts a packet
		}
	}
	return out
}
