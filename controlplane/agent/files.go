// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/spool"
)

// read returns the contents of a file; nil if there is none.
func (a *Agent) read(name string) ([]byte, error) {
	b, err := a.Files.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && b == nil {
		b = []byte{}
	}
	return b, err
}

// bootOf returns the boot of which the spool is, "" if there is no spool.
func (a *Agent) bootOf() (string, error) {
	r, err := spool.GetReady(a.Files)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return r.Boot, err
}

func (a *Agent) putReady() error {
	return spool.PutReady(a.Files, spool.Ready{Boot: a.BootID, Since: a.Booted})
}

// pod returns the contents of pods/<uid>; nil if there is none. What isn't ours is empty: it
// is written anew, or removed.
func (a *Agent) pod(uid string) (*spool.Pod, error) {
	b, err := a.read(spool.PodFile(uid))
	if b == nil || err != nil {
		return nil, err
	}
	p := &spool.Pod{}
	if json.Unmarshal(b, p) != nil {
		p = &spool.Pod{}
	}
	return p, nil
}

// spooled is what plugins left in the spool.
type spooled struct {
	wants     []want
	sandboxes []sandbox
	// err names the files that can't be read: it isn't known whose they are.
	err error
}

// spooled reads what plugins left.
func (a *Agent) spooled() spooled {
	ws, err := spool.Wants(a.Files)
	boxes, boxErr := spool.Sandboxes(a.Files)
	out := spooled{err: errors.Join(err, boxErr)}
	for _, w := range ws {
		out.wants = append(out.wants, want{Want: w})
	}
	for _, s := range boxes {
		out.sandboxes = append(out.sandboxes, sandbox{Sandbox: s})
	}
	slices.SortFunc(out.sandboxes, func(x, y sandbox) int { return strings.Compare(x.File(), y.File()) })
	return out
}

// has reports whether a want or a sandbox has a file.
func (s *spooled) has(file string) bool {
	return slices.ContainsFunc(s.wants, func(w want) bool { return w.File() == file }) ||
		slices.ContainsFunc(s.sandboxes, func(x sandbox) bool { return x.File() == file })
}
