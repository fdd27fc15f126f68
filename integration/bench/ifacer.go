// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/multihome/multihome/pkg/testbed"
)

// made holds the configurations of ifacer by the link that each makes. The NICs have no
// addresses.
var made = map[string]map[string]any{
	"VLAN": {"interfaces": []string{"ens192"}, "vlanID": 100},
	"VLAN of a bond": {
		"interfaces": []string{"ens224", "ens256"}, "vlanID": 200,
		"bond": map[string]any{"name": "bond0", "mode": 1, "options": "miimon=100"},
	},
}

// ifacerRounds measures ifacer for all pods but the first, when the link exists already. It
// prints a table.
func (b *bench) ifacerRounds(ctx context.Context, rounds int) error {
	var nodes []*node
	defer func() {
		for _, n := range nodes {
			n.Close()
		}
	}()
	for _, p := range b.plugins {
		n, err := newIfacerNode(p)
		if err != nil {
			return err
		}
		nodes = append(nodes, n)
		for _, keys := range made {
			first := call{command: "ADD", pod: &pod{Netns: n.lan, id: "first"}, keys: keys} // ifacer doesn't look into the pod
			if _, _, err := n.ifacer.time(n, first); err != nil {
				return err
			}
		}
	}
	for i := range rounds {
		var parts []func() error
		for _, n := range nodes {
			r, p := &roundOn{bench: b, node: n}, &pod{Netns: n.lan, id: fmt.Sprintf("%064x", i)}
			parts = append(parts, func() error { return r.attachment("echo", "", b.echo, p, nil) })
			for what, keys := range made {
				parts = append(parts, func() error { return r.attachment("ifacer", " of a "+what, n.ifacer, p, keys) })
			}
		}
		for _, part := range inAnyOrder(parts...) {
			if err := part(); err != nil {
				return fmt.Errorf("round %d: %w", i+1, err)
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted after %d rounds", i)
		}
	}
	w := header(os.Stdout)
	for _, n := range nodes {
		for _, command := range []string{"ADD", "CHECK", "DEL"} {
			echo := figure{"echo", command, n.Name()}
			b.printLine(w, line{what: command + ": echo", of: echo})
			for _, what := range []string{" of a VLAN", " of a VLAN of a bond"} {
				b.printLine(w, line{what: "ifacer: " + command + what, of: figure{"ifacer", command + what, n.Name()}, echo: echo})
			}
		}
	}
	return w.Flush()
}

// attachment measures ADD, CHECK and DEL of an attachment.
func (r *roundOn) attachment(name, what string, plugin program, p *pod, keys map[string]any) error {
	prev := map[string]any{"cniVersion": cniVersion, "interfaces": []any{}}
	for _, command := range []string{"ADD", "CHECK", "DEL"} {
		if _, err := r.measure(name, command+what, plugin, call{command: command, pod: p, prev: prev, keys: keys}); err != nil {
			return err
		}
	}
	return nil
}

// newIfacerNode makes a node with three NICs.
func newIfacerNode(p plugins) (*node, error) {
	m, err := testbed.NewMachine("ifacer" + p.suffix)
	if err != nil {
		return nil, err
	}
	lan, err := testbed.NewNetns("LAN of ifacer" + p.suffix)
	if err != nil {
		m.Close()
		return nil, err
	}
	n := &node{m, lan, p}
	for _, nic := range []string{"ens192", "ens224", "ens256"} {
		if err := testbed.ConnectVeth(n.Netns, nic, lan, nic); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}
