// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/multihome/multihome/pkg/report"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer, s report.Style) error {
	p := printer{w: w}
	p.line("%s", s.Head("node"))
	for _, f := range r.Node {
		p.line("  %s: %s", f.Name, f.Value)
	}
	for _, pod := range r.Pods {
		state := s.Good("nothing found")
		if pod.Findings > 0 {
			state = s.Warn(counted(pod.Findings, "finding"))
		}
		p.line("%s %s (%s): %s", s.Head("pod"), short(pod.Name), pod.NICs, state)
	}
	for _, f := range r.Fixed {
		p.line("%s %s", s.Good("fixed"), f)
	}
	for _, f := range r.Findings {
		p.finding(f, s)
	}
	if len(r.Unseen) > 0 {
		p.line("\n%s", s.Warn("not looked at"))
	}
	for _, u := range r.Unseen {
		p.line("  %s", u)
	}
	p.line("\n%s", r.summary())
	return p.err
}

// summary counts the findings of each severity.
func (r *Report) summary() string {
	n := map[Severity]int{}
	for _, f := range r.Findings {
		n[f.Severity]++
	}
	return counted(n[Problem], "problem") + ", " + counted(n[Warning], "warning") + ", " + counted(n[Note], "note")
}

// counted returns a number with a noun, in the plural unless the number is 1.
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// printer writes lines, and keeps the first error of writing.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, a ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", a...)
	}
}

func (p *printer) finding(f Finding, s report.Style) {
	severity := map[Severity]func(string) string{Problem: s.Bad, Warning: s.Warn, Note: s.Faint}[f.Severity]
	where := ""
	if f.Pod != "" {
		where = "pod " + short(f.Pod) + ": "
	}
	p.line("\n%s %s", severity(string(f.Severity)), s.Head(f.ID))
	p.line("  %s%s", where, f.What)
	p.line("  %s", s.Faint(f.Why))
	for line := range strings.Lines(f.Remedy) {
		p.line("    %s", strings.TrimSuffix(line, "\n"))
	}
}

// short cuts a container ID to its first twelve characters, as people write it.
func short(name string) string {
	const id, enough = 64, 12
	if len(name) == id && !strings.Contains(name, "/") {
		return name[:enough]
	}
	return name
}
