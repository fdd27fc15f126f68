// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// sample holds the values of one figure, in milliseconds or MiB.
type sample []float64

// quantile returns the value below which the part q of the sample is, with 0 ≤ q ≤ 1.
func (s sample) quantile(q float64) float64 {
	v := slices.Sorted(slices.Values(s))
	return v[int(q*float64(len(v)-1)+0.5)]
}

func (s sample) median() float64 { return s.quantile(0.5) }

// line is a line of the table: a figure, and the figures that it is compared with.
type line struct {
	what          string
	of            figure
	minimal, echo figure // the zero figure for no comparison
	target        target
}

// target is the greatest ratio of a figure to another one. The zero target is none.
type target struct {
	most    float64
	against string // "minimal" or "echo"
}

// lines returns the lines of one node, with the targets of the design. The minimal program is
// floor: its ADD is that of a first NIC by a veth, and its DEL is the deletion of the veth.
func lines(node string) []line {
	of := func(program, command string) figure { return figure{program, command, node} }
	none := figure{}
	add := func(what string, of figure, t target) line {
		return line{what, of, figure{"floor", "ADD", node}, figure{"echo", "ADD", node}, t}
	}
	other := func(what string, of figure, echo string, t target) line {
		return line{what, of, none, figure{"echo", echo, node}, t}
	}
	own := func(what, command string) line { return line{what, of("echo", command), none, none, target{}} }
	return []line{
		{"ADD: the minimal program", of("floor", "ADD"), none, of("echo", "ADD"), target{}},
		{"ADD: the same without nft", of("floor without nft", "ADD"), of("floor", "ADD"), of("echo", "ADD"), target{}},
		own("ADD: echo", "ADD"),
		add("ADD", of("coordinator", "ADD"), target{1.3, "minimal"}),
		add("ADD by the bridge", of("coordinator", "ADD by the bridge"), target{2.0, "echo"}),
		add("ADD of a further NIC", of("coordinator", "ADD of a further NIC"), target{}),
		add("ADD in overlay mode", of("coordinator", "ADD in overlay mode"), target{}),
		add("ADD again", of("coordinator", "re-ADD"), target{}),
		own("CHECK: echo", "CHECK"),
		other("CHECK", of("coordinator", "CHECK"), "CHECK", target{1.8, "echo"}),
		own("STATUS: echo", "STATUS"),
		other("STATUS", of("coordinator", "STATUS"), "STATUS", target{1.25, "echo"}),
		own("DEL: echo", "DEL"),
		other("DEL: the bare deletion", of("floor", "DEL"), "DEL", target{}),
		{"DEL", of("coordinator", "DEL"), of("floor", "DEL"), of("echo", "DEL"), target{1.15, "minimal"}},
		other("DEL by the bridge", of("coordinator", "DEL by the bridge"), "DEL", target{1.3, "echo"}),
		add("route: ADD by the bridge", of("route", "ADD by the bridge"), target{}),
		other("route: DEL by the bridge", of("route", "DEL by the bridge"), "DEL", target{}),
		add("route: ADD of a table", of("route", "ADD of a table"), target{}),
		other("route: DEL of a table", of("route", "DEL of a table"), "DEL", target{}),
		other("multihome-ipam: ADD", of("multihome-ipam", "ADD"), "ADD", target{1.3, "echo"}),
		other("multihome-ipam: CHECK", of("multihome-ipam", "CHECK"), "CHECK", target{}),
		other("multihome-ipam: STATUS", of("multihome-ipam", "STATUS"), "STATUS", target{}),
		other("multihome-ipam: DEL", of("multihome-ipam", "DEL"), "DEL", target{1.2, "echo"}),
		other("macvlan with static-ipam: ADD", of("macvlan", "ADD"), "ADD", target{}),
		other("static-macvlan-cni: ADD", of("static-macvlan-cni", "ADD"), "ADD", target{}),
		other("macvlan with static-ipam: DEL", of("macvlan", "DEL"), "DEL", target{}),
		other("static-macvlan-cni: DEL", of("static-macvlan-cni", "DEL"), "DEL", target{}),
	}
}

const (
	memoryTarget     = 20  // MiB
	binaryTarget     = 6.0 // MB
	ipamBinaryTarget = 3.5 // MB
)

