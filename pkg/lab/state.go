// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"io"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/show"
)

// WriteState writes the state of a pod and its node, as `multihome show` does.
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
