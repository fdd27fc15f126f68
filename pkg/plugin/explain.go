// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"log/slog"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// Explanation lists everything that ADD would do for an attachment.
type Explanation struct {
	Conf   Conf    // nil: the configuration switches the plugin off
	Damage *Damage // of the defaults; nil if there is none
	Ops    []netstate.Op
	Record bool // ADD writes a record of the attachment before it does anything
}

// Explain returns the operations of an ADD for the attachment in the namespaces of k. It
// changes nothing and logs nothing; it takes no lock if k was opened for looking. It
// assumes that earlier, the operations of the plugins before this one in the chain, are
// done.
func (p Plugin) Explain(args *skel.CmdArgs, k *kernel.Namespaces, earlier []netstate.Op) (Explanation, error) {
	return p.explain(args, func(t *Task, conf Conf) (netstate.Plan, []netstate.Op, error) {
		t.Kernel, t.earlier = k, earlier
		return t.plan(conf)
	})
}

// Described is a pod and its node that exist as a description only.
type Described struct {
	Snapshot *netstate.Snapshot // their whole state
	Node     []netip.Addr       // the node's addresses that pods use
	Subnets  []netip.Prefix     // of the node itself
	Parent   string             // the node's link below the pod's first NIC
}

// Simulate returns the operations of an ADD for the attachment and applies them to the
// description. It asks the kernel nothing and assumes that it has nf_tables.
func (p Plugin) Simulate(args *skel.CmdArgs, d Described) (Explanation, error) {
	return p.explain(args, func(t *Task, conf Conf) (plan netstate.Plan, ops []netstate.Op, err error) {
		t.Snapshot, t.Node, t.Subnets, t.Parent = d.Snapshot, d.Node, d.Subnets, d.Parent
		if plan, err = conf.Plan(&t.View); err != nil {
			return plan, nil, err
		}
		if err = t.refuseNodes(); err != nil {
			return plan, nil, err
		}
		if ops, err = netstate.Diff(plan, t.Snapshot); err != nil {
			return plan, nil, err
		}
		for _, op := range ops {
			if err := t.Snapshot.Apply(op); err != nil {
				return plan, nil, err
			}
		}
		return plan, ops, nil
	})
}

// explain is the common part of Explain and Simulate; plan computes the plan and its
// operations.
func (p Plugin) explain(args *skel.CmdArgs, plan func(*Task, Conf) (netstate.Plan, []netstate.Op, error)) (Explanation, error) {
	t, raw, err := p.load(args)
	if err != nil {
		return Explanation{}, err
	}
	t.Log = slog.New(slog.DiscardHandler)
	conf, damage, err := p.suffices(raw, t.ContainerID)
	if err != nil || conf == nil {
		return Explanation{}, err
	}
	wanted, ops, err := plan(t, conf)
	if err != nil {
		return Explanation{}, err
	}
	return Explanation{Conf: conf, Damage: damage, Ops: ops, Record: conf.Record(&t.View, wanted) != nil}, nil
}
