// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/spool"
)

// SyncNode writes into the node's NodeSpool what the claims don't say: addresses in use, or
// served, that the pod's claim lacks; NICs that wait and that the claim lacks; addresses that
// other machines have; and which of the pods that the controller asks for have nothing left here.
// again says that it waits for
// something of which no event tells.
func (a *Agent) SyncNode(ctx context.Context) (again bool, err error) {
	if err := a.Open(); err != nil {
		return false, err
	}
	n, err := a.nodeSpool(ctx)
	if err != nil {
		return again, err
	}
	status := v1alpha1.NodeSpoolStatus{BootID: a.BootID, MachineID: a.MachineID}
	done, again, unanswered := a.answer(ctx, n.Spec.Ask)
	status.Withdrawn = done
	s := a.spooled()
	maps.DeleteFunc(a.quiet, func(file string, _ bool) bool { return !s.has(file) })
	served, servedErr := a.served()
	claimOf := a.claimFinder(ctx)
	for _, x := range append(s.sandboxes, served...) {
		c, err := claimOf(x.Namespace, x.Pod, x.UID)
		if err != nil {
			return again, err
		}
		if u, ok := unclaimed(x.Sandbox, c); ok {
			status.Sandboxes = append(status.Sandboxes, u)
		}
	}
	if s.err != nil { // some sandboxes may be in files that can't be read
		status.Sandboxes = append(status.Sandboxes, n.Status.Sandboxes...)
	}
	slices.SortFunc(status.Sandboxes, compareSandboxes)
	status.Sandboxes = slices.CompactFunc(status.Sandboxes, func(x, y v1alpha1.Sandbox) bool { return reflect.DeepEqual(x, y) })

	conflicts, notesErr, err := a.conflicts(ctx, s.sandboxes, s.err == nil && servedErr == nil, served, claimOf)
	if err != nil {
		return again, err
	}
	status.Conflicts = conflicts
	again = again || len(status.Conflicts) > 0 // no event tells when a sandbox is gone

	unread := errors.Join(unanswered, s.err, servedErr, notesErr)
	for _, w := range s.wants {
		c, err := claimOf(w.Namespace, w.Pod, w.UID)
		if err != nil {
			return again, err
		}
		if claims := c != nil && slices.ContainsFunc(c.Spec.NICs, func(n v2beta1.EndpointNIC) bool {
			return n.Interface == w.Interface && n.Network == w.Network
		}); claims {
			continue
		}
		x, err := a.wanted(w.Want)
		if err != nil {
			unread = errors.Join(unread, fmt.Errorf("%s: %w", w.File(), err))
			continue
		}
		status.Wants = append(status.Wants, x)
	}
	slices.SortFunc(status.Wants, compareWants)
	status.Wants = slices.CompactFunc(status.Wants, func(x, y v1alpha1.Want) bool { return compareWants(x, y) == 0 })

	metrics.Reported(len(status.Sandboxes), len(status.Wants))
	if !reflect.DeepEqual(n.Status, status) {
		n.Status = status
		err := a.Writer.Status().Update(ctx, n)
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return true, unread
		}
		if err != nil {
			return again, err
		}
	}
	return again, unread
}

// claimFinder finds the claim of a pod, nil if it has none.
type claimFinder func(namespace, pod, uid string) (*v2beta1.SpiderEndpoint, error)

// claimFinder returns a finder that reads each claim once.
func (a *Agent) claimFinder(ctx context.Context) claimFinder {
	claims := map[types.NamespacedName]*v2beta1.SpiderEndpoint{}
	return func(namespace, pod, uid string) (*v2beta1.SpiderEndpoint, error) {
		name := types.NamespacedName{Namespace: namespace, Name: pod}
		if _, known := claims[name]; !known {
			c, err := a.claim(ctx, name)
			if err != nil {
				return nil, err
			}
			claims[name] = c
		}
		if c := claims[name]; c != nil && c.Spec.PodUID == uid {
			return c, nil
		}
		return nil, nil
	}
}

