// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Op is one change in one namespace: an object is added (Before is nil),
// deleted (After is nil) or changed (both are there and have the same key, or,
// for a route, the same place in a table).
type Op struct {
	NS     NS
	Before Object
	After  Object
	Why    string // in words, for people
	Shared bool   // the object is not this attachment's alone
}

// Reverse returns the operations that undo ops.
func Reverse(ops []Op) []Op {
	out := make([]Op, len(ops))
	for i, op := range ops {
		out[len(ops)-1-i] = Op{NS: op.NS, Before: op.After, After: op.Before, Why: "undo: " + op.Why, Shared: op.Shared}
	}
	return out
}

// Undo returns the operations that undo ops as far as they are nobody else's
// business: others may rely on the rest by now.
func Undo(ops []Op) []Op {
	return slices.DeleteFunc(Reverse(ops), func(op Op) bool { return op.Shared })
}

// Object returns the object that the op is about: what will be there, or what
// will be gone.
func (o Op) Object() Object {
	if o.After != nil {
		return o.After
	}
	return o.Before
}

func (o Op) verb() string {
	switch {
	case o.Before == nil:
		return "add"
	case o.After == nil:
		return "delete"
	}
	return "change"
}

// Describe says what the op does, as errors name it: "pod: add route …".
func (o Op) Describe() string {
	return fmt.Sprintf("%s: %s %s", o.NS, o.verb(), Words(o.Object()))
}

// Words is an object with its kind, and its family where neither tells it.
func Words(o Object) string {
	if r, ok := o.(Rule); ok && r.Family == IPv6 {
		return fmt.Sprintf("IPv6 %s %s", o.Kind(), o)
	}
	return fmt.Sprintf("%s %s", o.Kind(), o)
}

// String is the op as commands, behind its namespace.
func (o Op) String() string { return string(o.NS) + ": " + strings.Join(o.Commands(), "; ") }

// Commands are what does the op in its namespace, in the syntax of ip(8) and the like.
func (o Op) Commands() []string {
	if l, ok := o.Object().(Link); ok {
		return linkCommands(o, l)
	}
	return []string{o.command()}
}

func (o Op) command() string {
	obj := o.Object()
	switch t := obj.(type) {
	case Sysctl:
		if o.After == nil {
			return fmt.Sprintf("# %s goes with its link", t.Path())
		}
		return "sysctl -w " + t.String()
	case Mark:
		if t.Backend == Iptables {
			return markCommand(o)
		}
		return nftCommand(o, MarkTable, t.Ruleset())
	case SourceCheck:
		return nftCommand(o, SourceTable, t.Ruleset())
	case Addr:
		return ipVerb(o, FamilyOf(t.Prefix.Addr()), "replace") + t.String()
	case Route:
		return ipVerb(o, FamilyOf(t.Dst.Addr()), "replace") + t.String()
	case Rule:
		return ipVerb(o, t.Family, "add") + t.String()
	case Neigh:
		return ipVerb(o, IPv4, "replace") + t.String()
	}
	return obj.String()
}

// nftCommand is an op on a whole table.
func nftCommand(o Op, table, ruleset string) string {
	if o.After == nil {
		return "nft delete table inet " + table
	}
	replace := ""
	if o.Before != nil {
		replace = "delete table inet " + table + "; "
	}
	return "nft '" + replace + strings.TrimSpace(ruleset) + "'"
}

func ipVerb(o Op, f Family, replace string) string {
	verb := "add"
	switch {
	case o.After == nil:
		verb = "del"
	case o.Before != nil:
		verb = replace
	}
	flag := ""
	if f == IPv6 {
		flag = "-6 "
	}
	return fmt.Sprintf("ip %s%s %s ", flag, o.Object().Kind(), verb)
}

func linkCommands(o Op, l Link) []string {
	switch {
	case o.After == nil:
		return []string{"ip link del " + l.Name}
	case o.Before == nil:
		return []string{"ip link add " + l.String()}
	}
	return l.set(o.Before.(Link))
}

// set is the commands that make before to l.
func (l Link) set(before Link) []string {
	cmd := "ip link set " + l.changed(before).String()
	if l.Master == "" && before.Master != "" {
		cmd += " nomaster"
	}
	if l.Group == 0 && before.Group != 0 {
		cmd += " group default"
	}
	if before.Up && !l.Up {
		cmd += " down"
	}
	if l.Up && l.ThroughDown(before) {
		return []string{"ip link set " + l.Name + " down", cmd}
	}
	return []string{cmd}
}

// changed returns l with only those attributes that differ from before.
func (l Link) changed(before Link) Link {
	out := Link{Name: l.Name, Up: l.Up && (!before.Up || l.ThroughDown(before))}
	if l.Master != before.Master {
		out.Master = l.Master
	}
	if l.Details != before.Details {
		out.Type, out.Details = l.Type, l.Details.Since(before.Details)
	}
	if l.MAC != before.MAC {
		out.MAC = l.MAC
	}
	if l.MTU != before.MTU {
		out.MTU = l.MTU
	}
	if l.TxQueueLen != before.TxQueueLen {
		out.TxQueueLen = l.TxQueueLen
	}
	if l.Group != before.Group {
		out.Group = l.Group
	}
	if l.Alias != before.Alias {
		out.Alias = l.Alias
	}
	return out
}

// ErrNotUndone is in the error when not all that was done could be undone.
var ErrNotUndone = errors.New("not undone")
