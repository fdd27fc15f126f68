// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/spool"
)

const (
	// soon and late are how long a pod waits for another look of which no event tells:
	// soon at first, then twice as long each time.
	soon = time.Second
	late = 10 * time.Second
	// often is the time between passes over what isn't in line by files and cache. Each
	// so many passes, one also asks the API server about each claim.
	often  = 30 * time.Second
	rarely = 20
	// longest is how long one look may take: an API server that never answers must not hold
	// up the other pods.
	longest = 30 * time.Second
	// watched is how long a claim is watched. One that isn't there then is of a pod whose
	// networks are others', or is announced by an ADD that waits.
	watched = 10 * time.Minute
	// unfinished is the age of a file that its writer has left.
	unfinished = time.Minute
)

// Requests of the queue. Others are UIDs of pods.
const (
	node = "the NodeSpool"
	pass = "a pass"
)

// Add adds an agent to a manager, whose cache has the pods and the NodeSpool of the agent's
// node alone. dir is the spool's directory; claims is a client that watches.
func Add(mgr ctrl.Manager, a *Agent, dir string, claims client.WithWatch) error {
	r := &runner{agent: a, dir: dir, claims: claims, tries: map[string]int{}, watches: map[string]*claimWatch{}}
	c, err := controller.NewTyped("agent", mgr, controller.TypedOptions[string]{
		Reconciler:              r,
		MaxConcurrentReconciles: 1, // an Agent is used by one goroutine
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[string](soon, late),
	})
	if err != nil {
		return err
	}
	uid := func(_ context.Context, p *corev1.Pod) []string { return []string{pods.UID(p)} }
	theNode := func(context.Context, *v1alpha1.NodeSpool) []string { return []string{node} }
	for _, s := range []source.TypedSource[string]{
		source.TypedKind(mgr.GetCache(), &corev1.Pod{}, handler.TypedEnqueueRequestsFromMapFunc(uid)),
		source.TypedKind(mgr.GetCache(), &v1alpha1.NodeSpool{}, handler.TypedEnqueueRequestsFromMapFunc(theNode)),
		source.TypedFunc[string](r.start),
	} {
		if err := c.Watch(s); err != nil {
			return err
		}
	}
	return mgr.AddReadyzCheck("spool", r.ready)
}

// runner runs an Agent by events. Only Reconcile uses the Agent and the maps.
type runner struct {
	agent   *Agent
	dir     string
	claims  client.WithWatch
	queue   workqueue.TypedRateLimitingInterface[string]
	files   *fsnotify.Watcher
	started atomic.Bool
	passes  int
	tries   map[string]int // looks at pods that wait
	watches map[string]*claimWatch
}

// claimWatch is a watch of a claim.
type claimWatch struct {
	ctx    context.Context // until watched is over, or the pod doesn't wait any more
	cancel context.CancelFunc
	done   chan struct{} // closed when it ended
}

func (r *runner) ready(*http.Request) error {
	if !r.started.Load() {
		return errors.New("the spool isn't made yet")
	}
	return nil
}

// start fills the queue from the spool's directories and the clock.
func (r *runner) start(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) error {
	r.queue = queue
	var err error
	if r.files, err = fsnotify.NewWatcher(); err != nil {
		return err
	}
	go r.events(ctx)
	return nil
}

// events puts requests into the queue until ctx ends.
func (r *runner) events(ctx context.Context) {
	defer r.files.Close()
	timer := time.NewTimer(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			r.queue.Add(pass)
			timer.Reset(often/2 + rand.N(often))
		case err := <-r.files.Errors:
			ctrl.LoggerFrom(ctx).Error(err, "watching the spool") // the passes go on
			r.queue.Add(pass)
		case e := <-r.files.Events:
			r.file(e)
		}
	}
}

