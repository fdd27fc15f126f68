// SPDX-License-Identifier: Apache-2.0

// democluster shows a cluster at work on this machine, without containers and kubelets:
// make demo-cluster. hack/with-apiserver gives it a Kubernetes API with controllers and a
// scheduler. Two nodes are network namespaces, on which Multus, the plugins, multihome-agent
// and kube-proxy run. It does what the users' guides do, prints what they print, checks each
// output, and sends traffic through the pods.
//
//	hack/demo-cluster
//
// It runs as two processes: the outer one starts the inner one by hack/with-apiserver, and
// looks afterwards whether anything is left. It needs root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// The first argument says what the process is.
const (
	asInner = "inside" // in hack/with-apiserver
	asPause = "pause"  // the only process of a pod
)

func main() {
	role := outer
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case asInner:
			role = inner
		case asPause:
			role = pause
		default:
			fmt.Fprintf(os.Stderr, "demo-cluster: %q: want no arguments\n", os.Args[1])
			os.Exit(2)
		}
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, "demo-cluster:", err)
		os.Exit(1)
	}
}

// pause waits for a signal.
func pause() error {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
	return nil
}

// outer runs the demo in the directory of the repository, and checks that nothing is left
// of it, however it ended.
func outer() (err error) {
	// What ends with its parent ends with the parent's thread.
	runtime.LockOSThread()
	if os.Geteuid() != 0 {
		return errors.New("needs root, because it makes network namespaces: run it in a root shell, or with sudo")
	}
	started := time.Now()
	before, err := look()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "demo-cluster.")
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("hack/with-apiserver", "--controllers", "1", "--workloads", self, asInner)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	fmt.Println("Starting etcd, API server, controller manager, scheduler and multihome-controller; then two nodes with multihome-agent and kube-proxy.")
	if err := cmd.Start(); err != nil {
		return errors.Join(err, os.Remove(dir))
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	if err := cmd.Wait(); err != nil {
		err = fmt.Errorf("the demo ended early: %w", err)
		return errors.Join(err, nothingLeft(before, dir))
	}
	if err := nothingLeft(before, dir); err != nil {
		return err
	}
	fmt.Printf("\nNothing is left: no process, no namespace, no mount, no file. All held, in %.0f s.\n", time.Since(started).Seconds())
	return nil
}

// inner is the demo, with the API of hack/with-apiserver.
func inner() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	d := &demo{root: root, dir: filepath.Dir(os.Getenv("KUBECONFIG")), out: os.Stdout, fail: fail}
	err = errors.Join(d.run(ctx), d.close())
	if ctx.Err() != nil { // the cause is what went wrong first
		return context.Cause(ctx)
	}
	return err
}
