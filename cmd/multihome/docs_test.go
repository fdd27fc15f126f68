// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

var inBackticks = regexp.MustCompile("`(multihome [^`]+)`")

// TestDocumentedCommands looks at each command line of multihome in the documents: the
// command is there, and has these flags.
func TestDocumentedCommands(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, file := range append(files, "../../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range commandLines(string(text)) {
			n++
			if err := parses(line); err != nil {
				t.Errorf("%s: %s: %v", filepath.Base(file), line, err)
			}
		}
	}
	if n < 50 {
		t.Errorf("%d command lines were found, of more than 50", n)
	}
	for _, line := range []string{"multihome nothing", "multihome trace POD --nowhere"} {
		if parses(line) == nil {
			t.Errorf("%s: no error", line)
		}
	}
}

// commandLines are those in backticks, and in indented lines with a prompt or without.
func commandLines(text string) (out []string) {
	for line := range strings.Lines(text) {
		for _, m := range inBackticks.FindAllStringSubmatch(line, -1) {
			out = append(out, m[1])
		}
		plain := strings.TrimLeft(strings.TrimSpace(line), "#$ ")
		plain = strings.TrimPrefix(plain, "bin/")
		if strings.HasPrefix(line, "    ") && strings.HasPrefix(plain, "multihome ") {
			command, _, _ := strings.Cut(plain, "#")
			out = append(out, command)
		}
	}
	return out
}

// parses reads a command line as far as cobra does, and no shell has a part in it. A
// usage has optional words in brackets.
func parses(line string) error {
	args := strings.Fields(strings.NewReplacer("[", "", "]", "", "|", " ", "`", "").Replace(line))[1:]
	if end := slices.IndexFunc(args, func(a string) bool { return a == "--" || a[0] == '>' || a[0] == '"' }); end >= 0 {
		args = args[:end]
	}
	root := command()
	root.InitDefaultCompletionCmd()
	c, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); !errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return nil
}
