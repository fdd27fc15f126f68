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

// place names the pod's network namespace in commands: a name of ip-netns(8), or a
// path.
type place string

// placeOf returns the name of ip-netns(8) for a path, or else the path.
func placeOf(path string) place {
	if slices.Contains([]string{"/run/netns", "/var/run/netns"}, filepath.Dir(path)) {
		return place(filepath.Base(path))
	}
	return place(path)
}

// in returns a command that runs a command in a namespace, for a shell on the node.
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

// quote quotes a word for a shell, if needed.
func quote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// commands returns commands that do an operation, for a shell on the node.
func (p place) commands(op netstate.Op) []string {
	var out []string
	for _, command := range p.plain(op) {
		out = append(out, p.in(op.NS, command))
	}
	return out
}

// plain returns commands that do an operation, for a shell in its namespace. Some of
// netstate's commands are only for reading, and programs would not accept them. For
// these it returns others.
func (p place) plain(op netstate.Op) []string {
	switch o := op.Object().(type) {
	case netstate.Sysctl:
		if op.After == nil {
			return nil // the kernel deletes it with its link
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
		o.Dynamic, o.Tentative = false, false // ip(8) can't set them
		return withObject(op, o).Commands()
	case netstate.Route:
		return []string{routeCommand(op, o)}
	case netstate.Rule:
		return []string{withProtocolNumber(op.Commands()[0])}
	}
	return op.Commands()
}

// withObject returns the operation with another object in place of its own.
func withObject(op netstate.Op, o netstate.Object) netstate.Op {
	if op.After == nil {
		op.Before = o
	} else {
		op.After = o
	}
	return op
}

// addLink returns the commands that make a link. ip link add can't set an alias. Each
// end of a veth has an MTU of its own.
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

// enslave returns the commands that give a link another master while it is down. In one
// request, the kernel may set the link up before it changes the master (do_setlink), and
// a bond refuses a member that is up.
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

// routeCommand returns the command for a route. It adds scope global where ip(8) would
// choose another scope, and the family of a gateway that is not the destination's.
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

// withProtocolNumber replaces the names of our protocols by their numbers: ip(8) knows the
// names only with the drop-in for iproute2.
func withProtocolNumber(command string) string {
	for _, ours := range []netstate.Protocol{netstate.ProtoRoute, netstate.ProtoCoordinator} { // the longer name first
		command = strings.Replace(command, " proto "+ours.String(), fmt.Sprintf(" proto %d", ours), 1)
	}
	return command
}

// chains returns the commands for reply marks of backend iptables.
func chains(op netstate.Op) []string {
	var out []string
	table := string(op.Object().Kind()) + " -t " + netstate.MangleTable
	if before, ok := op.Before.(netstate.Mark); ok {
		perhaps := ""
		if before.Damage != "" {
			perhaps = " || true" // parts of it may be missing
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
			out = append(out, fmt.Sprintf("%s -I %s %s", table, c.From, c.Jump())) // before rules that accept a packet
		}
	}
	return out
}
