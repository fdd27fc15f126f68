// SPDX-License-Identifier: Apache-2.0

package plantest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// block matches a page's reference to a case, and the quotation below it.
var block = regexp.MustCompile("(?m)^<!-- golden: (\\S+) -->\n(\n```\n(?s:.*?)\n```\n)?")

// Page compares a page of documentation with the cases that it quotes. A line
// "<!-- golden: NAME -->" quotes a case; -update rewrites the block below the line.
func (s Suite) Page(t *testing.T, path string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	want := block.ReplaceAllStringFunc(string(page), func(found string) string {
		n++
		name := block.FindStringSubmatch(found)[1]
		c := s.Case(t, name)
		add, _ := c.run(t)
		return fmt.Sprintf("<!-- golden: %s -->\n\n```\n# %s\n%s```\n", name, strings.TrimSpace(string(c.archive.Comment)), add)
	})
	if n == 0 {
		t.Error("no golden on the page")
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(page)); d != "" {
		t.Errorf("%s (-goldens +page), -update rewrites it:\n%s", path, d)
	}
}

// key matches the line of a source that binds a key of the configuration.
var key = regexp.MustCompile(`\{Name: "(\w+)", Value|, Also: "(\w+)"`)

// Keys checks that a page names each key of the configuration that the sources bind.
func Keys(t *testing.T, path string, sources ...string) {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range sources {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		keys := key.FindAllStringSubmatch(string(source), -1)
		if len(keys) == 0 {
			t.Fatalf("%s: no keys found", file)
		}
		for _, k := range keys {
			name := k[1] + k[2]
			if !strings.Contains(string(page), "`"+name+"`") && !strings.Contains(string(page), `"`+name+`"`) {
				t.Errorf("%s doesn't name key %s", path, name)
			}
		}
	}
}
