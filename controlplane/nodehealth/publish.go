// SPDX-License-Identifier: Apache-2.0

package nodehealth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/pkg/doctor"
)

const (
	// Interval is the time between two examinations.
	Interval = 5 * time.Minute
	// Soonest is the time to the next one if something happened, or a finding is new.
	Soonest = 20 * time.Second
	// Share is the part of a processor that examinations take at most.
	Share = 1. / 200
	// rarely is how often the Node is read to see whether the condition is still there.
	rarely = time.Hour
	// longest is how long an examination may take.
	longest = 5 * time.Minute
)

// Examine examines the node. It returns the report, and the processor's time that it took.
type Examine func(context.Context) (*doctor.Report, time.Duration, error)

// Doctor returns an Examine that runs the program multihome, of a path, with the node's file
// system at root. For a container with hostPID that is /proc/1/root, which needs the
// capabilities SYS_PTRACE and SYS_CHROOT; to look at the networks needs SYS_ADMIN and NET_ADMIN.
// A process of its own may have another root directory, and gives back all that it took.
// confDir and cacheDirs are paths in that file system; without cacheDirs it takes those that multihome takes.
func Doctor(path, root, confDir string, cacheDirs []string) Examine {
	return func(ctx context.Context) (*doctor.Report, time.Duration, error) {
		args := []string{"doctor", "-o", "json", "--root", root, "--conf-dir", confDir}
		if len(cacheDirs) > 0 {
			args = append(args, "--cache-dir", strings.Join(cacheDirs, ","))
		}
		cmd := exec.CommandContext(ctx, path, args...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if cmd.ProcessState == nil {
			return nil, 0, fmt.Errorf("multihome doctor: %w", err)
		}
		cost := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		report := &doctor.Report{}
		if json.Unmarshal([]byte(out.String()), report) != nil { // exit status 1 and 2 come with a report, too
			return nil, cost, fmt.Errorf("multihome doctor: %w: %s", err, strings.TrimSpace(errs.String()))
		}
		return report, cost, nil
	}
}

// Publisher publishes a node's condition. It is a manager's Runnable.
type Publisher struct {
	Node    string
	Examine Examine
	Others  []func() []Finding // what other parts of the agent find now; a call must not wait
	Live    client.Reader      // the API server
	Writer  client.StatusClient

	write   func(context.Context, corev1.NodeCondition) error // publish, but for tests
	wake    chan struct{}
	before  *doctor.Report
	held    bool                 // the last condition wasn't written, as a finding was new
	said    corev1.NodeCondition // what was written last
	checked time.Time            // when the Node was read last
}

// New returns a publisher.
func New(node string, examine Examine, live client.Reader, writer client.StatusClient) *Publisher {
	p := &Publisher{Node: node, Examine: examine, Live: live, Writer: writer, wake: make(chan struct{}, 1)}
	p.write = p.publish
	return p
}

// Soon has the node examined soon: something was mended, or another part of the agent has a
// finding. It doesn't wait.
func (p *Publisher) Soon() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Start examines the node again and again, until ctx ends.
func (p *Publisher) Start(ctx context.Context) error {
	log := ctrl.LoggerFrom(ctx).WithName("nodehealth")
	soonest, next := time.Duration(0), rand.N(Soonest) // not all nodes at once
	for sleep(ctx, soonest, nil) && sleep(ctx, next-soonest, p.wake) {
		cost, again, err := p.round(ctx)
		if err != nil {
			log.Error(err, "the condition of the Node isn't written")
		}
		soonest, next = Pause(cost, again || err != nil)
	}
	return nil
}

// sleep waits for a while, or until it is woken. It reports whether to go on.
func sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	select {
	case <-ctx.Done():
	case <-wake:
	case <-time.After(d):
	}
	return ctx.Err() == nil
}

// Pause returns how long to wait after an examination that took cost of a processor: at least,
// whatever happens meanwhile, and until the next one. again asks for that soon.
func Pause(cost time.Duration, again bool) (soonest, next time.Duration) {
	bound := time.Duration(float64(cost) / Share)
	soonest = max(Soonest, bound)
	if again {
		return soonest, soonest
	}
	return soonest, max(Interval, bound)
}

// round examines the node and publishes what it found.
func (p *Publisher) round(ctx context.Context) (cost time.Duration, again bool, err error) {
	look, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	s := Seen{Before: p.before}
	s.Report, cost, s.Err = p.Examine(look)
	if ctx.Err() != nil {
		return cost, false, nil
	}
	for _, other := range p.Others {
		s.Others = append(s.Others, other()...)
	}
	if s.Report != nil {
		p.before = s.Report
		metrics.Findings(counts(s.Report))
	}
	c, unsure := Decide(s)
	// Something new may be over a moment later. Only a problem that was there before is
	// published meanwhile, and nothing is held up twice.
	p.held = unsure && !p.held
	if p.held && c.Status != corev1.ConditionFalse {
		return cost, true, nil
	}
	return cost, p.held, p.write(ctx, c)
}

// counts returns how often a report has each kind of finding.
func counts(r *doctor.Report) map[metrics.Finding]int {
	out := map[metrics.Finding]int{}
	for _, f := range r.Findings {
		out[metrics.Finding{ID: f.ID, Severity: string(f.Severity)}]++
	}
	return out
}

// publish writes the condition if the Node doesn't say the same.
func (p *Publisher) publish(ctx context.Context, c corev1.NodeCondition) error {
	if Same(p.said, c) && time.Since(p.checked) < rarely {
		return nil
	}
	node := &corev1.Node{}
	if err := p.Live.Get(ctx, client.ObjectKey{Name: p.Node}, node); err != nil {
		return err
	}
	patch, err := Patch(node, c, metav1.Now())
	if err == nil && patch != nil {
		err = p.Writer.Status().Patch(ctx, node, client.RawPatch(types.StrategicMergePatchType, patch), client.FieldOwner("multihome-agent"))
	}
	if err == nil {
		p.said, p.checked = c, time.Now()
	}
	return err
}

// Patch returns a strategic merge patch of a Node's status that writes the condition and
// nothing else; nil if the Node says the same. It fails on the API server if the Node is
// another one by now.
func Patch(node *corev1.Node, c corev1.NodeCondition, now metav1.Time) ([]byte, error) {
	c.LastHeartbeatTime, c.LastTransitionTime = now, now
	for _, is := range node.Status.Conditions {
		if is.Type != c.Type {
			continue
		}
		if Same(is, c) {
			return nil, nil
		}
		if is.Status == c.Status {
			c.LastTransitionTime = is.LastTransitionTime
		}
	}
	if node.UID == "" {
		return nil, errors.New("want a Node with a UID")
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"status":   map[string]any{"conditions": []corev1.NodeCondition{c}},
	})
}
