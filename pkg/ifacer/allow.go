// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/ifacer/keys"
	"github.com/multihome/multihome/pkg/records"
)

// allowPath is the file in which a node's admin restricts what networks may do with
// its links. Users without rights on the node may write networks.
const allowPath = "/etc/cni/multihome/ifacer.json"

// allowList holds the contents of that file. Anything not in it is refused.
type allowList struct {
	interfaces []string // patterns
	vlans      []vlanRange
	bonds      []string // patterns
	force      bool
}

type vlanRange struct{ first, last int }

// readAllowList reads the node's allow list. It returns nil if there is none.
func readAllowList() (*allowList, error) {
	if _, err := os.Lstat(allowPath); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	data, err := records.ReadTrusted(allowPath) // a dangling symbolic link is an error: the list was lost
	if err != nil {
		return nil, err
	}
	l, err := parseAllowList(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", allowPath, err)
	}
	return l, nil
}

func parseAllowList(data []byte) (*allowList, error) {
	if _, err := config.Object(data); err != nil {
		return nil, err
	}
	l := &allowList{}
	return l, config.Fields(data, []config.Key{
		{Name: "interfaces", Value: patterns(&l.interfaces)},
		{Name: "vlans", Value: vlanRanges(&l.vlans)},
		{Name: "bonds", Value: patterns(&l.bonds)},
		{Name: "force", Value: config.Bool(&l.force)},
	})
}

// permit returns an error for the first value that the list doesn't allow.
func (l *allowList) permit(c *keys.Config) error {
	if l == nil {
		return nil
	}
	for _, name := range c.Interfaces {
		if !matches(l.interfaces, name) {
			return config.Invalid("interfaces: %s: not allowed on this node by %s", name, allowPath)
		}
	}
	switch {
	case c.BondName != "" && !matches(l.bonds, c.BondName):
		return config.Invalid("bond.name: %s: not allowed on this node by %s", c.BondName, allowPath)
	case c.VLAN != 0 && !slices.ContainsFunc(l.vlans, func(r vlanRange) bool { return r.first <= c.VLAN && c.VLAN <= r.last }):
		return config.Invalid("vlanID: %d: not allowed on this node by %s", c.VLAN, allowPath)
	case c.Force && !l.force:
		return config.Invalid("force: not allowed on this node by %s", allowPath)
	}
	return nil
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}

// patterns reads a list of patterns for path.Match.
func patterns(p *[]string) config.Value {
	return config.Value{
		Want: `a list of names, which may hold * and ?, like ["ens*"]`,
		Set: func(raw json.RawMessage) (err error) {
			if *p, err = config.Strings(raw); err != nil {
				return err
			}
			for _, pattern := range *p {
				if _, err := path.Match(pattern, ""); err != nil {
					return fmt.Errorf("%s: %w", pattern, err)
				}
			}
			return nil
		},
	}
}

// vlanRanges reads a list of VLAN IDs and of ranges of them.
func vlanRanges(p *[]vlanRange) config.Value {
	return config.Value{
		Want: `a list of VLAN IDs and ranges from 1 to 4094, like [100, "200-299"]`,
		Set: func(raw json.RawMessage) error {
			var list []json.RawMessage
			if err := json.Unmarshal(raw, &list); err != nil {
				return err
			}
			for _, item := range list {
				s, err := config.Text(item)
				if err != nil {
					return err
				}
				from, to, isRange := strings.Cut(s, "-")
				if !isRange {
					to = from
				}
				first, err := strconv.Atoi(from)
				last, err2 := strconv.Atoi(to)
				if err != nil || err2 != nil || first < 1 || last > 4094 || first > last {
					return fmt.Errorf("%s is neither", item)
				}
				*p = append(*p, vlanRange{first, last})
			}
			return nil
		},
	}
}
