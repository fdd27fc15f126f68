// SPDX-License-Identifier: Apache-2.0

package route

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// docs is the page whose blocks of kernel state are goldens.
const docs = "../../docs/route.md"

// block is a reference to a golden, and what stands below it.
var block = regexp.MustCompile("(?m)^<!-- golden: (\\S+) -->\n(\n```\n(?s:.*?)\n```\n)?")

// TestDocs holds docs/route.md to the goldens; -update rewrites it.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	want := block.ReplaceAllStringFunc(string(page), func(found string) string {
		n++
		name := block.FindStringSubmatch(found)[1]
		return fmt.Sprintf("<!-- golden: %s -->\n\n```\n%s```\n", name, goldenOps(t, name))
	})
	if n == 0 {
		t.Error("no golden on the page")
	}
	if *update {
		if err := os.WriteFile(docs, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, string(page)); d != "" {
		t.Errorf("%s (-goldens +page), -update rewrites it:\n%s", docs, d)
	}
}

// goldenOps is what ADD does in a case of TestPlans, with its title.
func goldenOps(t *testing.T, name string) string {
	t.Helper()
	a, err := txtar.ParseFile("testdata/" + name + ".txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	add, _ := planned(t, files["config"], task(t, files))
	return "# " + strings.TrimSpace(string(a.Comment)) + "\n" + add
}

// TestDocsNameEveryKey holds the page to the keys.
func TestDocsNameEveryKey(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	keys := regexp.MustCompile(`\{Name: "(\w+)", Value`).FindAllStringSubmatch(string(source), -1)
	if len(keys) < 7 {
		t.Fatalf("only %d keys found", len(keys))
	}
	for _, k := range keys {
		if !strings.Contains(string(page), "| `"+k[1]+"` |") {
			t.Errorf("%s says nothing of %s", docs, k[1])
		}
	}
}
