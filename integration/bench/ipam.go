// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/spool"
)

// openSpool makes the spool of a node, in which the agent was ready.
func (n *node) openSpool() error {
	return n.inSpool(func(d *spool.Directory) error {
		boot, err := spool.BootID()
		if err != nil {
			return err
		}
		return spool.PutReady(d, spool.Ready{Boot: boot})
	})
}

func (n *node) inSpool(f func(d *spool.Directory) error) error {
	return n.Run(func() error {
		d, err := spool.MakeDir(spool.Dir)
		if err != nil {
			return err
		}
		return f(d)
	})
}

// fillSpool adds the addresses and sandboxes of other pods.
func (n *node) fillSpool(pods int) error {
	return n.inSpool(func(d *spool.Directory) error {
		for i := range pods {
			s := spool.Sandbox{
				Namespace: "default", Pod: fmt.Sprintf("other-%d", i), UID: fmt.Sprintf("other-%d", i), ContainerID: fmt.Sprintf("%064x", 1<<32+i),
				Interface: "eth0", Call: spool.NewCall(), Network: "bench", Netns: netns.ID{Path: fmt.Sprintf("/run/netns/%d", i)},
			}
			contents, err := json.Marshal(s)
			if err != nil {
				return err
			}
			if err := errors.Join(spool.PutPod(d, spool.Pod{UID: s.UID}), d.Write(s.File(), contents)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ipam measures all verbs of multihome-ipam, with a pod whose addresses are on the node.
func (r *roundOn) ipam(p *pod) error {
	return r.claimed(p, []spool.NIC{spoolNIC("eth0", p.addresses)}, func(args string) error {
		c := call{pod: p, keys: map[string]any{"ipam": map[string]any{"type": "multihome-ipam"}}, env: []string{args}}
		for _, command := range []string{"ADD", "CHECK", "DEL", "STATUS"} {
			c.command, c.prev = command, nil
			if command == "CHECK" {
				c.prev = p.result
			}
			if _, err := r.measure("multihome-ipam", command, r.node.multihomeIPAM, c); err != nil {
				return err
			}
		}
		return nil
	})
}

// spoolNIC returns what the agent has for a NIC with these addresses.
func spoolNIC(name string, addresses []netip.Prefix) spool.NIC {
	n := spool.NIC{Interface: name, Network: "bench"}
	for _, a := range addresses {
		n.Addresses = append(n.Addresses, spool.Address{Address: a, Gateway: a.Masked().Addr().Next(), Pool: "bench"})
	}
	return n
}

// claimed puts NICs of a pod into the node's spool, calls f with the CNI_ARGS of the pod's
// runtime, and removes from the spool what is left of the pod.
func (r *roundOn) claimed(p *pod, nics []spool.NIC, f func(args string) error) error {
	claim := spool.Pod{Namespace: "default", Name: "bench", UID: "bench-" + p.id[48:], NICs: nics}
	if err := r.node.inSpool(func(d *spool.Directory) error { return spool.PutPod(d, claim) }); err != nil {
		return err
	}
	if err := f("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=bench;K8S_POD_INFRA_CONTAINER_ID=" + p.id + ";K8S_POD_UID=" + claim.UID); err != nil {
		return err
	}
	return r.node.inSpool(func(d *spool.Directory) error {
		all, err := spool.Sandboxes(d)
		errs := []error{err, d.Remove(claim.File())}
		for _, s := range all {
			if s.UID == claim.UID {
				errs = append(errs, spool.Forget(d, s))
			}
		}
		return errors.Join(errs...)
	})
}
