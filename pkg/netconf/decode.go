// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Fault is something wrong in an object. Path names the field as the user wrote it.
type Fault struct {
	Path    string // such as spec.macvlan.vlanID
	Message string // the value, and what is allowed
	Warning bool   // the object works, but perhaps not as it is meant
}

// String returns the fault in a line.
func (f Fault) String() string {
	if f.Warning {
		return f.Path + ": warning: " + f.Message
	}
	return f.Path + ": " + f.Message
}

// Metadata is what the rules look at in an object's metadata.
type Metadata struct {
	Name, Namespace string
	Annotations     map[string]string
}

// Object reads an object of the API, as JSON, and its spec into a struct. Unknown fields of
// spec and values of another type are faults; metadata and spec hold the rest.
func Object(object []byte, spec any) (Metadata, []Fault) {
	var m Metadata
	tree, faults := parse(object)
	if metadata, ok := tree["metadata"]; ok {
		faults = append(faults, known("metadata", metadata, &m)...)
	}
	return m, append(faults, decode("spec", tree["spec"], reflect.ValueOf(spec).Elem())...)
}

// Decode reads a SpiderMultusConfig, as JSON. Unknown fields and values of another type
// are faults; the configuration holds the rest.
func Decode(object []byte) (Config, []Fault) {
	var s Spec
	m, faults := Object(object, &s)
	return Config{Namespace: m.Namespace, Name: m.Name, Annotations: m.Annotations, Spec: s}, faults
}

// parse reads an object of the API without a look at what is in it.
func parse(object []byte) (map[string]any, []Fault) {
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber()
	var tree map[string]any
	err := d.Decode(&tree)
	if err == nil && d.More() {
		err = errors.New("more text follows the object")
	}
	if err != nil {
		return nil, []Fault{{Path: "object", Message: "not a JSON object: " + err.Error()}}
	}
	return tree, nil
}

// known decodes the fields that a struct has, and ignores others: metadata has many.
func known(path string, value any, into any) []Fault {
	fields, ok := value.(map[string]any)
	if !ok {
		return []Fault{wrongType(path, value, "an object")}
	}
	v := reflect.ValueOf(into).Elem()
	var faults []Fault
	for i := range v.NumField() {
		name := strings.ToLower(v.Type().Field(i).Name)
		if value, ok := fields[name]; ok {
			faults = append(faults, decode(path+"."+name, value, v.Field(i))...)
		}
	}
	return faults
}

// decode puts a value into v. null is a field that isn't there.
func decode(path string, value any, v reflect.Value) []Fault {
	if value == nil {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		faults := decode(path, value, v.Elem())
		if len(faults) > 0 && v.Elem().Kind() != reflect.Struct {
			v.SetZero() // as if it weren't there, for one fault is enough
		}
		return faults
	case reflect.Struct:
		return decodeObject(path, value, v)
	case reflect.Map:
		return decodeMap(path, value, v)
	case reflect.Slice:
		return decodeList(path, value, v)
	case reflect.String:
		s, ok := value.(string)
		if !ok {
			return []Fault{wrongType(path, value, "a string")}
		}
		v.SetString(s)
	case reflect.Bool:
		b, ok := value.(bool)
		if !ok {
			return []Fault{wrongType(path, value, "true or false")}
		}
		v.SetBool(b)
	case reflect.Int:
		n, ok := value.(json.Number)
		i, err := strconv.ParseInt(n.String(), 10, 32)
		if !ok || err != nil {
			return []Fault{wrongType(path, value, "a whole number")}
		}
		v.SetInt(i)
	}
	return nil
}

func decodeObject(path string, value any, v reflect.Value) []Fault {
	fields, ok := value.(map[string]any)
	if !ok {
		return []Fault{wrongType(path, value, "an object")}
	}
	var names []string
	byName := map[string]reflect.Value{}
	collect(v, &names, byName)
	var faults []Fault
	for _, name := range sortedKeys(fields) {
		field, ok := byName[name]
		if !ok {
			faults = append(faults, Fault{Path: path + "." + name, Message: "unknown field: want one of " + strings.Join(names, ", ")})
			continue
		}
		faults = append(faults, decode(path+"."+name, fields[name], field)...)
	}
	return faults
}

// collect finds the fields of a struct and of the structs in it, by their names in JSON.
func collect(v reflect.Value, names *[]string, byName map[string]reflect.Value) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			collect(v.Field(i), names, byName)
		case name != "-":
			*names = append(*names, name)
			byName[name] = v.Field(i)
		}
	}
}

func decodeMap(path string, value any, v reflect.Value) []Fault {
	fields, ok := value.(map[string]any)
	if !ok {
		return []Fault{wrongType(path, value, "an object")}
	}
	var faults []Fault
	v.Set(reflect.MakeMap(v.Type()))
	for _, name := range sortedKeys(fields) {
		item := reflect.New(v.Type().Elem()).Elem()
		faults = append(faults, decode(path+"."+name, fields[name], item)...)
		v.SetMapIndex(reflect.ValueOf(name), item)
	}
	return faults
}

func decodeList(path string, value any, v reflect.Value) []Fault {
	items, ok := value.([]any)
	if !ok {
		return []Fault{wrongType(path, value, "a list")}
	}
	var faults []Fault
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		at := fmt.Sprintf("%s[%d]", path, i)
		if item == nil {
			faults = append(faults, wrongType(at, nil, "a value"))
		}
		faults = append(faults, decode(at, item, v.Index(i))...)
	}
	return faults
}

func wrongType(path string, value any, want string) Fault {
	text, err := json.Marshal(value)
	if err != nil {
		text = fmt.Append(nil, value)
	}
	return Fault{Path: path, Message: fmt.Sprintf("%s: want %s", short(string(text)), want)}
}

// short cuts a value to what fits into a message.
func short(s string) string {
	if r := []rune(s); len(r) > 80 {
		return string(r[:80]) + "..."
	}
	return s
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
