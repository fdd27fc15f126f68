// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
	"go.yaml.in/yaml/v3"
)

// oldest is the first version of CNI that has a prevResult to go by.
const oldest = "0.3.0"

// readNetwork reads a list of plugins, a single plugin, or a
// NetworkAttachmentDefinition that holds one of them, each as JSON or YAML.
func readNetwork(data []byte) (*libcni.NetworkConfigList, error) {
	raw, err := readDocument(data)
	if err != nil {
		return nil, err
	}
	if _, isList := raw["plugins"]; !isList {
		raw = map[string]any{"name": raw["name"], "cniVersion": raw["cniVersion"], "plugins": []any{raw}}
	}
	list, err := libcni.NetworkConfFromBytes(encode(raw))
	if err != nil {
		return nil, err
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, fmt.Errorf("name: %w", asPlain(err))
	}
	if ok, err := version.GreaterThanOrEqualTo(list.CNIVersion, oldest); err != nil || !ok {
		return nil, fmt.Errorf("cniVersion: %q: want %s or later", list.CNIVersion, oldest)
	}
	return list, nil
}

// asPlain is an error of CNI without its code.
func asPlain(err *types.Error) error {
	if err.Details != "" {
		return fmt.Errorf("%s: %s", err.Msg, err.Details)
	}
	return errors.New(err.Msg)
}

// document parts the documents of a YAML file.
var document = regexp.MustCompile(`(?m)^---\s*$`)

// readDocument returns the one configuration that a file holds. JSON isn't read as
// YAML, which doesn't allow it tabs.
func readDocument(data []byte) (map[string]any, error) {
	var raw map[string]any
	if json.Unmarshal(data, &raw) == nil {
		return unwrap(raw)
	}
	var found []map[string]any
	for _, text := range document.Split(string(data), -1) {
		raw, err := readYAML(text)
		if err != nil {
			return nil, fmt.Errorf("it is neither JSON nor YAML: %w", err)
		}
		if isNetwork(raw) {
			found = append(found, raw)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("it holds %d networks: want one", len(found))
	}
	return unwrap(found[0])
}

// readYAML returns what encoding/json would make of the same in JSON. That has no
// word for everything: keys are text, and numbers have an end.
func readYAML(text string) (raw map[string]any, err error) {
	var decoded map[string]any
	if err := yaml.Unmarshal([]byte(text), &decoded); err != nil {
		return nil, err
	}
	asJSON, err := json.Marshal(decoded)
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(asJSON, &raw)
	return raw, err
}

// isNetwork reports whether a document is a configuration, or holds one.
func isNetwork(raw map[string]any) bool {
	kind, isObject := raw["kind"]
	return kind == attachmentDefinition || raw != nil && !isObject
}

// attachmentDefinition is the kind of the object that Multus reads networks from.
const attachmentDefinition = "NetworkAttachmentDefinition"

// unwrap takes a configuration out of a NetworkAttachmentDefinition. As with Multus,
// a configuration without a name has that of the object.
func unwrap(raw map[string]any) (map[string]any, error) {
	if raw["kind"] != attachmentDefinition {
		return raw, nil
	}
	var object struct {
		Metadata struct{ Name string }
		Spec     struct{ Config string }
	}
	if err := json.Unmarshal(encode(raw), &object); err != nil {
		return nil, fmt.Errorf("%s: %w", attachmentDefinition, err)
	}
	if object.Spec.Config == "" {
		return nil, fmt.Errorf("%s %s has no spec.config: its configuration is in a file of the node", attachmentDefinition, object.Metadata.Name)
	}
	var conf map[string]any
	if err := json.Unmarshal([]byte(object.Spec.Config), &conf); err != nil {
		return nil, fmt.Errorf("%s %s: spec.config: %w", attachmentDefinition, object.Metadata.Name, err)
	}
	if conf["name"] == nil {
		conf["name"] = object.Metadata.Name
	}
	return conf, nil
}

// with is a plugin's configuration with keys that a runtime adds.
func with(conf []byte, keys map[string]any) ([]byte, error) {
	out := map[string]any{}
	if err := json.Unmarshal(conf, &out); err != nil {
		return nil, err
	}
	maps.Copy(out, keys)
	return json.Marshal(out)
}

// encode is what was decoded, so that it can't fail.
func encode(raw map[string]any) []byte {
	out, err := json.Marshal(raw)
	if err != nil {
		panic(err)
	}
	return out
}
