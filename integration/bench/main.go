// SPDX-License-Identifier: Apache-2.0

// Command bench measures the plugins as a container runtime sees them: whole processes, from
// fork to exit status and output. In the same rounds it measures three programs to compare
// with: a plugin that only echoes prevResult, a program that only makes the kernel objects of
// an ADD, and one that only deletes the link of a pod. It measures each on an empty node and
// on a busy one.
//
//	bench -n 160                   # all plugins; the default
//	bench -former /path/to/bin     # also another build of the plugins, on equal nodes
//	bench -ifacer                  # ifacer instead; needs a kernel with VLANs and bonds
//	bench -scale docs/scale.svg    # the growth of ADD with the size of node and pod, as a plot
//
// It prints one table, with the targets of the design beside the figures.
//
// Beware: it needs root and an idle machine. It changes only network namespaces of its own. A
// missed target is no error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// memoryRounds is the number of rounds in which peak memory is read. It hardly varies.
const memoryRounds = 5

func main() {
	n := flag.Int("n", 160, "number of rounds; with -scale, four times as many as at each point")
	onlyIfacer := flag.Bool("ifacer", false, "measure ifacer")
	former := flag.String("former", "", "measure the plugins in a `directory` as well, on nodes of their own in the same rounds")
	scale := flag.String("scale", "", "measure how ADD grows with what the node and the pod have, and plot it into an SVG `file`")
	flag.Parse()
	if err := run(max(4, *n), *onlyIfacer, *former, *scale); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, onlyIfacer bool, former, plot string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Geteuid() != 0 {
		return fmt.Errorf("needs root, to make network namespaces")
	}
	dir, err := os.MkdirTemp("/var/tmp", "multihome-bench-") // $TMPDIR may be below /run, of which a node has its own
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{samples: map[figure]sample{}}
	if err := b.install(ctx, dir, former); err != nil {
		return err
	}
	if onlyIfacer {
		return b.ifacerRounds(ctx, rounds)
	}
	if plot != "" {
		return b.scale(ctx, rounds/4, plot)
	}
	if b.macvlan, err = copied("bin/cni", dir, "macvlan"); err != nil {
		return fmt.Errorf("%w: run it by `make bench`", err)
	}
	var nodes []*node
	defer func() {
		for _, n := range nodes {
			n.Close()
		}
	}()
	for _, p := range b.plugins {
		for _, name := range []string{"empty", "busy"} {
			n, err := newNode(name+p.suffix, p)
			if err != nil {
				return err
			}
			nodes = append(nodes, n)
			if name == "empty" {
				continue
			}
			start := time.Now()
			others, err := n.crowd(ctx)
			if err != nil {
				return err
			}
			defer others.Close()
			fmt.Fprintf(os.Stderr, "%s node built in %.1f s: %d pods, %d service addresses, %d routes\n",
				n.Name(), time.Since(start).Seconds(), otherPods, serviceAddresses, hostRoutes)
		}
	}

	start := time.Now()
	for i := range rounds {
		for _, node := range inAnyOrder(nodes...) {
			if err := b.round(node, i < memoryRounds); err != nil {
				return fmt.Errorf("round %d on the %s node: %w", i+1, node.Name(), err)
			}
			if ctx.Err() != nil {
				return fmt.Errorf("interrupted after %d rounds", i)
			}
		}
	}
	fmt.Fprintf(os.Stderr, "%d rounds in %.0f s\n", rounds, time.Since(start).Seconds())
	return b.print(os.Stdout)
}

// plugins holds the plugins of one build.
type plugins struct {
	suffix                     string // of the names of their nodes
	coordinator, route, ifacer program
	multihomeIPAM              program // this and the next: "" in builds that have none
	staticMacvlan              program
}

// formerSuffix is the suffix of the build of -former.
const formerSuffix = ", former"

// install builds the programs with the flags of a release, and copies them and the plugins of
// -former into a directory. A copied file starts faster than the linker's own file, whose
// pages were written one by one.
func (b *bench) install(ctx context.Context, dir, former string) error {
	const module = "github.com/multihome/multihome/"
	linked := filepath.Join(dir, "linked")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked+"/",
		module+"integration/bench/echo", module+"integration/bench/floor", module+"plugins/coordinator", module+"plugins/route", module+"plugins/ifacer", module+"plugins/multihome-ipam", module+"plugins/static-macvlan-cni", module+"plugins/static-ipam")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the plugins: %w", err)
	}
	var err error
	if b.echo, err = copied(linked, dir, "echo"); err != nil {
		return err
	}
	if b.floor, err = copied(linked, dir, "floor"); err != nil {
		return err
	}
	for _, of := range []struct{ from, to, suffix string }{{linked, dir, ""}, {former, filepath.Join(dir, "former"), formerSuffix}} {
		if of.from == "" {
			continue
		}
		p := plugins{suffix: of.suffix}
		for name, into := range map[string]*program{"coordinator": &p.coordinator, "route": &p.route, "ifacer": &p.ifacer} {
			if *into, err = copied(of.from, of.to, name); err != nil {
				return err
			}
		}
		// static-macvlan-cni calls the other one.
		for name, into := range map[string]*program{"multihome-ipam": &p.multihomeIPAM, "static-macvlan-cni": &p.staticMacvlan, "static-ipam": new(program)} {
			if *into, err = copied(of.from, of.to, name); err != nil && (of.suffix == "" || !errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		}
		b.plugins = append(b.plugins, p)
	}
	return nil
}

// copied copies a program from one directory to another, and returns the path of the copy.
func copied(from, to, name string) (program, error) {
	binary, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return "", err
	}
	path := filepath.Join(to, name)
	return program(path), errors.Join(os.MkdirAll(to, 0o755), os.WriteFile(path, binary, 0o755))
}

// inAnyOrder shuffles its arguments.
func inAnyOrder[T any](v ...T) []T {
	rand.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
	return v
}
