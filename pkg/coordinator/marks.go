// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/plugin"
)

// markBackends maps each value of markBackend to the backends that it allows, the better
// one first.
var markBackends = map[string][]netstate.Backend{
	"auto":     {netstate.Nftables, netstate.Iptables},
	"nftables": {netstate.Nftables},
	"iptables": {netstate.Iptables},
}

// observeMarks finds a backend that can hold the pod's marks, if the plan needs marks.
func (c *Config) observeMarks(t *plugin.Task) error {
	if c.OnlyMAC {
		return nil
	}
	mode, err := c.modeOf(&t.View)
	if err != nil || mode == overlayNIC {
		return err
	}
	t.Marks, err = t.Kernel.Pod.MarkBackend(markBackends[c.MarkBackend]...)
	return err
}

// Status returns an error if the kernel lacks a backend for marks.
func (c *Config) Status(t *plugin.Task) error {
	if c.Mode == "overlay" || c.OnlyMAC {
		return nil
	}
	_, err := t.Kernel.Host.MarkBackend(markBackends[c.MarkBackend]...)
	return err
}

// markBackend returns the configured backend, or else the observed one.
func (c *Config) markBackend(v *plugin.View) netstate.Backend {
	if allowed := markBackends[c.MarkBackend]; len(allowed) == 1 {
		return allowed[0]
	}
	return v.Marks
}

// marks wants m in one backend and not in the other, which an earlier ADD may have used.
func (b *builder) marks(m netstate.Mark) {
	const why, whyNot = "marks connections from the node, for their replies", "markBackend: the other backend holds the marks"
	backend := b.c.markBackend(b.v)
	if backend == netstate.Nftables {
		b.plan.Want(pod, why, m)
	} else {
		b.plan.Unwant(pod, whyNot, m)
	}
	for _, s := range b.sides {
		m.Backend, m.Family = netstate.Iptables, s.family
		if backend == netstate.Iptables {
			b.plan.Want(pod, why, m)
		} else {
			b.plan.Unwant(pod, whyNot, m)
		}
	}
}
