// SPDX-License-Identifier: Apache-2.0

// Command bench measures the plugins as a container runtime sees them: whole
// processes, from fork until the exit status and the output are there. It
// compares them with three others that are built and run beside it, in the same
// rounds: a plugin that only echoes prevResult, a program that does only the
// kernel's work, and the bare deletion of the same link. Everything is done once
// on an empty node and once on a busy one.
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
	scale := flag.String("scale", "", "measure how ADD grows with what the node and the pod have, and plot it into an SVG `file`")
	flag.Parse()
	if err := run(max(4, *n), *onlyIfacer, *scale); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, onlyIfacer bool, plot string) error {
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
	b := &bench{
		echo:        "echo",
		floor:       "floor",
		coordinator: "coordinator",
		route:       "route",
		ifacer:      "ifacer",
		samples:     map[figure]sample{},
	}
	if err := b.build(ctx, dir); err != nil {
		return err
	}
	if onlyIfacer {
		return b.ifacerRounds(ctx, rounds)
	}
	if plot != "" {
		return b.scale(ctx, rounds/4, plot)
	}
	empty, err := newNode("empty")
	if err != nil {
		return err
	}
	defer empty.Close()
	busy, err := newNode("busy")
	if err != nil {
		return err
	}
	defer busy.Close()
	start := time.Now()
	others, err := busy.crowd(ctx)
	if err != nil {
		return err
	}
	defer others.Close()
	fmt.Fprintf(os.Stderr, "busy node built in %.1f s: %d pods, %d service addresses, %d routes\n",
		time.Since(start).Seconds(), otherPods, serviceAddresses, hostRoutes)

	start = time.Now()
	for i := range rounds {
		for _, node := range inAnyOrder(empty, busy) {
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

// build makes the binaries as they are released, and installs them: a file that
// was copied starts faster than the same file as the linker left it, whose pages
// were written one by one.
func (b *bench) build(ctx context.Context, dir string) error {
	const module = "github.com/multihome/multihome/"
	linked := filepath.Join(dir, "linked")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", linked+"/",
		module+"integration/bench/echo", module+"integration/bench/floor", module+"plugins/coordinator", module+"plugins/route", module+"plugins/ifacer")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the plugins: %w", err)
	}
	for _, p := range []*program{&b.echo, &b.floor, &b.coordinator, &b.route, &b.ifacer} {
		binary, err := os.ReadFile(filepath.Join(linked, string(*p)))
		if err != nil {
			return err
		}
		*p = program(filepath.Join(dir, string(*p)))
		if err := os.WriteFile(string(*p), binary, 0o755); err != nil {
			return err
		}
	}
	return nil
}

func inAnyOrder[T any](v ...T) []T {
	rand.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
	return v
}
