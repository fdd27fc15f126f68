// SPDX-License-Identifier: Apache-2.0

// Package manifest reads files of Kubernetes objects: YAML or JSON, many documents, lists.
// Each object knows the lines of its fields, so that what is wrong with one can be found:
//
//	objects, err := manifest.Read("networks.yaml", data)
//	objects[0].Line("spec.macvlan.vlanID")
//
// Beware: yes, no, on and off are strings, as in YAML 1.2; only true and false are
// booleans.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Object is one object of a file.
type Object struct {
	File             string
	APIVersion, Kind string
	JSON             []byte

	lines map[string]int
	first int
}

// Line returns the line of a field, or of what it would be in.
func (o Object) Line(path string) int {
	for path != "" {
		if line, ok := o.lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return o.first
}

// most is the number of values that a file may have, and deepest how far they may be in one
// another: aliases of aliases grow without bounds.
const (
	most    = 1 << 20
	deepest = 100
)

// Read returns the objects of a file. Documents that are empty are none.
func Read(file string, data []byte) ([]Object, error) {
	if json.Valid(data) {
		data = bytes.ReplaceAll(data, []byte("\t"), []byte(" ")) // which YAML has no tabs for; no JSON string has one
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var out []Object
	for {
		var n yaml.Node
		if err := d.Decode(&n); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return out, fmt.Errorf("%s: %w", file, err)
		}
		r := reader{lines: map[string]int{}}
		tree, err := r.tree("", &n)
		if err != nil {
			return out, fmt.Errorf("%s: %w", file, err)
		}
		objects, err := objectsOf(file, tree, r.lines, "", n.Line)
		if err != nil {
			return out, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, objects...)
	}
}

// objectsOf returns the objects in a document: itself, or the items of a List.
func objectsOf(file string, tree any, lines map[string]int, path string, first int) ([]Object, error) {
	if tree == nil {
		return nil, nil
	}
	fields, ok := tree.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("line %d: want an object", first)
	}
	o := Object{File: file, first: first, lines: map[string]int{}}
	o.APIVersion, _ = fields["apiVersion"].(string)
	o.Kind, _ = fields["kind"].(string)
	if items, isList := fields["items"].([]any); isList && strings.HasSuffix(o.Kind, "List") {
		var out []Object
		for i, item := range items {
			at := fmt.Sprintf("items[%d]", i)
			objects, err := objectsOf(file, item, lines, at+".", lines[at])
			if err != nil {
				return nil, err
			}
			out = append(out, objects...)
		}
		return out, nil
	}
	for p, line := range lines {
		if rest, ok := strings.CutPrefix(p, path); ok {
			o.lines[rest] = line
		}
	}
	var err error
	o.JSON, err = json.Marshal(tree)
	return []Object{o}, err
}

// reader makes of YAML what encoding/json would make of the same JSON, and notes lines.
type reader struct {
	lines        map[string]int
	nodes, depth int
}

func (r *reader) tree(path string, n *yaml.Node) (any, error) {
	r.nodes++
	r.depth++
	defer func() { r.depth-- }()
	if r.nodes > most || r.depth > deepest {
		return nil, fmt.Errorf("line %d: more than %d values, or more than %d in one another", n.Line, most, deepest)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return r.tree(path, n.Content[0])
	case yaml.AliasNode:
		return r.tree(path, n.Alias)
	case yaml.SequenceNode:
		out := []any{}
		for i, item := range n.Content {
			at := fmt.Sprintf("%s[%d]", path, i)
			r.lines[at] = item.Line
			value, err := r.tree(at, item)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		return out, nil
	case yaml.MappingNode:
		return r.object(path, n)
	}
	return scalar(n), nil
}

func (r *reader) object(path string, n *yaml.Node) (any, error) {
	out := map[string]any{}
	given := map[string]int{}
	var merged []map[string]any
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, item := n.Content[i], n.Content[i+1]
		if key.Tag == "!!merge" {
			value, err := r.tree(path, item)
			if err != nil {
				return nil, err
			}
			if m, ok := value.(map[string]any); ok {
				merged = append(merged, m)
			}
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return nil, fmt.Errorf("line %d: want a string for a key", key.Line)
		}
		if line, twice := given[key.Value]; twice {
			return nil, fmt.Errorf("line %d: %s is there twice, also in line %d", key.Line, key.Value, line)
		}
		given[key.Value] = key.Line
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		if path == "metadata.annotations" || strings.HasSuffix(path, ".metadata.annotations") {
			at = path + "[" + key.Value + "]" // it has dots
		}
		r.lines[at] = key.Line
		value, err := r.tree(at, item)
		if err != nil {
			return nil, err
		}
		out[key.Value] = value
	}
	for _, m := range merged {
		for k, v := range m {
			if _, own := given[k]; !own {
				out[k] = v
			}
		}
	}
	return out, nil
}

// scalar returns a value as JSON has it. What only YAML has, such as a date, is a string.
func scalar(n *yaml.Node) any {
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if err == nil {
			return b
		}
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return i
		}
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
	case "!!float":
		if json.Valid([]byte(n.Value)) {
			return json.Number(n.Value)
		}
	}
	return n.Value
}
