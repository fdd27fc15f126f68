// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/manifest"
)

func Example() {
	objects, err := manifest.Read("a.yaml", []byte("kind: A\nspec:\n  list:\n  - 5\n---\nkind: B\n"))
	if err != nil {
		panic(err)
	}
	for _, o := range objects {
		fmt.Println(o.Kind, string(o.JSON), o.Line("spec.list[0]"))
	}
	// Output:
	// A {"kind":"A","spec":{"list":[5]}} 4
	// B {"kind":"B"} 5
}

func TestRead(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", ""},
		{"empty documents", "---\n---\n# nothing\n---\nkind: A\n", `{"kind":"A"}`},
		{"JSON with tabs", "{\n\t\"kind\":\t\"A\", \"n\": 1e3, \"big\": 123456789012345678901}", `{"big":123456789012345678901,"kind":"A","n":1e3}`},
		{"a list", "kind: List\nitems:\n- kind: A\n- kind: B\n", `{"kind":"A"} {"kind":"B"}`},
		{"a list of a kind", `{"kind": "AList", "items": [{"kind": "A"}, {"kind": "AList", "items": []}]}`, `{"kind":"A"}`},
		{"words that YAML 1.1 had for booleans", "a: yes\nb: on\nc: true\nd: True\ne: 'true'", `{"a":"yes","b":"on","c":true,"d":true,"e":"true"}`},
		{"numbers", "a: 0x10\nb: 010\nc: 1.5\nd: .inf\ne: 2001-01-02\nf: ~", `{"a":16,"b":8,"c":1.5,"d":".inf","e":"2001-01-02","f":null}`},
		{"anchors", "a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}", `{"a":{"b":1,"c":2},"d":{"b":1,"c":2},"e":{"b":1,"c":3}}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			objects, err := manifest.Read("f", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, o := range objects {
				got = append(got, string(o.JSON))
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("%s\nwant\n%s", strings.Join(got, " "), tt.want)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat("*"+string(c-1)+", ", 10), ", "))
	}
	for text, want := range map[string]string{
		"a: [":                      "f: yaml: line",
		"- a":                       "f: line 1: want an object",
		"kind: A\nkind: B":          "f: line 2: kind is there twice, also in line 1",
		"? [a]\n: b":                "f: line 1: want a string for a key",
		bomb:                        "more than",
		"kind: List\nitems:\n- 5\n": "f: line 3: want an object",
	} {
		if _, err := manifest.Read("f", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// TestLine finds the lines of fields, also of those that aren't there.
func TestLine(t *testing.T) {
	objects, err := manifest.Read("f", []byte(`# a comment
kind: List
items:
- metadata:
    annotations:
      multus.spidernet.io/cr-name: a
  spec:
    macvlan:
      master:
      - ens192
      vlanID: 5
`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"spec.macvlan.vlanID": 11, "spec.macvlan.master[0]": 10, "spec.macvlan.mtu": 8, "spec.cniType": 7, "kind": 4,
		"metadata.annotations[multus.spidernet.io/cr-name]": 6, "metadata.annotations[other]": 5,
	} {
		if got := objects[0].Line(path); got != want {
			t.Errorf("%s is in line %d, want %d", path, got, want)
		}
	}
}

// FuzzRead reads any file: nothing panics, and nothing grows without bounds.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"kind: A", "{}", "a: &a [*a]", "- 5", "kind: List\nitems: [1]", "<<: 5", "? a\n: b", "a: !!binary x"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(_ *testing.T, text []byte) {
		objects, _ := manifest.Read("f", text)
		for _, o := range objects {
			o.Line("spec.a[0].b")
		}
	})
}