// answer withdraws the pods that the controller asks for, unless they live, and returns
// those of which nothing is left.
func (a *Agent) answer(ctx context.Context, ask []string) (done []string, again bool, err error) {
	if len(ask) == 0 {
		return nil, false, nil
	}
	var list corev1.PodList
	if err := a.Live.List(ctx, &list, client.MatchingFields{"spec.nodeName": a.Node}); err != nil {
		return nil, false, err
	}
	lives := map[string]bool{}
	for i := range list.Items {
		if p := &list.Items[i]; p.Spec.NodeName == a.Node && !pods.Finished(p) {
			lives[pods.UID(p)] = true
		}
	}
	var errs []error
	for _, uid := range slices.Sorted(slices.Values(ask)) {
		if lives[uid] {
			continue
		}
		o, err := a.begin(uid)
		o.asked = true
		waits := false
		if err == nil {
			waits, err = a.bring(ctx, &o)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case waits:
			again = true
		default:
			done = append(done, uid)
		}
	}
	return done, again, errors.Join(errs...)
}

// served returns what is served, as sandboxes: an ADD may make one of it at any moment.
func (a *Agent) served() ([]sandbox, error) {
	var out []sandbox
	pods, err := spool.Pods(a.Files)
	for _, p := range pods {
		for _, n := range p.NICs {
			out = append(out, sandbox{Sandbox: spool.Sandbox{
				Namespace: p.Namespace, Pod: p.Name, UID: p.UID, Interface: n.Interface, Network: n.Network, Addresses: n.Addresses,
			}})
		}
	}
	return out, err
}

// unclaimed returns the addresses of a sandbox that its claim lacks.
func unclaimed(s spool.Sandbox, claim *v2beta1.SpiderEndpoint) (v1alpha1.Sandbox, bool) {
	claimed := map[ipam.Key]bool{}
	if claim != nil && claim.Status.Current != nil {
		if nics, err := nics(claim); err == nil {
			for _, n := range nics {
				for _, x := range n.Addresses {
					claimed[keyOf(x)] = true
				}
			}
		}
	}
	out := v1alpha1.Sandbox{Namespace: s.Namespace, Pod: s.Pod, PodUID: s.UID, Interface: s.Interface}
	for _, x := range s.Addresses {
		if !claimed[keyOf(x)] {
			out.Addresses = append(out.Addresses, v1alpha1.Held{Address: x.Address.Addr().String(), Network: x.Space, Pool: x.Pool})
		}
	}
	return out, len(out.Addresses) > 0
}

// wanted returns a want for the NodeSpool.
func (a *Agent) wanted(w spool.Want) (v1alpha1.Want, error) {
	out := v1alpha1.Want{
		Namespace: w.Namespace, Pod: w.Pod, PodUID: w.UID, Interface: w.Interface, Network: w.Network,
		DefaultIPv4IPPool: w.DefaultIPv4IPPool, DefaultIPv6IPPool: w.DefaultIPv6IPPool, CleanGateway: w.CleanGateway,
	}
	if !w.MatchMasterSubnet {
		return out, nil
	}
	subnets, err := a.Ports.Subnets(w.DeviceID)
	if err == nil && len(subnets) == 0 { // no subnets would be any
		err = fmt.Errorf("match_master_subnet: the port of device %s has no address, so no pool has its subnet", w.DeviceID)
	}
	for _, s := range subnets {
		out.MasterSubnets = append(out.MasterSubnets, s.String())
	}
	return out, err
}

func compareSandboxes(x, y v1alpha1.Sandbox) int {
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Pod, y.Pod), cmp.Compare(x.PodUID, y.PodUID),
		cmp.Compare(x.Interface, y.Interface), slices.CompareFunc(x.Addresses, y.Addresses, func(x, y v1alpha1.Held) int {
			return cmp.Or(cmp.Compare(x.Network, y.Network), cmp.Compare(x.Address, y.Address))
		}))
}

func compareWants(x, y v1alpha1.Want) int {
	return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Pod, y.Pod), cmp.Compare(x.PodUID, y.PodUID),
		cmp.Compare(x.Interface, y.Interface), cmp.Compare(x.Network, y.Network))
}
