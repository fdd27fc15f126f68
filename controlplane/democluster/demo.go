// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/integration/guide"
	"github.com/multihome/multihome/pkg/testbed"
)

// patience is how long a step may take. Also on a busy machine each takes seconds.
const patience = 3 * time.Minute

// demo is the cluster, and prints what is done in it.
type demo struct {
	root    string // of the repository
	dir     string // for temporary files, which hack/with-apiserver removes
	plugins string // the nodes' CNI directory
	out     io.Writer
	fail    context.CancelCauseFunc // ends the demo

	client client.Client
	server string // the API server's address

	router, outside *testbed.Netns
	nodes           []*node

	closers []interface{ Close() error }
	running sync.WaitGroup
}

// run builds the cluster, and shows it.
func (d *demo) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer d.running.Wait()
	defer stop()
	if err := d.build(ctx); err != nil {
		return err
	}
	d.title("A cluster of two nodes")
	if err := d.show(ctx, guide.ReadyNodes(2), "kubectl", "get", "nodes", "-o", "wide"); err != nil {
		return err
	}
	for _, scene := range []func(context.Context) error{d.lanPool, d.fixedAddresses, d.staticMacvlan} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// build makes LANs and nodes.
func (d *demo) build(ctx context.Context) (err error) {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return fmt.Errorf("KUBECONFIG: %w: run it by hack/demo-cluster", err)
	}
	d.server, config.QPS = config.Host, -1
	if d.client, err = client.New(config, client.Options{}); err != nil {
		return err
	}
	if err := d.install(ctx); err != nil {
		return err
	}
	if err := d.buildRouter(); err != nil {
		return err
	}
	for i := range 2 {
		if err := d.newNode(ctx, i+1); err != nil {
			return err
		}
	}
	// The cluster network: each node has a range of it, and routes to those of the others.
	for _, to := range d.nodes {
		for _, from := range d.nodes {
			if from == to {
				continue
			}
			if err := from.AddRoutes(testbed.Route{Dst: to.pods, Via: to.addr, Dev: lans[0].nic}); err != nil {
				return err
			}
		}
	}
	return nil
}

// install fills the nodes' CNI directory: our plugins as on a real node, those of the CNI
// project, and Multus.
func (d *demo) install(ctx context.Context) error {
	d.plugins = filepath.Join(d.dir, "cni")
	if err := os.Mkdir(d.plugins, 0o755); err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, filepath.Join(d.root, "bin/multihome"), "install", "--to", d.plugins).CombinedOutput(); err != nil {
		return fmt.Errorf("multihome install: %w: %s", err, out)
	}
	others, err := filepath.Glob(filepath.Join(d.root, "bin/cni/*"))
	if err != nil {
		return err
	}
	for _, plugin := range append(others, filepath.Join(d.root, ".cache/e2e/bin/multus")) {
		if err := os.Symlink(plugin, filepath.Join(d.plugins, filepath.Base(plugin))); err != nil {
			return err
		}
	}
	return nil
}

// nothingOut shows that no pod and no address is left, and waits until no file of a sandbox
// is on a node.
func (d *demo) nothingOut(ctx context.Context) error {
	if err := d.show(ctx, guide.Empty, "kubectl", "get", "po,spiderippool,spiderendpoint,ipaddresses.multihome.io", "-o", "name"); err != nil {
		return err
	}
	return d.until(ctx, func() error {
		for _, n := range d.nodes {
			if left, err := n.kubelet.left(); err != nil || len(left) > 0 {
				return errors.Join(err, fmt.Errorf("%s still has %v, want no file of a sandbox", n.Name(), left))
			}
		}
		return nil
	})
}

// close lets go of all namespaces.
func (d *demo) close() error {
	var errs []error
	for _, c := range d.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// goUntilEnd runs f, which run waits for.
func (d *demo) goUntilEnd(f func()) { d.running.Go(f) }

func (d *demo) title(text string) { d.say("\n== %s ==", text) }

// say prints what is done, or what holds.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, format+"\n", args...) //nolint:errcheck // standard output
}

// do runs a command of the user, and prints it with its output.
func (d *demo) do(ctx context.Context, argv ...string) error {
	return d.show(ctx, nil, argv...)
}

// show repeats a command until the check has nothing against its output, and prints both. It
// runs a command without a check only once. If that doesn't happen, the error says what was expected.
func (d *demo) show(ctx context.Context, check func(output string) error, argv ...string) error {
	return d.showBy(ctx, func() (string, error) { return output(exec.CommandContext(ctx, argv[0], argv[1:]...)) }, check, "", argv...)
}

// showIn does the same in the namespace of a pod or a node.
func (d *demo) showIn(ctx context.Context, n *testbed.Netns, check func(output string) error, argv ...string) error {
	run := func() (out string, err error) {
		err = n.Do(func() (err error) {
			out, err = output(exec.CommandContext(ctx, argv[0], argv[1:]...))
			return err
		})
		return out, err
	}
	return d.showBy(ctx, run, check, n.Name(), argv...)
}

func (d *demo) showBy(ctx context.Context, run func() (string, error), check func(output string) error, where string, argv ...string) error {
	var out string
	var err error
	if check == nil {
		out, err = run()
	} else {
		err = d.until(ctx, func() (err error) {
			if out, err = run(); err != nil {
				return err
			}
			return check(out)
		})
	}
	d.say("%s", strings.TrimSuffix(fmt.Sprintf("\n%s~# %s\n%s", where, line(argv), out), "\n"))
	if err != nil {
		return fmt.Errorf("%s: %w", line(argv), err)
	}
	return nil
}

// output runs a command and returns what it prints. The error has what it prints on its
// standard error.
func output(cmd *exec.Cmd) (string, error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return string(out), nil
}

// line returns a command as one types it.
func line(argv []string) string {
	words := make([]string, len(argv))
	for i, word := range argv {
		if words[i] = word; strings.ContainsAny(word, " {}[]*") {
			words[i] = "'" + word + "'"
		}
	}
	return strings.Join(words, " ")
}

// until repeats f until it succeeds. If it doesn't in time, the error is f's last one, with
// what keeps pods from running.
func (d *demo) until(ctx context.Context, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		if sleep(ctx, lookEvery); ctx.Err() == nil {
			continue
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return ctx.Err()
		}
		for _, n := range d.nodes {
			for _, trouble := range n.kubelet.troubles() {
				err = fmt.Errorf("%w\n%s", err, trouble)
			}
		}
		return fmt.Errorf("after %v: %w", patience, err)
	}
}

// pod is a running pod, by its namespace.
type pod struct {
	*testbed.Netns
	uid  types.UID
	node *node
}

// podsOf returns the pods of namespace default that options select, once there are just so
// many and all run.
func (d *demo) podsOf(ctx context.Context, count int, which ...client.ListOption) (pods []*pod, err error) {
	err = d.until(ctx, func() error {
		var list corev1.PodList
		if err := d.client.List(ctx, &list, append(which, client.InNamespace("default"))...); err != nil {
			return err
		}
		pods = nil
		for _, p := range list.Items {
			for _, n := range d.nodes {
				if box := n.kubelet.sandboxOf(p.UID); box != nil && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodRunning {
					pods = append(pods, &pod{Netns: box.Netns, uid: p.UID, node: n})
				}
			}
		}
		if len(pods) != count || len(list.Items) != count {
			return fmt.Errorf("%d of %d pods run, want %d of %d", len(pods), len(list.Items), count, count)
		}
		return nil
	})
	return pods, err
}
