// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// sample is what was measured of one figure, in milliseconds or MiB.
type sample []float64

// quantile is the value that the part q of the sample is not above.
func (s sample) quantile(q float64) float64 {
	v := slices.Sorted(slices.Values(s))
	return v[int(q*float64(len(v)-1)+0.5)]
}

func (s sample) median() float64 { return s.quantile(0.5) }

// line is a line of the table: a figure, what it is compared with, and how many
// times that it may be.
type line struct {
	what    string
	of      figure
	against figure
	name    string // of what it is compared with
	target  float64
}

// lines are the figures on one node, with the targets of the design. ADD's on the
// busy node is another: how it compares with the empty one.
func lines(node string) []line {
	of := func(program, command string) figure { return figure{program, command, node} }
	echo := func(command string) figure { return of("echo", command) }
	coordinator := func(command string) figure { return of("coordinator", command) }
	route := func(command string) figure { return of("route", command) }
	add := []line{
		{"ADD", coordinator("ADD"), echo("ADD"), "echo", 2.4},
		{"ADD, the moonshot", coordinator("ADD"), echo("ADD"), "echo", 2.0},
	}
	if node == "busy" {
		add = []line{
			{"ADD", coordinator("ADD"), echo("ADD"), "echo", 0},
			{"ADD against the empty node", coordinator("ADD"), figure{"coordinator", "ADD", "empty"}, "empty", 1.2},
			{"ADD: the kernel's work against the empty node", of("floor", "ADD"), figure{"floor", "ADD", "empty"}, "empty", 0},
		}
	}
	return slices.Concat([]line{
		{"ADD: echo", echo("ADD"), figure{}, "", 0},
		{"ADD: the kernel's work, no nft", of("floor without nft", "ADD"), echo("ADD"), "echo", 0},
		{"ADD: the kernel's work", of("floor", "ADD"), echo("ADD"), "echo", 0},
	}, add, []line{
		{"ADD by the bridge", coordinator("ADD by the bridge"), echo("ADD"), "echo", 2.0},
		{"ADD of a further NIC", coordinator("ADD of a further NIC"), echo("ADD"), "echo", 0},
		{"ADD in overlay mode", coordinator("ADD in overlay mode"), echo("ADD"), "echo", 0},
		{"ADD again", coordinator("re-ADD"), echo("ADD"), "echo", 0},
		{"CHECK: echo", echo("CHECK"), figure{}, "", 0},
		{"CHECK", coordinator("CHECK"), echo("CHECK"), "echo", 1.8},
		{"STATUS: echo", echo("STATUS"), figure{}, "", 0},
		{"STATUS", coordinator("STATUS"), echo("STATUS"), "echo", 1.3},
		{"DEL: echo", echo("DEL"), figure{}, "", 0},
		{"DEL: the bare deletion", of("floor", "DEL"), echo("DEL"), "echo", 0},
		{"DEL", coordinator("DEL"), of("floor", "DEL"), "bare deletion", 1.15},
		{"DEL by the bridge", coordinator("DEL by the bridge"), echo("DEL"), "echo", 1.3},
		{"route: ADD by the bridge", route("ADD by the bridge"), echo("ADD"), "echo", 0},
		{"route: DEL by the bridge", route("DEL by the bridge"), echo("DEL"), "echo", 0},
		{"route: ADD of a table", route("ADD of a table"), echo("ADD"), "echo", 0},
		{"route: DEL of a table", route("DEL of a table"), echo("DEL"), "echo", 0},
	})
}

const (
	memoryTarget = 20  // MiB
	binaryTarget = 6.0 // MB
)

// print writes the table.
func (b *bench) print(out io.Writer) error {
	w := header(out)
	for _, node := range []string{"empty", "busy"} {
		for _, l := range lines(node) {
			b.printLine(w, l, node)
		}
	}
	for _, node := range []string{"empty", "busy"} {
		for _, program := range []string{"echo", "coordinator"} {
			s := b.samples[figure{program, "memory", node}]
			target := "\t"
			if program == "coordinator" {
				target = verdict(s.median(), memoryTarget, "≤ %.0f MiB")
			}
			fmt.Fprintf(w, "peak memory of ADD: %s\t%s\t%.1f MiB\t%.1f – %.1f\t\t%s\n",
				program, node, s.median(), s.quantile(0.25), s.quantile(0.75), target)
		}
	}
	for _, p := range []program{b.echo, b.coordinator} {
		info, err := os.Stat(string(p))
		if err != nil {
			return err
		}
		size, target := float64(info.Size())/1e6, "\t"
		if p == b.coordinator {
			target = verdict(size, binaryTarget, "≤ %.0f MB")
		}
		fmt.Fprintf(w, "binary: %s\t\t%.2f MB\t\t\t%s\n", info.Name(), size, target)
	}
	return w.Flush()
}

func header(out io.Writer) *tabwriter.Writer {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tnode\tmedian\tquartiles\tratio\ttarget\t")
	return w
}

func (b *bench) printLine(w io.Writer, l line, node string) {
	s := b.samples[l.of]
	fmt.Fprintf(w, "%s\t%s\t%.2f ms\t%.2f – %.2f\t", l.what, node, s.median(), s.quantile(0.25), s.quantile(0.75))
	if l.name == "" {
		fmt.Fprintln(w, "\t\t")
		return
	}
	ratio := s.median() / b.samples[l.against].median()
	target := "\t"
	if l.target > 0 {
		target = verdict(ratio, l.target, "≤ %.2f ×")
	}
	fmt.Fprintf(w, "%.2f × %s\t%s\n", ratio, l.name, target)
}

// verdict is a target and whether it is met.
func verdict(value, target float64, format string) string {
	word := "met"
	if value > target {
		word = "missed"
	}
	return fmt.Sprintf(format, target) + "\t" + word
}
