// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/nodeconf"
)

// Defaults gives keys a value in the node's file of defaults, for a node without an agent.
// Other keys stay. It refuses values that coordinator can't use; own are the node's addresses
// with the lengths of their subnets.
func Defaults(path string, set map[string]json.RawMessage, own []netip.Prefix) error {
	all, err := nodeconf.Read(path)
	if err != nil {
		return err
	}
	mine := all == nil || unchanged(path)
	merged := map[string]json.RawMessage{}
	for name, value := range all {
		if !config.Has(set, config.Key{Name: name}) {
			merged[name] = value
		}
	}
	for name, value := range set {
		merged[name] = value
	}
	if err := keys.CheckNode(merged, own); err != nil {
		return err
	}
	if mine { // before the file: a killed process leaves a copy of no file
		if err := nodeconf.Write(copyOf(path), merged); err != nil {
			return err
		}
	}
	return nodeconf.Write(path, merged)
}

// RemoveDefaults removes the node's file of defaults if [Defaults] made it and nobody has
// changed it since. It reports whether there is one that stays, and whether it removed one.
func RemoveDefaults(path string) (stays, removed bool, err error) {
	if unchanged(path) {
		if err := os.Remove(path); err != nil {
			return false, false, err
		}
		removed = true
	} else if _, err := os.Lstat(path); err == nil {
		stays = true
	}
	if err := os.Remove(copyOf(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return stays, removed, err
	}
	return stays, removed, nil
}

// copyOf returns the path of a copy of what Defaults wrote.
func copyOf(path string) string {
	return filepath.Join(filepath.Dir(path), ".installed-"+filepath.Base(path))
}

// unchanged reports whether the file is as Defaults wrote it.
func unchanged(path string) bool {
	is, err := os.ReadFile(path)
	was, none := os.ReadFile(copyOf(path))
	return err == nil && none == nil && bytes.Equal(is, was)
}
