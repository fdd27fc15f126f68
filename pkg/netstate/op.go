// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Op is one change in one namespace. It adds an object (Before is nil), deletes
// one (After is nil) or changes one. Both objects of a change have the same key.
// Two routes may also have the same table, destination and metric only.
type Op struct {
	NS     NS
	Before Object
	After  Object
	Why    string // the reason, for people
	Shared bool   // Undo leaves it, because others use the object, too
}

// Reverse returns the operations that undo ops.
func Reverse(ops []Op) []Op {
	out := make([]Op, len(ops))
	for i, op := range ops {
		out[len(ops)-1-i] = Op{NS: op.NS, Before: op.After, After: op.Before, Why: "undo: " + op.Why, Shared: op.Shared}
	}
	return out
}

// Undo returns the operations that undo ops, except those on shared objects:
// others may rely on these by now.
func Undo(ops []Op) []Op {
	return slices.DeleteFunc(Reverse(ops), func(op Op) bool { return op.Shared })
}

// Object returns the object after the op or, for a deletion, the object before it.
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

// Describe returns the op as errors name it: "pod: add route …".
func (o Op) Describe() string {
	return fmt.Sprintf("%s: %s %s", o.NS, o.verb(), Words(o.Object()))
}

// Words returns an object with its kind, as errors name it. It adds the family of
// an IPv6 rule, whose text may not tell it.
func Words(o Object) string {
	if r, ok := o.(Rule); ok && r.Family == IPv6 {
		return fmt.Sprintf("IPv6 %s %s", o.Kind(), o)
	}
	return fmt.Sprintf("%s %s", o.Kind(), o)
}

// String returns the namespace and the commands of the op.
func (o Op) String() string { return string(o.NS) + ": " + strings.Join(o.Commands(), "; ") }

// Commands returns commands that do the op, for a shell in its namespace. They are
// those of ip(8), sysctl(8), nft(8) or iptables(8).
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

// nftCommand returns the command for an op on a whole table of nftables.
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

// ipVerb returns the start of an ip(8) command. replace is the verb for a change.
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

// set returns the commands that change before to l.
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

// changed returns l with only the attributes that differ from before.
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

// ErrNotUndone is in the error if some of the operations could not be undone.
var ErrNotUndone = errors.New("not undone")
