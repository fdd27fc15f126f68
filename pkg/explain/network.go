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

// oldest is the first version of CNI with prevResult.
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

// asPlain returns an error of CNI without its code.
func asPlain(err *types.Error) error {
	if err.Details != "" {
		return fmt.Errorf("%s: %s", err.Msg, err.Details)
	}
	return errors.New(err.Msg)
}

// document matches the line between two documents of a YAML file.
var document = regexp.MustCompile(`(?m)^---\s*$`)

// readDocument returns the only configuration in a file. It does not read JSON as YAML,
// because YAML does not allow tabs.
func readDocument(data []byte) (map[string]any, error) {
	var raw map[string]any
	if json.Unmarshal(data, &raw) == nil {
		return unwrap(raw)
	}
	var found []map[string]any
	for _, text := range document.Split(string(data), -1) {
		raw, err := readYAML(text)
		if err != nil {
			return nil, fmt.Errorf("neither JSON nor YAML: %w", err)
		}
		if isNetwork(raw) {
			found = append(found, raw)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("found %d networks: want one", len(found))
	}
	return unwrap(found[0])
}

// readYAML returns the types that encoding/json would for the same document. It returns
// an error for YAML that JSON can't express: keys must be strings, and numbers finite.
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

// isNetwork reports whether a document is a configuration or a
// NetworkAttachmentDefinition.
func isNetwork(raw map[string]any) bool {
	kind, isObject := raw["kind"]
	return kind == attachmentDefinition || raw != nil && !isObject
}

// attachmentDefinition is the kind of Kubernetes object from which Multus reads networks.
const attachmentDefinition = "NetworkAttachmentDefinition"

// unwrap returns the configuration in a NetworkAttachmentDefinition. As in Multus, a
// configuration without a name gets that of the object.
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

// with returns a plugin's configuration with the keys that a runtime adds.
func with(conf []byte, keys map[string]any) ([]byte, error) {
	out := map[string]any{}
	if err := json.Unmarshal(conf, &out); err != nil {
		return nil, err
	}
	maps.Copy(out, keys)
	return json.Marshal(out)
}

// encode encodes a decoded document, which can't fail.
func encode(raw map[string]any) []byte {
	out, err := json.Marshal(raw)
	if err != nil {
		panic(err)
	}
	return out
}
