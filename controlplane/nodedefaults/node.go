// SPDX-License-Identifier: Apache-2.0

package nodedefaults

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/nodeconf"
)

// Name is the name of the SpiderCoordinator.
const Name = "default"

const (
	// resync is the time after which it looks again of which no event tells: the node may
	// have other subnets, or the file another directory.
	resync = time.Minute
	// soon is the same while the directory of the file isn't there.
	soon = time.Second
	// settle is the time before it looks at a file that somebody changed, who may not be done.
	settle = 200 * time.Millisecond
)

// Node writes a node's file of defaults.
type Node struct {
	Path string
	// Subnets returns the node's addresses with the lengths of their subnets.
	Subnets func() ([]netip.Prefix, error)

	live    client.Reader
	refusal atomic.Pointer[string]
}

// Refusal says why the file isn't as the SpiderCoordinator has it, and what helps; "" if it is.
func (n *Node) Refusal() string {
	if why := n.refusal.Load(); why != nil {
		return *why
	}
	return ""
}

// Add adds the node to a manager, whose scheme has v2beta1.
func (n *Node) Add(mgr ctrl.Manager) error {
	n.Path = filepath.Clean(n.Path)
	n.live = mgr.GetAPIReader()
	return ctrl.NewControllerManagedBy(mgr).Named("nodedefaults").
		For(&v2beta1.SpiderCoordinator{}).
		WatchesRawSource(source.Func(n.watch)).
		Complete(n)
}

// watch puts the object into the queue when the file or its directory changes.
func (n *Node) watch(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	files, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	go func() {
		defer func() { _ = files.Close() }()
		dir := filepath.Dir(n.Path)
		for {
			wait := resync
			if err := files.Add(dir); err != nil {
				wait = soon // Reconcile makes it
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(wait):
			case err := <-files.Errors:
				ctrl.LoggerFrom(ctx).Error(err, "watching "+dir)
			case e := <-files.Events:
				if e.Name != dir && e.Name != n.Path {
					continue
				}
			}
			queue.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Name: Name}}, settle)
		}
	}()
	return nil
}

// Reconcile writes the file if it isn't as the SpiderCoordinator has it. It reads the object
// live: a cache may be older than what the file was written from.
func (n *Node) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	if request.Name != Name {
		return ctrl.Result{}, nil
	}
	c := &v2beta1.SpiderCoordinator{}
	if err := n.live.Get(ctx, request.NamespacedName, c); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	own, err := n.Subnets()
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("addresses of the node: %w", err)
	}
	keys, err := Decide(c, own)
	if err != nil {
		why := err.Error()
		if n.Refusal() != why {
			ctrl.LoggerFrom(ctx).Error(err, "the node keeps its defaults", "file", n.Path)
		}
		n.refusal.Store(&why)
		return ctrl.Result{}, nil // until the object changes, or the node does
	}
	n.refusal.Store(nil)
	if keys == nil {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, nodeconf.Write(n.Path, keys)
}
