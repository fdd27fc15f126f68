// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the part of docs/doctor.md that lists all kinds")

// TestDocs holds docs/doctor.md to what the program says.
func TestDocs(t *testing.T) {
	const path = "../../docs/doctor.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const marker = "go test ./pkg/doctor -update -->\n"
	head, have, ok := strings.Cut(string(data), marker)
	if !ok {
		t.Fatalf("%s has no line that ends so: %s", path, marker)
	}
	want := kindsInWords()
	if *update {
		if err := os.WriteFile(path, []byte(head+marker+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("%s, which -update rewrites (-want +got):\n%s", path, diff)
	}
}

func kindsInWords() string {
	var table, text strings.Builder
	for _, k := range Kinds {
		fix := ""
		if k.Ours {
			fix = "yes"
		}
		remedy := "see there"
		for line := range strings.Lines(k.Remedy) {
			if line = strings.TrimSpace(line); line[0] != '#' && line != "COMMANDS" {
				remedy = "`" + strings.TrimSuffix(line, "FLAGS") + "`"
				break
			}
		}
		fmt.Fprintf(&table, "| [`%s`](#%[1]s) | %s | %s | %s | %s |\n", k.ID, k.Severity, k.What, remedy, fix)
		fmt.Fprintf(&text, "\n### %s\n\n%s\n\n", k.ID, k.Why)
		for line := range strings.Lines(k.Remedy) {
			text.WriteString("    " + strings.Replace(strings.TrimSuffix(line, "\n"), "FLAGS", "", 1) + "\n")
		}
	}
	return "\n| | severity | what | remedy | `--fix` |\n|---|---|---|---|---|\n" + table.String() + `
Words in capitals are placeholders. A finding has names in their place, and commands in place of COMMANDS.
` + text.String()
}

// TestKinds: each is told by its ID, and says all that it has to say.
func TestKinds(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Kinds {
		if seen[k.ID] || k.ID == "" || k.What == "" || k.Why == "" || k.Remedy == "" || k.Severity == "" {
			t.Errorf("%+v", k)
		}
		seen[k.ID] = true
	}
}
