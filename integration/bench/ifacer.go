// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"

	"github.com/multihome/multihome/pkg/nettest"
)

// made is what ifacer makes in this measurement, on NICs without addresses.
var made = map[string]map[string]any{
	"VLAN": {"interfaces": []string{"ens192"}, "vlanID": 100},
	"VLAN of a bond": {
		"interfaces": []string{"ens224", "ens256"}, "vlanID": 200,
		"bond": map[string]any{"name": "bond0", "mode": 1, "options": "miimon=100"},
	},
}

// ifacerRounds measures what every pod after the first pays: the link is there
// already. The table is printed.
func (b *bench) ifacerRounds(ctx context.Context, rounds int) error {
	n, err := newIfacerNode()
	if err != nil {
		return err
	}
	defer n.Close()
	p := &pod{Netns: n.lan, id: "first"} // ifacer looks at no pod
	for _, keys := range made {
		if _, _, err := b.ifacer.time(n, call{command: "ADD", pod: p, keys: keys}); err != nil {
			return err
		}
	}
	r := &roundOn{bench: b, node: n}
	for i := range rounds {
		p.id = fmt.Sprintf("%064x", i)
		parts := []func() error{func() error { return r.attachment("echo", "", b.echo, p, nil) }}
		for what, keys := range made {
			parts = append(parts, func() error { return r.attachment("ifacer", " of a "+what, b.ifacer, p, keys) })
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
	for _, command := range []string{"ADD", "CHECK", "DEL"} {
		echo := figure{"echo", command, n.Name()}
		b.printLine(w, line{what: command + ": echo", of: echo}, n.Name())
		for _, what := range []string{" of a VLAN", " of a VLAN of a bond"} {
			b.printLine(w, line{"ifacer: " + command + what, figure{"ifacer", command + what, n.Name()}, echo, "echo", 0}, n.Name())
		}
	}
	return w.Flush()
}

// attachment measures an attachment's life.
func (r *roundOn) attachment(name, what string, plugin program, p *pod, keys map[string]any) error {
	prev := map[string]any{"cniVersion": cniVersion, "interfaces": []any{}}
	for _, command := range []string{"ADD", "CHECK", "DEL"} {
		if _, err := r.measure(name, command+what, plugin, call{command: command, pod: p, prev: prev, keys: keys}); err != nil {
			return err
		}
	}
	return nil
}

func newIfacerNode() (*node, error) {
	m, err := nettest.NewMachine("ifacer")
	if err != nil {
		return nil, err
	}
	lan, err := nettest.NewNetns("LAN of ifacer")
	if err != nil {
		m.Close()
		return nil, err
	}
	n := &node{m, lan}
	for _, nic := range []string{"ens192", "ens224", "ens256"} {
		if err := nettest.ConnectVeth(n.Netns, nic, lan, nic); err != nil {
			n.Close()
			return nil, err
		}
	}
	return n, nil
}
