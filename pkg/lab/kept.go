// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// A lab that is kept up is one process, its server, on the lab's node, where every
// namespace of the lab has a name. The lab ends with that process.
const (
	othersDir = "/run/lab" // on the node, beside podsDir
	nodeName  = "node"
)

// Keep builds a scenario like [Scenario.Up] and hands it over to a process that runs
// server, which calls [Serve]. The returned scene describes the lab, but is closed. There
// is one lab at a time.
func (s Scenario) Keep(ctx context.Context, server *exec.Cmd, cniPath ...string) (scene *Scene, err error) {
	if err := s.Possible(); err != nil {
		return nil, err
	}
	place, err := newClaim(s.Name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(claimPath))
		}
		err = errors.Join(err, place.Close())
	}()
	if scene, err = s.build(ctx, cniPath); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scene.Close()) }()
	for _, n := range append(scene.others, scene.Node.Netns) {
		if err := scene.Node.Pin(n, filepath.Join(othersDir, n.Name())); err != nil {
			return nil, err
		}
	}
	return scene, scene.start(server, place)
}

// pinned returns the namespaces that have a name in these files.
func pinned() (map[string]string, error) {
	paths := map[string]string{}
	for _, dir := range []string{othersDir, podsDir} {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			paths[e.Name()] = filepath.Join(dir, e.Name())
		}
	}
	return paths, nil
}

// Kept is a lab that is kept up.
type Kept struct {
	Node  *testbed.Machine
	paths map[string]string // of all namespaces on the node, by name
}

// OpenKept opens the lab that is up.
func OpenKept() (*Kept, error) {
	c, err := current()
	if err != nil {
		return nil, err
	}
	k, err := c.open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNotUp // its server is ending
	}
	return k, err
}

func (c *claim) open() (*Kept, error) {
	node, err := testbed.OpenMachine(nodeName, c.Server)
	if err != nil {
		return nil, err
	}
	k := &Kept{Node: node}
	if err := node.Run(func() (err error) { k.paths, err = pinned(); return err }); err != nil {
		return nil, errors.Join(err, node.Close())
	}
	return k, nil
}

// Close closes the namespaces that OpenKept opened; the lab stays up.
func (k *Kept) Close() error { return k.Node.Close() }

// Names returns the names of all namespaces, including the node's and the pods'.
func (k *Kept) Names() []string { return slices.Sorted(maps.Keys(k.paths)) }

// Exec replaces this process by a command on a machine or in a pod; it returns only on
// an error. The node has files of its own.
func (k *Kept) Exec(name string, argv ...string) error {
	if name == nodeName {
		return k.Node.Exec(argv...)
	}
	path, ok := k.paths[name]
	if !ok {
		return fmt.Errorf("%q is none of %s", name, strings.Join(k.Names(), ", "))
	}
	n, err := k.Node.OpenPinned(name, path)
	if err != nil {
		return err
	}
	return n.Exec(argv...)
}

// Down removes the lab that is up and ends all its processes. It waits for a lab that is
// being built.
func Down(ctx context.Context) error {
	for failed := 0; ; {
		f, others, err := openClaim(0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case f != nil: // nothing is up, now
			return errors.Join(os.Remove(claimPath), f.Close())
		case others.Server != 0:
			// A server that is ending has no namespaces for a moment.
			if err := others.kill(); err != nil {
				if failed++; failed == 100 {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill kills the processes in the lab's network namespaces. The server, by which the
// others are found, is killed last.
func (c *claim) kill() error {
	k, err := c.open()
	if err != nil {
		return err
	}
	defer k.Close()
	inside, err := k.processes()
	if err != nil {
		return err
	}
	if len(inside) > 1 {
		inside = slices.DeleteFunc(inside, func(pid int) bool { return pid == c.Server })
	}
	for _, pid := range inside {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	return nil
}

// processes returns the processes in the lab's network namespaces.
func (k *Kept) processes() (inside []int, err error) {
	lab, err := k.ids()
	if err != nil {
		return nil, err
	}
	links, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		id, err := os.Stat(link)
		if err != nil || !slices.ContainsFunc(lab, func(i fs.FileInfo) bool { return os.SameFile(i, id) }) {
			continue // ended, or somewhere else
		}
		pid, err := strconv.Atoi(strings.Split(link, "/")[2])
		if err != nil {
			return nil, err
		}
		inside = append(inside, pid)
	}
	return inside, nil
}

// ids returns the inodes of the lab's network namespaces, never that of this process,
// even if it has a name on the lab's node.
func (k *Kept) ids() (ids []fs.FileInfo, err error) {
	own, err := os.Stat("/proc/self/ns/net")
	if err != nil {
		return nil, err
	}
	err = k.Node.Run(func() error {
		for _, path := range k.paths {
			id, err := os.Stat(path)
			if err != nil {
				return err
			}
			if !os.SameFile(id, own) {
				ids = append(ids, id)
			}
		}
		return nil
	})
	return ids, err
}
