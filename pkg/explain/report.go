// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/report"
)

// Report is what ADD of a network would do. As text it is a script for a shell on
// the node.
type Report struct {
	Network     string      `json:"network"`
	IfName      string      `json:"ifname"`
	ContainerID string      `json:"containerID"`
	Netns       string      `json:"netns,omitempty"` // path; "": the pod is described
	Notes       []Note      `json:"notes,omitempty"`
	Operations  []Operation `json:"operations"`

	chain []string // the plugins
	at    place
}

// Note is what is to be known about what is said of a plugin.
type Note struct {
	Plugin string `json:"plugin"`
	Text   string `json:"note"`

	step int // of the chain
}

// Operation is something that a plugin would do.
type Operation struct {
	Plugin  string      `json:"plugin"`
	NS      netstate.NS `json:"ns"`      // where it has its effect: host or pod
	Command string      `json:"command"` // what does the same, for a shell on the node
	Reason  string      `json:"reason"`

	step int // of the chain
}

func (r *Report) begin(plugin string) { r.chain = append(r.chain, plugin) }

func (r *Report) last() string { return r.chain[len(r.chain)-1] }

func (r *Report) note(texts ...string) {
	for _, text := range texts {
		r.Notes = append(r.Notes, Note{r.last(), text, len(r.chain) - 1})
	}
}

// WriteText writes the commands with their reasons, and as comments all else.
func (r *Report) WriteText(w io.Writer, s report.Style) error {
	var b strings.Builder
	line := func(format string, a ...any) { b.WriteString(fmt.Sprintf(format, a...) + "\n") }
	line("%s", s.Faint(fmt.Sprintf("# What ADD of network %s would do for %s of %s. Nothing of it is done.", r.Network, r.IfName, cmp.Or(r.Netns, "a described pod"))))
	if r.Netns == "" {
		line("%s", s.Faint(fmt.Sprintf("# %s stands for the pod's network namespace. What is not described is taken for not being there.", r.at)))
	}
	for i, name := range r.chain {
		line("")
		line("%s", s.Head("# "+name))
		for _, n := range r.Notes {
			if n.step == i {
				line("%s", s.Faint("#   "+n.Text))
			}
		}
		for _, o := range r.Operations {
			if o.step == i {
				line("%s %s", o.Command, s.Faint("# "+o.Reason))
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
