// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/report"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// run is the command in this process.
func run(args ...string) (string, error) {
	var out bytes.Buffer
	c := command()
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(io.Discard)
	err := c.Execute()
	return out.String(), err
}

// TestExplain goes through testdata/explain/*.txtar. Each holds the arguments of
// `multihome explain`, one to a line, the files that they name, and what is printed in
// some of the formats, or the error.
func TestExplain(t *testing.T) {
	files, err := filepath.Glob("testdata/explain/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			dir, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			var args []string
			for i, f := range a.Files {
				switch f.Name {
				case "args":
					args = strings.Split(strings.TrimSpace(string(f.Data)), "\n")
				case "error", "text", "json", "yaml":
					got := explained(t, args, f.Name)
					if d := cmp.Diff(string(f.Data), got); d != "" && !*update {
						t.Errorf("%s (-golden +got), `go test -update` rewrites it:\n%s", f.Name, d)
					}
					a.Files[i].Data = []byte(got)
				default:
					if err := os.WriteFile(f.Name, f.Data, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			if *update {
				if err := os.WriteFile(dir, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// explained is what is printed in a format, or the error.
func explained(t *testing.T, args []string, format string) string {
	t.Helper()
	if format == "error" {
		out, err := run(append([]string{"explain"}, args...)...)
		if err == nil {
			t.Fatalf("no error, but %s", out)
		}
		return err.Error() + "\n"
	}
	out, err := run(append([]string{"explain", "-o", format}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestExplainAsksNoKernel: of a pod that is described it needs neither a socket nor
// another namespace.
func TestExplainAsksNoKernel(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	calls := func(args ...string) string {
		c := exec.Command("strace", append([]string{"-f", "-qq", "-e", "trace=socket,setns,unshare", "-o", trace, self}, args...)...)
		c.Env = append(os.Environ(), asCommand+"=1")
		c.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "lan", "type": "coordinator", "nodeAddresses": "10.6.168.123"}`)
		out, err := c.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "ip -n POD route add 10.6.168.123 ") {
			t.Errorf("it says %s", out)
		}
		got, err := os.ReadFile(trace)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(regexp.MustCompile(`(?m)^.*(socket|setns|unshare)\(.*$`).FindAllString(string(got), -1), "\n")
	}
	if got := calls("explain", "-", "--address", "10.6.168.171/16"); got != "" {
		t.Errorf("it calls %s", got)
	}
	if got := calls("explain", "-", "--netns", "/proc/self/ns/net"); got == "" {
		t.Error("the control: not even of a pod that is there it asks the kernel")
	}
}

// TestExplainCompletion: what a shell offers for a network, a format and the flags.
func TestExplainCompletion(t *testing.T) {
	for word, want := range map[string][]string{
		"":        {"conflist", "yaml", ":8"}, // ShellCompDirectiveFilterFileExt
		"-o":      report.Formats,
		"--node-": {"--node-address"},
	} {
		args := []string{"__complete", "explain", word}
		if word == "-o" {
			args = append(args, "")
		}
		out, err := run(args...)
		for _, w := range want {
			if err != nil || !strings.Contains(out, w) {
				t.Errorf("%q is completed by %q (%v), want %s", word, out, err, w)
			}
		}
	}
}
