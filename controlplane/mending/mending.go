// SPDX-License-Identifier: Apache-2.0

// Package mending has a node's agent mend the living pods of its node, by pkg/mend, and says
// so by events on pods and on the node.
//
//	m := mending.New(node, mend.Options{…}, log)
//	go m.Run(ctx)
//	…
//	m.Tell(mgr.GetEventRecorder("multihome-agent"), func() {…})
//
// Mending needs no API server: Run may begin before there is one. What happens until Tell is
// logged only.
package mending

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/mend"
	"github.com/multihome/multihome/pkg/netstate"
)

const (
	// apart is the time between events about what was mended.
	apart = 10 * time.Second
	// named is how many pods get an event of their own at a time. A flush on the node concerns
	// all of its pods: that is one event on the node.
	named = 10
	// listed is how many objects an event names.
	listed = 5
	// restart is the time until Run listens again after an error.
	restart = 10 * time.Second
	// longest is the length of an event's note
	// (kubernetes/pkg/apis/core/validation/events.go, NoteLengthLimit).
	longest = 1000
)

// Mender mends the pods of a node.
type Mender struct {
	node    string
	options mend.Options
	log     logr.Logger

	mu       sync.Mutex
	recorder events.EventRecorder // nil until Tell
	fought   func()               // the same
	mended   map[mend.Pod][]string
	fights   []string
}

// New returns a Mender. Functions in the options are called, too.
func New(node string, o mend.Options, log logr.Logger) *Mender {
	m := &Mender{node: node, options: o, log: log, mended: map[mend.Pod][]string{}}
	m.options.Did = func(p mend.Pod, a attachment.Attachment, op netstate.Op) {
		m.did(p, a, op)
		if o.Did != nil {
			o.Did(p, a, op)
		}
	}
	m.options.Fight = func(p mend.Pod, object string) {
		m.fight(p, object)
		if o.Fight != nil {
			o.Fight(p, object)
		}
	}
	m.options.Fights = func(objects []string) {
		m.mu.Lock()
		m.fights = slices.Clone(objects)
		changed := m.fought
		m.mu.Unlock()
		if changed != nil {
			changed()
		}
		if o.Fights != nil {
			o.Fights(objects)
		}
	}
	m.options.Failed = func(p mend.Pod, err error) {
		m.failed(p, err)
		if o.Failed != nil {
			o.Failed(p, err)
		}
	}
	return m
}

// Tell has a recorder record events from now on, and fights called when what [Mender.Fights]
// returns has changed. fights must not wait.
func (m *Mender) Tell(r events.EventRecorder, fights func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recorder, m.fought = r, fights
}

// Fights returns the objects that another program takes away again and again.
func (m *Mender) Fights() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.fights)
}

// Run mends until ctx ends.
func (m *Mender) Run(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.flush(ctx)
	}()
	for ctx.Err() == nil {
		if err := mend.Run(ctx, m.options); err != nil {
			m.log.Error(err, "mending stopped, and begins again")
			sleep(ctx, restart)
		}
	}
	<-done
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// did notes what was mended, for an event.
func (m *Mender) did(p mend.Pod, a attachment.Attachment, op netstate.Op) {
	m.log.Info("mended", "pod", p.String(), "interface", a.IfName, "op", op.String(), "why", op.Why)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mended[p] = append(m.mended[p], op.Describe())
}

// flush records events about what was mended, from time to time.
func (m *Mender) flush(ctx context.Context) {
	for ctx.Err() == nil {
		sleep(ctx, apart)
		m.mu.Lock()
		mended := m.mended
		m.mended = map[mend.Pod][]string{}
		m.mu.Unlock()
		pods, node := notes(mended)
		for p, note := range pods {
			m.event(p, corev1.EventTypeNormal, "NetworkMended", note)
		}
		if node != "" {
			m.event(mend.Pod{}, corev1.EventTypeNormal, "NetworkMended", node)
		}
	}
}

// notes returns the texts of the events about what was mended: those on pods, and one on the
// node if there are many.
func notes(mended map[mend.Pod][]string) (pods map[mend.Pod]string, node string) {
	if len(mended) <= named {
		pods = map[mend.Pod]string{}
		for p, ops := range mended {
			pods[p] = "what the pod's network needs was changed, and is restored: " + list(ops)
		}
		return pods, ""
	}
	var all []string
	for _, ops := range mended {
		all = append(all, ops...)
	}
	slices.Sort(all)
	return nil, fmt.Sprintf("what the networks of %d pods need was changed, and is restored: %s; the agent's log names the pods", len(mended), list(all))
}

func list(ops []string) string {
	if n := len(ops) - listed; n > 0 {
		return strings.Join(ops[:listed], "; ") + fmt.Sprintf("; and %d more", n)
	}
	return strings.Join(ops, "; ")
}

func (m *Mender) fight(p mend.Pod, object string) {
	note := fmt.Sprintf("%s: another program takes it away or changes it again and again. It was restored ten times within a minute, and is left alone now, to be tried again later. "+
		"Find that program on node %s: systemd-networkd needs the drop-in of `multihome install`; `ip monitor` and `nft monitor` say when it happens", object, m.node)
	m.log.Info("a fight", "pod", p.String(), "object", object)
	m.event(p, corev1.EventTypeWarning, "NetworkFight", note)
	if p.Name != "" {
		m.event(mend.Pod{}, corev1.EventTypeWarning, "NetworkFight", note)
	}
}

func (m *Mender) failed(p mend.Pod, err error) {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	m.log.Info("not mended", "pod", p.String(), "error", text)
	m.event(p, corev1.EventTypeWarning, "NetworkNotMended",
		fmt.Sprintf("%s. It is tried again. `multihome doctor` and `multihome repair --dry-run` on node %s say more", text, m.node))
}

// event records an event on a pod, or on the node for a pod that Kubernetes doesn't know.
func (m *Mender) event(p mend.Pod, kind, reason, note string) {
	m.mu.Lock()
	recorder := m.recorder
	m.mu.Unlock()
	if recorder == nil {
		return
	}
	if len(note) > longest {
		note = strings.ToValidUTF8(note[:longest], "") + "..."
	}
	recorder.Eventf(m.about(p), nil, kind, reason, "Mend", "%s", note)
}

// about returns the object of an event.
func (m *Mender) about(p mend.Pod) *corev1.ObjectReference {
	if p.Name == "" {
		// The kubelet's events on a node have its name as the UID, and kubectl describe node
		// looks for both.
		return &corev1.ObjectReference{APIVersion: "v1", Kind: "Node", Name: m.node, UID: types.UID(m.node)}
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: types.UID(p.UID)}
}
