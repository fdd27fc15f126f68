// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/report"
)

// Report lists what ADD of a network would do. Its text is a script for a shell on the
// node.
type Report struct {
	Network     string      `json:"network"`
	IfName      string      `json:"ifname"`
	ContainerID string      `json:"containerID"`
	Netns       string      `json:"netns,omitempty"` // path; "": the pod is described
	Notes       []Note      `json:"notes,omitempty"`
	Settings    []Settings  `json:"settings,omitempty"`
	Operations  []Operation `json:"operations"`

	chain []string // the plugins
	at    place
}

// Note is a remark on the operations of a plugin.
type Note struct {
	Plugin string `json:"plugin"`
	Text   string `json:"note"`

	step int // of the chain
}

// Settings are the values of the keys of a plugin, each with its origin.
type Settings struct {
	Plugin string `json:"plugin"`
	keys.Settings

	step int // of the chain
}

// Operation is one change that a plugin would make.
type Operation struct {
	Plugin  string      `json:"plugin"`
	NS      netstate.NS `json:"ns"`      // namespace that it changes: host or pod
	Command string      `json:"command"` // for a shell on the node
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

// WriteText writes the commands with their reasons. Everything else is comments.
func (r *Report) WriteText(w io.Writer, s report.Style) error {
	var b strings.Builder
	line := func(format string, a ...any) { b.WriteString(fmt.Sprintf(format, a...) + "\n") }
	line("%s", s.Faint(fmt.Sprintf("# What ADD of network %s would do for %s of %s. Nothing is changed.", r.Network, r.IfName, cmp.Or(r.Netns, "a described pod"))))
	if r.Netns == "" {
		line("%s", s.Faint(fmt.Sprintf("# %s stands for the pod's network namespace. Anything that is not described is assumed to be absent.", r.at)))
	}
	for i, name := range r.chain {
		line("")
		line("%s", s.Head("# "+name))
		for _, n := range r.Notes {
			if n.step == i {
				line("%s", s.Faint("#   "+n.Text))
			}
		}
		for _, of := range r.Settings {
			if of.step == i {
				for _, l := range of.Lines() {
					line("%s", s.Faint("#   "+l))
				}
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
