// SPDX-License-Identifier: Apache-2.0

// Package doctor finds the reasons why pods of this node don't work: settings of the
// node, other software that removes what the plugins made, leftovers of dead pods, and
// objects that living pods lack. Each finding says what is there, why it matters and
// how to fix it.
//
//	r, err := doctor.Examine(doctor.Options{CacheDirs: inspect.CacheDirs, ConfDir: doctor.ConfDir})
//	if err != nil {
//		return err // it could look at nothing
//	}
//	err = report.Write(os.Stdout, "text", r)
//
// Examine needs root. It reads the network namespace that it runs in, those of the pods,
// and files. It changes nothing, except with [Options.Fix], and then only what is ours.
//
// Beware: a check that fails is no error of Examine. The check is listed in
// [Report.Unseen], so a report without findings may be incomplete.
package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/inspect"
)

// Severity says how much a finding matters.
type Severity string

// The severities, the gravest first. A Note needs no fix.
const (
	Problem Severity = "problem"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Kind describes a kind of finding. Words in capitals in Remedy are placeholders; each
// finding replaces them with names and commands.
type Kind struct {
	ID       string
	Severity Severity
	What     string // the condition
	Why      string // its consequences, and its causes
	Remedy   string // commands for a shell on the node; comments are steps elsewhere
	Ours     bool   // [Options.Fix] fixes it
}

// Finding is a condition that was found on the node or in a pod.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Pod      string   `json:"pod,omitempty"` // "" for the node
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Remedy   string   `json:"remedy"`
	Fixable  bool     `json:"fixable"` // by multihome doctor --fix

	containerID string
}

// Fact is an observation that is not wrong in itself.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Patient is a pod that was examined.
type Patient struct {
	Name        string `json:"name"`
	ContainerID string `json:"containerID"`
	NICs        string `json:"nics"`
	Findings    int    `json:"findings"`
}

// Report is the result of an examination.
type Report struct {
	Node     []Fact    `json:"node"`
	Pods     []Patient `json:"pods"`
	Fixed    []string  `json:"fixed,omitempty"`
	Findings []Finding `json:"findings"`
	Unseen   []string  `json:"unseen,omitempty"` // checks that could not be made, and why
}

// Healthy reports whether there is no problem and no warning.
func (r *Report) Healthy() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Note })
}

// Options select the pods to examine, and say where to find them.
type Options struct {
	CacheDirs []string // directories in which runtimes keep results, for [inspect.Find]
	ConfDir   string   // directory of the node's network configurations
	Pod       string   // one pod, named as [inspect.Find] takes it; "" for all of the node
	Fix       bool     // fix what is ours before examining
}

// check is a part of the examination. run returns an error for anything that it could
// not read.
type check struct {
	subject string
	run     func(n *node) error
}

// checks lists all checks, in the order of the report.
var checks = []check{
	{"forwarding", forwarding},
	{"rp_filter", reversePath},
	{"router advertisements", adverts},
	{"ARP", arp},
	{"netfilter", netfilter},
	{"kube-proxy", kubeProxy},
	{"endpoints", endpoints},
	{"networkd", networkd},
	{"NetworkManager", networkManager},
	{"nm-cloud-setup", cloudSetup},
	{"rules", foreignRules},
	{"Multus", multus},
	{"Cilium", cilium},
	{"Calico", calico},
	{"neighbours", neighbours},
	{"connections", connections},
	{"kernel", modules},
	{"plugins", missingPlugins},
	{"masters", unfitParents},
	{"networks", parents},
	{"leftovers", leftovers},
	{"entries", stale},
	{"drift", drift},
	{"NICs", findMissingNICs},
	{"virtual machines", bridged},
	{"addresses", duplicates},
	{"pools", pools},
	{"lost addresses", lostAddresses},
	{"ways out", waysOut},
	{"services", services},
}

// Examine runs all checks on this node. It returns an error if it can't find the pod of
// [Options.Pod] or can't read the node's network namespace.
func Examine(o Options) (*Report, error) {
	var only *inspect.Pod
	if o.Pod != "" {
		pod, err := inspect.Find(o.Pod, o.CacheDirs)
		if err != nil {
			return nil, err
		}
		only = &pod
	}
	var fixed []string
	var unmended error
	if o.Fix {
		fixed, unmended = fix(o, only)
	}
	n, err := observe(o, only)
	if err != nil {
		return nil, err
	}
	defer n.kernel.Close()
	n.report.Fixed = fixed
	n.noteUnreadable("--fix", unmended)
	for _, c := range checks {
		n.noteUnreadable(c.subject, c.run(n))
	}
	n.count()
	return n.report, nil
}

// found adds a finding about the node. Pairs of a placeholder and its value fill in the
// remedy.
func (n *node) found(k Kind, what string, pairs ...string) { n.foundIn(nil, k, what, pairs...) }

// foundIn adds a finding about a pod, or about the node if p is nil.
func (n *node) foundIn(p *pod, k Kind, what string, pairs ...string) {
	pairs = append(pairs, "FLAGS", n.options.flags())
	remedy := strings.NewReplacer(pairs...).Replace(k.Remedy)
	f := Finding{ID: k.ID, Severity: k.Severity, What: what, Why: k.Why, Remedy: strings.TrimSpace(remedy), Fixable: k.Ours}
	if p != nil {
		f.Pod, f.containerID = p.Name, p.ContainerID
	}
	n.report.Findings = append(n.report.Findings, f)
}

// fact adds an observation that is not wrong in itself.
func (n *node) fact(name, format string, a ...any) {
	n.report.Node = append(n.report.Node, Fact{name, fmt.Sprintf(format, a...)})
}

// noteUnreadable adds each line of an error to [Report.Unseen]. It ignores nil.
func (n *node) noteUnreadable(subject string, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		n.report.Unseen = append(n.report.Unseen, subject+": "+strings.TrimSpace(line))
	}
}

// count sorts the findings, the gravest first, and counts those of each pod.
func (n *node) count() {
	order := []Severity{Problem, Warning, Note}
	slices.SortStableFunc(n.report.Findings, func(a, b Finding) int {
		return slices.Index(order, a.Severity) - slices.Index(order, b.Severity)
	})
	for i, p := range n.report.Pods {
		for _, f := range n.report.Findings {
			if f.Pod == p.Name && f.containerID == p.ContainerID {
				n.report.Pods[i].Findings++
			}
		}
	}
}

// flags returns the command-line flags that a remedy has to repeat, each with a space
// before it.
func (o Options) flags() string {
	var out string
	if !slices.Equal(o.CacheDirs, inspect.CacheDirs) {
		out += " --cache-dir " + strings.Join(o.CacheDirs, ",")
	}
	if o.ConfDir != ConfDir {
		out += " --conf-dir " + o.ConfDir
	}
	return out
}

// ConfDir is the directory in which runtimes look for network configurations.
const ConfDir = "/etc/cni/net.d"
