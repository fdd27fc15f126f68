// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/multihome/multihome/pkg/report"
)

// WriteText writes the trace for people.
func (t *Trace) WriteText(w io.Writer, s report.Style) error {
	var b strings.Builder
	head := fmt.Sprintf("pod %s: %s > %s", t.Pod, t.From, t.To)
	if t.In != "" {
		head = fmt.Sprintf("pod %s: %s > %s, in by %s", t.Pod, t.To, t.From, t.In)
	}
	if t.Mark != "" {
		head += ", mark " + t.Mark
	}
	b.WriteString(s.Head(head) + "\n")
	writeLegs(&b, s, "request", t.Request)
	writeLegs(&b, s, "reply", t.Reply)
	verdict := s.Warn(t.Verdict)
	if t.Symmetric {
		verdict = s.Good(t.Verdict)
	}
	b.WriteString("\n" + verdict + "\n")
	if t.Probe != nil {
		t.Probe.write(&b, s)
	}
	if len(t.Disagreements) == 0 {
		fmt.Fprintf(&b, "%s\n", s.Faint(fmt.Sprintf("The kernel decides the same, %d of %d times asked.", t.Agreed, t.Agreed)))
	}
	for _, d := range t.Disagreements {
		b.WriteString(s.Bad("THE KERNEL DECIDES OTHERWISE: "+d) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeLegs(b *strings.Builder, s report.Style, what string, legs []Leg) {
	for _, l := range legs {
		line := what + " in the " + l.Where
		if l.In != "" {
			line += ", in by " + l.In
		}
		if l.Mark != "" {
			line += ", mark " + l.Mark
		}
		b.WriteString("\n" + s.Head(line) + "\n")
		writeSteps(b, s, l.Steps)
		fmt.Fprintf(b, "  -> %s\n", l.Ends)
		for _, n := range l.Notes {
			fmt.Fprintf(b, "     %s\n", n)
		}
	}
}

// writeSteps writes the rules and their results as a table.
func writeSteps(b *strings.Builder, s report.Style, steps []Step) {
	var table strings.Builder
	tw := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	for _, step := range steps {
		_, _ = fmt.Fprintf(tw, "  %s\t%s\n", step.Rule, step.Result)
	}
	_ = tw.Flush() // a Builder doesn't fail
	lines := strings.Split(table.String(), "\n")
	for i, step := range steps {
		switch {
		case !step.Decides:
			lines[i] = s.Faint(lines[i])
		case strings.HasSuffix(step.Rule, "proto multihome"):
			lines[i] = s.Ours(lines[i])
		}
		b.WriteString(lines[i] + "\n")
	}
}
