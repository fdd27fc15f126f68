// SPDX-License-Identifier: Apache-2.0

package show

import (
	"cmp"
	"io"
	"os"
	"strings"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/report"
)

// List lists the pods of a node.
type List []Pod

// Pod is a pod that the node has records or results of. It may be dead.
type Pod struct {
	Name        string       `json:"name,omitempty"`
	ContainerID string       `json:"containerID"`
	Netns       string       `json:"netns"`
	Gone        bool         `json:"gone,omitempty"` // its network namespace doesn't exist any more
	NICs        []Attachment `json:"nics"`
}

// Attachment is a NIC of a pod, and the network that it is in.
type Attachment struct {
	IfName  string `json:"ifName"`
	Network string `json:"network"`
}

// ListOf lists pods, and looks whether their network namespaces exist.
func ListOf(pods []inspect.Pod) List {
	list := List{} // encoding/json writes [] for it, but null for nil
	for _, p := range pods {
		_, err := os.Stat(p.Netns)
		l := Pod{Name: p.Name, ContainerID: p.ContainerID, Netns: p.Netns, Gone: err != nil}
		for _, a := range p.Attachments {
			l.NICs = append(l.NICs, Attachment{a.IfName, a.Network})
		}
		list = append(list, l)
	}
	return list
}

// WriteText writes the list as a table.
func (l List) WriteText(w io.Writer, s report.Style) error {
	p := &page{style: s}
	if len(l) == 0 {
		p.line("no pod is recorded on this node")
	} else {
		p.table(l.rows())
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func (l List) rows() []row {
	rows := []row{{header: true, cells: []string{"CONTAINER", "POD", "NETNS", "NICS"}}}
	for _, p := range l {
		var nics []string
		for _, n := range p.NICs {
			nics = append(nics, n.IfName+" ("+n.Network+")")
		}
		netns := p.Netns
		if p.Gone {
			netns = "gone"
		}
		rows = append(rows, row{cells: []string{short(p.ContainerID), cmp.Or(p.Name, "-"), netns, strings.Join(nics, ", ")}})
	}
	return rows
}
