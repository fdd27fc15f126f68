// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"context"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// machines stand for the scheduler and all nodes: they bind pods, give each a sandbox with the
// addresses of its claim, take it away when the pod is gone, and then withdraw. They fail the
// test when two sandboxes have one address.
type machines struct {
	b       *bench
	mu      sync.Mutex
	hung    map[string]bool     // nodes whose kubelet and agent do nothing
	boxes   map[string][]string // addresses of the sandboxes, by the pod's UID
	on      map[string]string   // their nodes
	owner   map[string]string   // the pod's UID, by address
	done    map[string]bool     // UIDs that never get a sandbox again
	started int
}

// machines starts them; they end before the controllers do.
func (b *bench) machines() *machines {
	m := &machines{
		b: b, hung: map[string]bool{}, boxes: map[string][]string{}, on: map[string]string{},
		owner: map[string]string{}, done: map[string]bool{},
	}
	ctx, cancel := context.WithCancel(b.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := m.round(ctx); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				b.Error(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	b.Cleanup(func() { cancel(); done.Wait() })
	return m
}

// hang stops the kubelet and the agent of a node, or lets them go on.
func (m *machines) hang(node string, hung bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung[node] = hung
}

func (m *machines) remove(uid string) {
	for _, a := range m.boxes[uid] {
		delete(m.owner, a)
	}
	delete(m.boxes, uid)
	delete(m.on, uid)
	m.done[uid] = true
}

// round reads the claims before the pods: a pod that isn't there any more won't be again.
func (m *machines) round(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.b.C
	var spools v1alpha1.NodeSpoolList
	var claims v2beta1.SpiderEndpointList
	var pods corev1.PodList
	for _, list := range []client.ObjectList{&spools, &claims} {
		if err := c.List(ctx, list); err != nil {
			return err
		}
	}
	if err := c.List(ctx, &pods, client.InNamespace(m.b.NS)); err != nil {
		return err
	}
	of := map[string]*v2beta1.SpiderEndpoint{} // by the pod's UID
	for i := range claims.Items {
		if claims.Items[i].Namespace == m.b.NS {
			of[claims.Items[i].Spec.PodUID] = &claims.Items[i]
		}
	}
	alive := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.Spec.NodeName == "" {
			if err := m.bind(ctx, p); err != nil {
				return err
			}
			continue
		}
		alive[string(p.UID)] = addresses.Alive(p)
		if m.hung[p.Spec.NodeName] || !addresses.Alive(p) || m.done[string(p.UID)] {
			continue
		}
		if claim := of[string(p.UID)]; claim != nil && claim.Status.Phase == v2beta1.Allocated && claim.Status.Withdrawn == nil {
			if err := m.start(ctx, p, claim); err != nil {
				return err
			}
		}
	}
	for uid := range m.boxes {
		if !alive[uid] && !m.hung[m.on[uid]] {
			m.remove(uid)
		}
	}
	for uid, claim := range of {
		if alive[uid] || claim.Status.Withdrawn != nil || m.hung[claim.Spec.NodeName] {
			continue
		}
		m.done[uid] = true
		claim.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: claim.Spec.MachineID}
		if err := c.Status().Update(ctx, claim); client.IgnoreNotFound(err) != nil && !apierrors.IsConflict(err) {
			return err
		}
	}
	for i := range spools.Items {
		if err := m.answer(ctx, &spools.Items[i], alive); err != nil {
			return err
		}
	}
	return nil
}

func (m *machines) bind(ctx context.Context, p *corev1.Pod) error {
	node := "node1"
	if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil { // as the DaemonSet controller writes it
		node = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
	}
	return m.b.C.SubResource("binding").Create(ctx, p, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}})
}

// start gives a pod its sandbox, and says that it runs.
func (m *machines) start(ctx context.Context, p *corev1.Pod, claim *v2beta1.SpiderEndpoint) error {
	uid := string(p.UID)
	if m.boxes[uid] == nil {
		for name := range addresses.Named(claim) {
			if former := m.owner[name]; former != "" && former != uid {
				m.b.Errorf("pod %s of UID %s gets %s, which the sandbox of UID %s has", p.Name, uid, name, former)
			}
			m.owner[name] = uid
			m.boxes[uid] = append(m.boxes[uid], name)
		}
		m.on[uid] = p.Spec.NodeName
		m.started++
	}
	if p.Status.Phase == corev1.PodRunning {
		return nil
	}
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
	return m.b.C.Status().Update(ctx, p)
}

// answer says of which pods, of those asked for, nothing is left on a node.
func (m *machines) answer(ctx context.Context, s *v1alpha1.NodeSpool, alive map[string]bool) error {
	next := s.DeepCopy()
	next.Status.Withdrawn = nil
	for _, uid := range s.Spec.Ask {
		if !alive[uid] && !m.hung[s.Name] {
			m.remove(uid)
			next.Status.Withdrawn = append(next.Status.Withdrawn, uid)
		}
	}
	if slices.Equal(next.Status.Withdrawn, s.Status.Withdrawn) {
		return nil
	}
	next.Status.MachineID = "machine-of-" + s.Name
	return m.b.C.Status().Update(ctx, next)
}
