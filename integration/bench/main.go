// SPDX-License-Identifier: Apache-2.0

// Command bench measures the plugins as a container runtime sees them: whole
// processes, from fork until the exit status and the output are there. It
// compares them with three others that are built and run beside it, in the same
// rounds: a plugin that only echoes prevResult, a program that does only the
// kernel's work, and the bare deletion of the same link. Everything is done once
// on an empty node and once on a busy one.
//
// With -former it does the same for other builds of the plugins, on nodes like these,
// and says how the two compare.
//
// With -ifacer it measures that plugin instead, which needs a kernel with VLANs
// and bonds. With -scale it measures how ADD grows with what the node and the pod
// have already, and plots that.
//
// It needs root, and changes only network namespaces of its own. It prints one
// table, with the targets of the design beside the figures; a missed target is no
// error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// memoryRounds is how often peak memory is read; it hardly varies.
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

// plugins are those of one tree.
type plugins struct {
	suffix                     string // of the names of nodes that they run on
	coordinator, route, ifacer program
}

// formerSuffix is that of the plugins to compare with.
const formerSuffix = ", former"

// install makes the binaries as they are released, and copies them, and the former
// ones, into a directory: a file that was copied starts faster than the same file as
// the linker left it, whose pages were written one by one.
func (b *bench) install(ctx context.Context, dir, former string) error {
	const module = "github.com/multihome/multihome/"
	linked := filepath.Join(dir, "linked")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked+"/",
		module+"integration/bench/echo", module+"integration/bench/floor", module+"plugins/coordinator", module+"plugins/route", module+"plugins/ifacer")
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
		b.plugins = append(b.plugins, p)
	}
	return nil
}

func copied(from, to, name string) (program, error) {
	binary, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		return "", err
	}
	path := filepath.Join(to, name)
	return program(path), errors.Join(os.MkdirAll(to, 0o755), os.WriteFile(path, binary, 0o755))
}

func inAnyOrder[T any](v ...T) []T {
	rand.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
	return v
}
