// SPDX-License-Identifier: Apache-2.0

package coordinator

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
const docs = "../../docs/coordinator.md"

// block is a reference to a golden, and what stands below it.
var block = regexp.MustCompile("(?m)^<!-- golden: (\\S+) -->\n(\n```\n(?s:.*?)\n```\n)?")

// TestDocs holds docs/coordinator.md to the goldens; -update rewrites it.
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
	return "# " + strings.TrimSpace(string(a.Comment)) + "\n" + readGolden(t, a).run(t)
}

// TestDocsNameEveryKey holds the page to the keys of both names.
func TestDocsNameEveryKey(t *testing.T) {
	page, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"config.go", "older.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		keys := regexp.MustCompile(`\{Name: "(\w+)", Value`).FindAllStringSubmatch(string(source), -1)
		if len(keys) < 5 {
			t.Fatalf("%s: only %d keys found", file, len(keys))
		}
		for _, k := range keys {
			if !strings.Contains(string(page), "`"+k[1]+"`") && !strings.Contains(string(page), `"`+k[1]+`"`) {
				t.Errorf("%s says nothing of %s", docs, k[1])
			}
		}
	}
}