// file puts the pod of a file into the queue.
func (r *runner) file(e fsnotify.Event) {
	if strings.HasPrefix(filepath.Base(e.Name), ".") { // it is being written
		return
	}
	dir := filepath.Base(filepath.Dir(e.Name))
	switch {
	case dir == "wants" || dir == "conflicts":
		r.queue.Add(node)
	case filepath.Dir(e.Name) == filepath.Clean(r.dir) && e.Has(fsnotify.Remove):
		r.queue.Add(pass) // somebody deletes the spool
	}
	var of struct{ UID string }
	if b, err := os.ReadFile(e.Name); err == nil && json.Unmarshal(b, &of) == nil && of.UID != "" {
		r.queue.Add(of.UID)
	}
}

// Reconcile does what a request is about.
func (r *runner) Reconcile(ctx context.Context, request string) (ctrl.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	spoolDir, err := spool.MakeDir(r.dir)
	if err != nil {
		return ctrl.Result{}, err
	}
	r.agent.Files = spoolDir
	if !r.started.Load() {
		if err := r.agent.Start(ctx); err != nil {
			return ctrl.Result{}, err
		}
		r.started.Store(true)
		r.queue.Add(pass)
	}
	var again bool
	switch request {
	case pass:
		return ctrl.Result{}, r.pass(ctx, spoolDir)
	case node:
		again, err = r.agent.SyncNode(ctx)
	default:
		again, err = r.agent.SyncPod(ctx, request)
		r.watch(request)
	}
	if err != nil || !again {
		delete(r.tries, request)
		return ctrl.Result{}, err
	}
	if r.watches[request] != nil {
		return ctrl.Result{RequeueAfter: often}, nil
	}
	r.tries[request]++
	return ctrl.Result{RequeueAfter: min(soon<<min(r.tries[request]-1, 10), late)}, nil
}

// pass puts all pods into the queue for which there is something to do; at first, after the
// spool was deleted, and every now and then, all.
func (r *runner) pass(ctx context.Context, dir *spool.Directory) error {
	// Before the files are listed: the events tell of later ones.
	for _, d := range append(spool.Dirs(), ".") {
		if err := r.files.Add(filepath.Join(r.dir, d)); err != nil {
			return err
		}
	}
	if err := r.agent.Open(); err != nil { // no event may have told that the spool was deleted
		return err
	}
	list := r.agent.Unsettled
	if r.agent.Lost() || r.passes%rarely == 0 {
		list = r.agent.UIDs
		r.queue.Add(node)
	}
	uids, err := list(ctx)
	if err != nil {
		return err
	}
	left, err := r.agent.NotWithdrawn(ctx)
	if err != nil {
		return err
	}
	metrics.NotWithdrawn(left)
	r.passes++
	for _, uid := range uids {
		r.queue.Add(uid)
	}
	return dir.Sweep(time.Now().Add(-unfinished))
}

// watch watches the claim for which a pod waits, or ends the watch if it doesn't wait.
func (r *runner) watch(uid string) {
	name, w := r.agent.Waits(uid), r.watches[uid]
	if name == nil {
		if w != nil {
			w.cancel()
			delete(r.watches, uid)
		}
		return
	}
	if w == nil {
		ctx, cancel := context.WithTimeout(context.Background(), watched)
		w = &claimWatch{ctx: ctx, cancel: cancel}
		r.watches[uid] = w
	} else {
		select {
		case <-w.done: // it ended by an error, or the time is over
		default:
			return
		}
	}
	if w.ctx.Err() != nil {
		return
	}
	w.done = make(chan struct{})
	go func(done chan struct{}) {
		defer r.queue.AddAfter(uid, often) // to watch again, if it still waits
		defer close(done)
		events, err := r.claims.Watch(w.ctx, &v2beta1.SpiderEndpointList{}, client.InNamespace(name.Namespace), client.MatchingFields{"metadata.name": name.Name})
		if err != nil {
			return
		}
		defer events.Stop()
		for range events.ResultChan() { // it begins with the claim as it is
			r.queue.Add(uid)
		}
	}(w.done)
}
