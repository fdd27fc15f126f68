// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multihome/multihome/pkg/plugin"
	"github.com/multihome/multihome/pkg/records"
)

// Cached is an attachment as a runtime keeps it, in a file of its own (cachedInfo of
// libcni/api.go).
type Cached struct {
	File        string          `json:"-"`
	Kind        string          `json:"kind"`
	ContainerID string          `json:"containerId"`
	Network     string          `json:"networkName"`
	IfName      string          `json:"ifName"`
	Netns       string          `json:"netns"` // libcni has written it since 1.2; until then it is that of the result
	Args        [][2]string     `json:"cniArgs"`
	Config      []byte          `json:"config"` // of the network
	Result      json.RawMessage `json:"result"` // of the chain
}

// Unread is a file of a cache, or a directory, that can't be read.
type Unread struct {
	File string
	Err  error
}

func (u *Unread) Error() string {
	if strings.Contains(u.Err.Error(), u.File) {
		return "cache: " + u.Err.Error()
	}
	return "cache: " + u.File + ": " + u.Err.Error()
}

// MayBeOf reports whether an attachment of the container may be in there. The name of
// a file has the container ID in it. A directory may hold anybody's.
func (u *Unread) MayBeOf(containerID string) bool {
	name := filepath.Base(u.File)
	return name == results || strings.Contains(name, "-"+containerID+"-")
}

// results is the directory of a cache that has the files.
const results = "results"

// Cache reads the caches of runtimes. A cache that isn't there has nothing.
func Cache(dirs []string) (list []Cached, unread []*Unread) {
	return readCache(dirs, func(string) bool { return true })
}

// CacheOf returns the same of some pods only, by their container IDs. It reads no file of
// others.
func CacheOf(dirs, containerIDs []string) (list []Cached, unread []*Unread) {
	return readCache(dirs, func(file string) bool {
		return slices.ContainsFunc(containerIDs, func(id string) bool { return (&Unread{File: file}).MayBeOf(id) })
	})
}

// ReadCached reads a file of a cache.
func ReadCached(file string) (Cached, error) {
	c := Cached{File: file}
	return c, c.read()
}

// Arg returns a value of CNI_ARGS, "" if it isn't there.
func (c *Cached) Arg(name string) (value string) {
	for _, arg := range c.Args {
		if arg[0] == name {
			value = arg[1]
		}
	}
	return value
}

// ResultsOf returns the directory with the files of a cache.
func ResultsOf(cacheDir string) string { return filepath.Join(cacheDir, results) }

func readCache(dirs []string, wanted func(file string) bool) (list []Cached, unread []*Unread) {
	for _, dir := range dirs {
		dir = ResultsOf(dir)
		files, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			unread = append(unread, &Unread{dir, err})
		}
		for _, f := range files {
			if !wanted(f.Name()) {
				continue
			}
			c, err := ReadCached(filepath.Join(dir, f.Name()))
			if err != nil {
				unread = append(unread, &Unread{c.File, err})
				continue
			}
			list = append(list, c)
		}
	}
	return list, unread
}

func (c *Cached) read() error {
	data, err := records.ReadTrusted(c.File)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, c); err != nil {
		return err
	}
	if c.Kind != libcni.CNICacheV1 {
		return fmt.Errorf("kind %q, want %q, which libcni has written since 0.8", c.Kind, libcni.CNICacheV1)
	}
	if name := c.Network + "-" + c.ContainerID + "-" + c.IfName; name != filepath.Base(c.File) {
		return fmt.Errorf("it is of %s, whose file is %s", c.IfName, name)
	}
	c.Netns = cmp.Or(c.Netns, c.sandbox())
	return nil
}

// sandbox returns the namespace that the result says the NIC is in; "" if it says none.
func (c *Cached) sandbox() string {
	if result := c.result(); result != nil {
		for _, i := range result.Interfaces {
			if i.Name == c.IfName {
				return i.Sandbox
			}
		}
	}
	return ""
}

// List returns the configuration of the network, nil if it is of a single plugin.
func (c *Cached) List() (*libcni.NetworkConfigList, error) {
	list, err := libcni.ConfListFromBytes(c.Config)
	if err == nil {
		return list, nil
	}
	var single struct {
		Type    string          `json:"type"`
		Plugins json.RawMessage `json:"plugins"`
	}
	if json.Unmarshal(c.Config, &single) == nil && single.Type != "" && single.Plugins == nil {
		return nil, nil
	}
	return nil, fmt.Errorf("its configuration: %w", err)
}

// ResultIn returns what the chain answered, in a version of CNI.
func (c *Cached) ResultIn(as string) (types.Result, error) {
	if len(c.Result) == 0 || string(c.Result) == "null" {
		return nil, errors.New("it has no result")
	}
	has, err := (&version.ConfigDecoder{}).Decode(c.Result)
	if err != nil {
		return nil, fmt.Errorf("its result: %w", err)
	}
	result, err := plugin.ReadResult(has, c.Result)
	if err == nil {
		result, err = result.GetAsVersion(as)
	}
	if err != nil {
		return nil, fmt.Errorf("its result: %w", err)
	}
	return result, nil
}
