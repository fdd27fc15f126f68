// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type finding struct {
	What string         `json:"what"`
	Like []string       `json:"like,omitempty"`
	More map[string]int `json:"more,omitempty"`
}

func (f finding) WriteText(w io.Writer, s Style) error {
	_, err := fmt.Fprintln(w, s.Bad(f.What))
	return err
}

func TestWrite(t *testing.T) {
	f := finding{What: "a <b>", Like: []string{"on", "1", "a: b", "# c", ""}, More: map[string]int{"no": 12345678901}}
	for format, want := range map[string]string{
		"text": "a <b>\n",
		"json": `{
  "what": "a <b>",
  "like": [
    "on",
    "1",
    "a: b",
    "# c",
    ""
  ],
  "more": {
    "no": 12345678901
  }
}
`,
		"yaml": `like:
- "on"
- "1"
- 'a: b'
- '# c'
- ""
more:
  "no": 12345678901
what: a <b>
`,
	} {
		var b strings.Builder
		if err := Write(&b, format, f); err != nil || b.String() != want {
			t.Errorf("%s: %q, %v, want %q", format, b.String(), err, want)
		}
	}
	if err := Write(io.Discard, "xml", finding{}); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("xml: %v, want an error that names it", err)
	}
}

// TestColoursOnlyOnATerminal writes to a pseudo-terminal, to the same one with
// NO_COLOR, and to a pipe.
func TestColoursOnlyOnATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = terminal.Close() }()
	_, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NO_COLOR", "")
	if got := StyleFor(terminal).Bad("wrong"); got != "\x1b[31mwrong\x1b[0m" {
		t.Errorf("on a terminal: %q", got)
	}
	if got := StyleFor(pipe).Bad("wrong"); got != "wrong" {
		t.Errorf("on a pipe: %q", got)
	}
	t.Setenv("NO_COLOR", "1")
	if got := StyleFor(terminal).Bad("wrong"); got != "wrong" {
		t.Errorf("with NO_COLOR: %q", got)
	}
}
