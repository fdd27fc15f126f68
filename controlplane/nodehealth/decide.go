// SPDX-License-Identifier: Apache-2.0

package nodehealth

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/multihome/multihome/pkg/doctor"
)

// Type is the condition's type.
const Type corev1.NodeConditionType = "MultihomeReady"

// Reasons of the condition. With one finding, its own name is the reason.
const (
	NoProblem        = "NoProblem"
	Warnings         = "Warnings"         // True: there are warnings alone
	SeveralProblems  = "SeveralProblems"  // False
	ChecksIncomplete = "ChecksIncomplete" // Unknown: no problem was found, and not everything could be looked at
	NotExamined      = "NotExamined"      // Unknown: nothing could be looked at
)

const (
	// mostLines and mostBytes bound a message: all who watch Nodes get it.
	mostLines = 6
	mostBytes = 1000
)

// Finding is what another part of the agent found: a problem of the node, such as a fight with
// another program. Reason is in CamelCase, as in conditions.
type Finding struct{ Reason, Message string }

// Seen is what is known about the node.
type Seen struct {
	Report *doctor.Report // of this examination, nil if there is none
	Before *doctor.Report // of the one before, nil if there was none
	Err    error          // why there is no Report
	Others []Finding      // of other parts of the agent
}

// Decide returns type, status, reason and message of the condition. unsure says that
// something is new, so that another examination is to say whether it stays.
func Decide(s Seen) (c corev1.NodeCondition, unsure bool) {
	c = corev1.NodeCondition{Type: Type, Status: corev1.ConditionTrue, Reason: NoProblem, Message: "multihome doctor finds no problem on this node"}
	var problems, warnings, unseen []Finding
	problems = append(problems, s.Others...)
	if s.Report != nil {
		before := map[string]bool{}
		if s.Before != nil {
			for _, f := range s.Before.Findings {
				before[identity(f)] = true
			}
		}
		for _, f := range s.Report.Findings {
			switch {
			case f.Severity == doctor.Note:
			case !before[identity(f)]:
				unsure = true
			case f.Severity == doctor.Problem:
				problems = append(problems, finding(f))
			default:
				warnings = append(warnings, finding(f))
			}
		}
		for _, what := range s.Report.Unseen {
			unseen = append(unseen, Finding{ChecksIncomplete, "not looked at: " + what})
		}
	}
	switch {
	case len(problems) > 0:
		c.Status, c.Reason = corev1.ConditionFalse, SeveralProblems
		if one := problems[0].Reason; !slices.ContainsFunc(problems, func(f Finding) bool { return f.Reason != one }) {
			c.Reason = one
		}
		c.Message = message(append(problems, warnings...))
	case s.Err != nil:
		unsure = true
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, NotExamined, bounded(s.Err.Error(), mostBytes)
	case s.Report == nil:
		c.Status, c.Reason, c.Message = corev1.ConditionUnknown, NotExamined, "the node isn't examined yet"
	case len(unseen) > 0:
		c.Status, c.Reason = corev1.ConditionUnknown, ChecksIncomplete
		c.Message = message(append(warnings, unseen...))
	case len(warnings) > 0:
		c.Reason, c.Message = Warnings, message(warnings)
	}
	return c, unsure
}

// finding returns a finding of doctor for the condition.
func finding(f doctor.Finding) Finding {
	what, _, _ := strings.Cut(f.What, "\n")
	if f.Pod != "" {
		what = f.Pod + ": " + what
	}
	return Finding{camel(f.ID), fmt.Sprintf("%s %s: %s", f.Severity, f.ID, what)}
}

// camel returns ip-forward as IpForward.
func camel(id string) string {
	var out strings.Builder
	for part := range strings.SplitSeq(id, "-") {
		if part != "" {
			out.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return out.String()
}

// message returns a line for each finding, and what to do.
func message(all []Finding) string {
	const advice = "multihome doctor on the node says what to do"
	var out strings.Builder
	for i, f := range all {
		line := bounded(f.Message, mostBytes/2)
		if left := len(all) - i; i == mostLines || out.Len()+len(line) > mostBytes-100 {
			fmt.Fprintf(&out, "and %d more\n", left)
			break
		}
		out.WriteString(line + "\n")
	}
	return out.String() + advice
}

// bounded returns text with at most so many bytes, and an end that says that it is cut.
func bounded(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-3], "") + "..."
}

// number is a number by itself: it counts something, and may be another one each time.
var number = regexp.MustCompile(`(^| )[0-9]+( |$)`)

func withoutNumbers(text string) string { return number.ReplaceAllString(text, " # ") }

// identity tells findings apart.
func identity(f doctor.Finding) string {
	return strings.Join([]string{f.ID, string(f.Severity), f.Pod, withoutNumbers(f.What)}, "\n")
}

// Same reports whether two conditions say the same, but for numbers that change all the time.
func Same(a, b corev1.NodeCondition) bool {
	return a.Status == b.Status && a.Reason == b.Reason && withoutNumbers(a.Message) == withoutNumbers(b.Message)
}
