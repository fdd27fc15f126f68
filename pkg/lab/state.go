// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"io"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/show"
)

// WriteState writes what a pod and its node hold, as `multihome show` does on a node.
func (l *Lab) WriteState(w io.Writer, pod *Pod) error {
	var view show.View
	err := l.Node.Run(func() error {
		found, err := inspect.Find(pod.NetNS, inspect.CacheDirs)
		if err != nil {
			return err
		}
		state, err := found.Read()
		view = show.Of(found, state)
		return err
	})
	if err != nil {
		return err
	}
	return report.Write(w, "text", view)
}
