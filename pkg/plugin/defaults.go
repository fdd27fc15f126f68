// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/nodeconf"
)

// Defaults are a node's values for keys that a configuration lacks.
type Defaults struct {
	Path string                     // of their file
	Keys map[string]json.RawMessage // nil if there are none
	Err  error                      // why the file can't be read; it names the file
}

// ReadDefaults reads the file of a node's defaults.
func ReadDefaults(path string) Defaults {
	keys, err := nodeconf.Read(path)
	return Defaults{path, keys, err}
}

// Defaulted is a Conf that takes values for keys that it lacks from the node's defaults.
type Defaulted interface {
	// CheckDefaults returns an error for defaults that the plugin can't use.
	CheckDefaults(node map[string]json.RawMessage) error
	// WithDefaults returns the configuration with the defaults in it. It is nil if they
	// switch the plugin off.
	WithDefaults(node Defaults) (Conf, error)
	// Alone returns an error if ADD can't do without the defaults, damaged as they are.
	Alone() error
}

// Damage is the error for defaults that can't be used. It names the file.
type Damage struct{ Err error }

func (d *Damage) Error() string { return "the node's defaults: " + d.Err.Error() }

// Configure reads a configuration, and takes values for keys that it lacks from the node's
// defaults, for a plugin that has some. It is nil if the plugin is switched off. If the error
// is a *[Damage], the Conf is valid, without any defaults.
func (p Plugin) Configure(raw map[string]json.RawMessage) (Conf, error) {
	conf, err := p.Load(raw)
	if err != nil || conf == nil || p.Defaults == nil {
		return conf, err
	}
	c, ok := conf.(Defaulted)
	if !ok {
		return conf, nil
	}
	node := p.Defaults()
	if err = node.Err; err == nil {
		if err = c.CheckDefaults(node.Keys); err != nil {
			err = fmt.Errorf("%s: %w", node.Path, err)
		}
	}
	if err != nil {
		return conf, &Damage{err}
	}
	return c.WithDefaults(node)
}

// suffices is Configure for ADD and CHECK: it goes on without damaged defaults if the
// configuration suffices.
func (p Plugin) suffices(raw map[string]json.RawMessage) (Conf, *Damage, error) {
	conf, err := p.Configure(raw)
	var damage *Damage
	if !errors.As(err, &damage) {
		return conf, nil, err
	}
	if need := conf.(Defaulted).Alone(); need != nil {
		return nil, nil, config.Invalid("%w; %w", damage, need)
	}
	return conf, damage, nil
}

// configure does the same, and reports damage in the log and on standard error, which
// runtimes log.
func (p Plugin) configure(t *Task, raw map[string]json.RawMessage) (Conf, error) {
	conf, damage, err := p.suffices(raw)
	if damage != nil {
		t.Log.Warn("damaged", "error", damage)
		fmt.Fprintf(os.Stderr, "%s: %s; going on without them\n", p.Name, strings.ReplaceAll(damage.Error(), "\n", "; "))
	}
	return conf, err
}
