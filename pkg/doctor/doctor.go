// SPDX-License-Identifier: Apache-2.0

// Package doctor looks for what keeps pods of this node from working: settings of
// the node, other software that takes away what the plugins make, leftovers of dead
// pods, and what living ones lack. Each finding says what is there, why it matters
// and what mends it.
//
// It reads the network namespace that it runs in, those of the pods, and files, and
// changes nothing, unless it is asked to mend what is ours.
package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/inspect"
)

// Severity is how much a finding matters.
type Severity string

// What a finding can be. A Note is nothing that has to be mended.
const (
	Problem Severity = "problem"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Kind is a sort of finding. Words in capitals stand for what a finding names.
type Kind struct {
	ID       string
	Severity Severity
	What     string
	Why      string
	Remedy   string // for a shell on the node; what is to be done elsewhere is a comment
	Ours     bool   // [Options.Fix] mends it
}

// Finding is something that was found.
type Finding struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Pod      string   `json:"pod,omitempty"` // "": the node
	What     string   `json:"what"`
	Why      string   `json:"why"`
	Remedy   string   `json:"remedy"`
	Fixable  bool     `json:"fixable"` // by multihome doctor --fix

	containerID string
}

// Fact is something that was looked at and is not wrong in itself.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Patient is a pod that was looked at.
type Patient struct {
	Name        string `json:"name"`
	ContainerID string `json:"containerID"`
	NICs        string `json:"nics"`
	Findings    int    `json:"findings"`
}

// Report is all that was found.
type Report struct {
	Node     []Fact    `json:"node"`
	Pods     []Patient `json:"pods"`
	Fixed    []string  `json:"fixed,omitempty"`
	Findings []Finding `json:"findings"`
	Unseen   []string  `json:"unseen,omitempty"` // what could not be looked at, and why
}

// Healthy reports whether nothing has to be mended.
func (r *Report) Healthy() bool {
	return !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity != Note })
}

// Options say what to look at.
type Options struct {
	CacheDirs []string // where runtimes keep results, for [inspect.Find]
	ConfDir   string   // of the node's configurations
	Pod       string   // one pod, as [inspect.Find] takes it; "": all of the node
	Fix       bool     // mend what is ours
}

// check is a part of the examination. Its error says what it could not look at.
type check struct {
	of  string
	run func(n *node) error
}

// checks are all there are, in the order of the report.
var checks = []check{
	{"forwarding", forwarding},
	{"rp_filter", reversePath},
	{"ARP", arp},
	{"netfilter", netfilter},
	{"kube-proxy", kubeProxy},
	{"endpoints", endpoints},
	{"networkd", networkd},
	{"NetworkManager", networkManager},
	{"nm-cloud-setup", cloudSetup},
	{"Cilium", cilium},
	{"Calico", calico},
	{"neighbours", neighbours},
	{"kernel", modules},
	{"networks", parents},
	{"leftovers", leftovers},
	{"entries", stale},
	{"drift", drift},
	{"NICs", findMissingNICs},
	{"virtual machines", bridged},
	{"addresses", duplicates},
	{"ways out", waysOut},
	{"services", services},
}

// Examine looks at a node. The error says why it could not look at all.
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
		n.noteUnreadable(c.of, c.run(n))
	}
	n.count()
	return n.report, nil
}

// found notes a finding about the node. Pairs replace words of the remedy.
func (n *node) found(k Kind, what string, pairs ...string) { n.foundIn(nil, k, what, pairs...) }

// foundIn notes a finding about a pod.
func (n *node) foundIn(p *pod, k Kind, what string, pairs ...string) {
	pairs = append(pairs, "FLAGS", n.options.flags())
	remedy := strings.NewReplacer(pairs...).Replace(k.Remedy)
	f := Finding{ID: k.ID, Severity: k.Severity, What: what, Why: k.Why, Remedy: strings.TrimSpace(remedy), Fixable: k.Ours}
	if p != nil {
		f.Pod, f.containerID = p.Name, p.ContainerID
	}
	n.report.Findings = append(n.report.Findings, f)
}

// fact notes what is not wrong in itself.
func (n *node) fact(name, format string, a ...any) {
	n.report.Node = append(n.report.Node, Fact{name, fmt.Sprintf(format, a...)})
}

// noteUnreadable notes what could not be looked at.
func (n *node) noteUnreadable(of string, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		n.report.Unseen = append(n.report.Unseen, of+": "+strings.TrimSpace(line))
	}
}

// count sorts the findings, the gravest first, and tells them to their pods.
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

// flags are those of the command line that a remedy has to repeat.
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

// ConfDir is where runtimes look for configurations.
const ConfDir = "/etc/cni/net.d"
