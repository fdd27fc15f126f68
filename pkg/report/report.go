// SPDX-License-Identifier: Apache-2.0

// Package report writes the results of commands: as text for people, coloured on a
// terminal, or as JSON or YAML for programs.
package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
	"golang.org/x/term"
)

// Texter is a result that writes itself as text. For programs it is encoded by
// encoding/json.
type Texter interface {
	WriteText(w io.Writer, s Style) error
}

// Formats are the output formats of Write; the first is the default.
var Formats = []string{"text", "json", "yaml"}

// Write writes v in one of the Formats.
func Write(w io.Writer, format string, v Texter) error {
	switch format {
	case "text":
		return v.WriteText(w, StyleFor(w))
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(v)
	case "yaml":
		return writeYAML(w, v)
	}
	return fmt.Errorf("output %q: want one of %v", format, Formats)
}

// writeYAML writes what encoding/json makes of v, which is YAML in another style.
func writeYAML(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var decoded any
	if err := yaml.Unmarshal(text, &decoded); err != nil {
		return err
	}
	e := yaml.NewEncoder(w)
	e.SetIndent(2)
	e.CompactSeqIndent()
	return errors.Join(e.Encode(decoded), e.Close())
}

// Style colours words. The zero Style leaves them as they are.
type Style struct{ colours bool }

// StyleFor returns a style with colours if w is a terminal and NO_COLOR (no-color.org)
// is not set.
func StyleFor(w io.Writer) Style {
	f, isFile := w.(*os.File)
	return Style{isFile && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))}
}

// These methods colour a word by its meaning, with SGR sequences (ECMA-48, 8.3.117).

func (s Style) Head(text string) string  { return s.in("1", text) }  // a heading
func (s Style) Faint(text string) string { return s.in("2", text) }  // of less interest
func (s Style) Bad(text string) string   { return s.in("31", text) } // wrong
func (s Style) Good(text string) string  { return s.in("32", text) } // right
func (s Style) Warn(text string) string  { return s.in("33", text) } // to be looked at
func (s Style) Ours(text string) string  { return s.in("36", text) } // made by this suite

func (s Style) in(sgr, text string) string {
	if !s.colours || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}
