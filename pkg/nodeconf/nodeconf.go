// SPDX-License-Identifier: Apache-2.0

// Package nodeconf reads and writes the defaults of a node: values for keys of coordinator
// and veth that a network's configuration lacks. They are one JSON object with coordinator's
// own keys, and with mend, which is for the node's agent:
//
//	{"serviceCIDR": ["10.96.0.0/12"], "overlayPodCIDR": ["10.244.0.0/16"], "mend": true}
//
// The agent writes the file, or `multihome install` where there is no agent:
//
//	err := nodeconf.Write(nodeconf.Path, keys)
//	…
//	keys, err := nodeconf.Read(nodeconf.Path)
//
// The package knows the file, not what the values mean: package coordinator/keys checks them.
//
// Beware: a node without the file is the usual case. [Read] returns nil then, and no error.
package nodeconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/records"
)

// Path is the node's file.
const Path = "/etc/cni/multihome/coordinator.json"

// MendKey is the one key that isn't coordinator's: false keeps the agent from mending
// living pods.
const MendKey = "mend"

// Read returns the keys of a file of defaults, nil if there is no file. Its errors name the
// file: one that others than root can write, or that holds no JSON object, or one with a key
// twice. A symbolic link that leads nowhere is an error, too: the defaults were lost.
func Read(path string) (map[string]json.RawMessage, error) {
	data, err := records.ReadTrusted(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, none := os.Lstat(path); errors.Is(none, fs.ErrNotExist) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Parse reads the text of a file of defaults. path names it in errors.
func Parse(path string, data []byte) (map[string]json.RawMessage, error) {
	keys, err := config.Object(data)
	if err != nil {
		return nil, fmt.Errorf("%s: want a JSON object of coordinator's keys (%w)", path, err)
	}
	if keys == nil {
		return nil, fmt.Errorf("%s: null: want a JSON object of coordinator's keys", path)
	}
	return keys, nil
}

// Write makes the keys the content of a file of defaults, with its directory if that is
// missing. It writes nothing if the file has this content already. At any moment the former
// file or the new one is there, as a whole, also after a power failure. Writers wait for
// each other.
func Write(path string, keys map[string]json.RawMessage) error {
	if keys == nil {
		keys = map[string]json.RawMessage{} // not null
	}
	data, err := json.MarshalIndent(keys, "", "  ") // sorted
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	data = append(data, '\n')
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // which unlocks it
	if err := netns.Lock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("%s: %w", dir.Name(), err)
	}
	if has, err := records.ReadTrusted(path); err == nil && bytes.Equal(has, data) {
		return nil
	}
	unfinished := filepath.Join(dir.Name(), "."+filepath.Base(path)+".multihome")
	_ = os.Remove(unfinished) // a killed process may have left it
	if err := writeSynced(unfinished, data); err != nil {
		return errors.Join(err, os.Remove(unfinished))
	}
	if err := os.Rename(unfinished, path); err != nil {
		return errors.Join(err, os.Remove(unfinished))
	}
	return dir.Sync()
}

// writeSynced writes a new file that root can write and everybody read, and waits until the
// disk has it.
func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()) // Chmod: OpenFile applied the umask
}

// Mend reports whether the node's agent is to mend living pods: yes, unless mend is false.
func Mend(keys map[string]json.RawMessage) (bool, error) {
	mend := true
	for name, value := range keys {
		if !strings.EqualFold(name, MendKey) {
			continue
		}
		if err := config.Decode(map[string]json.RawMessage{name: value}, []config.Key{{Name: MendKey, Value: config.Bool(&mend)}}); err != nil {
			return false, err
		}
	}
	return mend, nil
}
