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

// Defaults are a node's values for keys that a configuration lacks, and those of a pod.
type Defaults struct {
	Path string                     // of the node's file
	Keys map[string]json.RawMessage // nil if there are none
	Err  error                      // why the file can't be read; it names the file
	Pod  map[string]json.RawMessage // by the pod's annotations, see [Plugin.OfPod]
}

// ReadDefaults reads the file of a node's defaults.
func ReadDefaults(path string) Defaults {
	keys, err := nodeconf.Read(path)
	return Defaults{Path: path, Keys: keys, Err: err}
}

// Defaulted is a Conf that takes values for keys that it lacks from the node's defaults.
type Defaulted interface {
	// CheckDefaults returns an error for defaults that the plugin can't use.
	CheckDefaults(node map[string]json.RawMessage) error
	// WithDefaults returns the configuration with the defaults in it. It is nil if they
	// switch the plugin off.
	WithDefaults(d Defaults) (Conf, error)
	// Alone returns an error if ADD can't do without the defaults, damaged as they are.
	Alone() error
}

// Damage is the error for defaults that can't be used, the node's or the pod's. It names the
// file.
type Damage struct{ Err error }

func (d *Damage) Error() string { return d.Err.Error() }

// Configure reads a configuration of a pod, and takes values for keys that it lacks from the
// pod's annotations and the node's defaults, for a plugin that has some. It is nil if the
// plugin is switched off. If the error is a *[Damage], the Conf is valid, without what is
// damaged.
func (p Plugin) Configure(raw map[string]json.RawMessage, containerID string) (Conf, error) {
	conf, err := p.Load(raw)
	if err != nil || conf == nil || p.Defaults == nil {
		return conf, err
	}
	c, ok := conf.(Defaulted)
	if !ok {
		return conf, nil
	}
	d := p.Defaults()
	if err = d.Err; err == nil {
		if err = c.CheckDefaults(d.Keys); err != nil {
			err = fmt.Errorf("%s: %w", d.Path, err)
		}
	}
	var damage []error
	if err != nil {
		d.Keys, damage = nil, append(damage, fmt.Errorf("the node's defaults: %w", err))
	}
	if p.OfPod != nil && containerID != "" {
		if d.Pod, err = p.OfPod(containerID); err != nil {
			damage = append(damage, fmt.Errorf("the pod's annotations: %w", err))
		}
	}
	conf, err = c.WithDefaults(d)
	if err == nil && len(damage) > 0 {
		err = &Damage{errors.Join(damage...)}
	}
	return conf, err
}

// suffices is Configure for ADD and CHECK: it goes on without damaged defaults if the
// configuration suffices.
func (p Plugin) suffices(raw map[string]json.RawMessage, containerID string) (Conf, *Damage, error) {
	conf, err := p.Configure(raw, containerID)
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
	conf, damage, err := p.suffices(raw, t.ContainerID)
	if damage != nil {
		t.Log.Warn("damaged", "error", damage)
		fmt.Fprintf(os.Stderr, "%s: %s; going on without them\n", p.Name, strings.ReplaceAll(damage.Error(), "\n", "; "))
	}
	return conf, err
}