// busierTarget is the target for the growth of ADD from the empty to the busy node: its ratio
// may exceed that of the minimal program by this much.
const busierTarget = 0.05

// print writes the table.
func (b *bench) print(out io.Writer) error {
	w := header(out)
	for _, p := range b.plugins {
		for _, node := range []string{"empty" + p.suffix, "busy" + p.suffix} {
			for _, l := range lines(node) {
				b.printLine(w, l)
			}
		}
		busier := func(program string) float64 {
			return b.samples[figure{program, "ADD", "busy" + p.suffix}].median() / b.samples[figure{program, "ADD", "empty" + p.suffix}].median()
		}
		least, which := busier("floor"), strings.TrimPrefix(p.suffix, ", ")
		fmt.Fprintf(w, "ADD: the minimal program, busy ÷ empty\t%s\t%.2f\t\t\t\t\t\t\n", which, least)
		fmt.Fprintf(w, "ADD, busy ÷ empty\t%s\t%.2f\t\t\t\t\t%s\n", which, busier("coordinator"), verdict(busier("coordinator"), least+busierTarget, "≤ %.2f"))
	}
	for _, p := range b.plugins {
		for _, node := range []string{"empty" + p.suffix, "busy" + p.suffix} {
			for _, program := range []string{"echo", "coordinator"} {
				s := b.samples[figure{program, "memory", node}]
				target := "\t"
				if program == "coordinator" {
					target = verdict(s.median(), memoryTarget, "≤ %.0f MiB")
				}
				fmt.Fprintf(w, "peak memory of ADD: %s\t%s\t%.1f MiB\t%.1f – %.1f\t\t\t\t%s\n",
					program, node, s.median(), s.quantile(0.25), s.quantile(0.75), target)
			}
		}
	}
	type binary struct {
		program
		suffix string
		most   float64 // MB; 0 for no target
	}
	binaries := []binary{{b.echo, "", 0}}
	for _, p := range b.plugins {
		binaries = append(binaries, binary{p.coordinator, p.suffix, binaryTarget})
		if p.multihomeIPAM != "" {
			binaries = append(binaries, binary{p.multihomeIPAM, p.suffix, ipamBinaryTarget})
		}
	}
	for _, p := range binaries {
		info, err := os.Stat(string(p.program))
		if err != nil {
			return err
		}
		size, target := float64(info.Size())/1e6, "\t"
		if p.most > 0 {
			target = verdict(size, p.most, "≤ %.1f MB")
		}
		fmt.Fprintf(w, "binary: %s%s\t\t%.2f MB\t\t\t\t\t%s\n", info.Name(), p.suffix, size, target)
	}
	return w.Flush()
}

// header begins the table.
func header(out io.Writer) *tabwriter.Writer {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "figure\tnode\tmedian\tquartiles\t÷ minimal\t÷ echo\t÷ former\ttarget\t")
	return w
}

// printLine writes a line of the table.
func (b *bench) printLine(w io.Writer, l line) {
	s := b.samples[l.of]
	if s == nil {
		return // a former build has no such plugin
	}
	ratio := func(to figure) float64 { return s.median() / b.samples[to].median() }
	column := func(to figure) string {
		if b.samples[to] == nil {
			return "\t"
		}
		return fmt.Sprintf("%.2f\t", ratio(to))
	}
	former := l.of
	former.node += formerSuffix
	fmt.Fprintf(w, "%s\t%s\t%.2f ms\t%.2f – %.2f\t%s%s%s", l.what, l.of.node, s.median(), s.quantile(0.25), s.quantile(0.75),
		column(l.minimal), column(l.echo), column(former))
	switch l.target.against {
	case "minimal":
		fmt.Fprintln(w, verdict(ratio(l.minimal), l.target.most, "≤ %.2f × minimal"))
	case "echo":
		fmt.Fprintln(w, verdict(ratio(l.echo), l.target.most, "≤ %.2f × echo"))
	default:
		fmt.Fprintln(w, "\t")
	}
}

// verdict returns two columns: the target, and whether the value meets it.
func verdict(value, target float64, format string) string {
	word := "met"
	if value > target {
		word = "missed"
	}
	return fmt.Sprintf(format, target) + "\t" + word
}
