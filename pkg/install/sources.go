// SPDX-License-Identifier: Apache-2.0

package install

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/multihome/multihome/deploy"
	"github.com/multihome/multihome/pkg/catalog"
)

// Plugins reads the plugins in directory from, and returns them as files in the node's
// CNI directory to. Those whose names other systems use, too, replace no program of others.
func Plugins(from, to string) ([]File, error) {
	var files []File
	for _, name := range catalog.Binaries() {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return nil, err
		}
		files = append(files, File{Path: filepath.Join(to, name), Data: data, Mode: 0o755, Yields: catalog.IsOthers(name)})
	}
	return files, nil
}

// DropIns returns the drop-ins for the named software as files below etc, the node's
// /etc. It makes their directories, which may not exist before the first drop-in.
func DropIns(software []string, etc string) ([]File, error) {
	var files []File
	for _, name := range software {
		i := slices.IndexFunc(deploy.DropIns, func(d deploy.DropIn) bool { return d.For == name })
		if i < 0 {
			return nil, fmt.Errorf("no drop-in for %q: there are %s", name, strings.Join(Software(), ", "))
		}
		d := deploy.DropIns[i]
		f := File{Path: filepath.Join(etc, d.Path), Data: d.Text(), Mode: 0o644}
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// Software returns the names of the software with drop-ins.
func Software() []string {
	var names []string
	for _, d := range deploy.DropIns {
		names = append(names, d.For)
	}
	return names
}
