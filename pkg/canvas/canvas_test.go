// SPDX-License-Identifier: Apache-2.0

package canvas

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	s := Style{Font: Mono, Size: 10}
	width := s.Room("0123456789")
	for words, want := range map[string][]string{
		"":                     nil,
		"one two":              {"one two"},
		"one two three":        {"one two", "three"},
		"one twothreefour":     {"one", "twothreef…"},
		"twothreefour one":     {"twothreef…", "one"},
		"0123456789 012345678": {"0123456789", "012345678"},
	} {
		if got := s.Wrap(words, width); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", words, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	s := Style{Font: SansBold, Size: 14}
	for _, words := range []string{"eth0", "länger", "a name that is longer", ""} {
		for width := 0.; width < 200; width += 5 {
			got := s.Cut(words, width)
			if s.Room(got) > width && got != "…" {
				t.Errorf("%q is wider than %v", got, width)
			}
			if got != words && (!strings.HasSuffix(got, "…") || !strings.HasPrefix(words, strings.TrimSuffix(got, "…"))) {
				t.Errorf("%q of %q", got, words)
			}
		}
	}
}

// picture has one item of each kind.
func picture() *Canvas {
	red, blue := RGB(0xff0000), RGB(0x0000ff)
	c := &Canvas{Width: 100, Height: 50.5, Title: "a < b"}
	c.Add(
		Box{X: 10, Y: 10, W: 20, H: 20, Radius: 4, Fill: red, Stroke: blue, Thick: 2},
		Line{Points: []Point{{40, 20}, {60, 20}, {60, 40}}, Colour: blue, Thick: 2, Arrow: true},
		Line{Points: []Point{{40, 45}, {90, 45}}, Colour: red, Thick: 2, Dashed: true},
		Text{X: 65, Y: 20, Style: Style{Font: Mono, Size: 12, Colour: red}, Words: "<&>"},
	)
	return c
}

func TestSVG(t *testing.T) {
	var b bytes.Buffer
	if err := picture().WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`width="100" height="50.5" viewBox="0 0 100 50.5"`,
		`<title>a &lt; b</title>`,
		`<rect x="11" y="11" width="18" height="18" rx="3" fill="#ff0000" stroke="#0000ff" stroke-width="2"/>`,
		`<polyline points="40,20 60,20 60,32" fill="none" stroke="#0000ff" stroke-width="2"/>`,
		`<polygon points="60,40 55.5,31 64.5,31" fill="#0000ff"/>`,
		`stroke-dasharray="6 4"`,
		`>&lt;&amp;&gt;</text>`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %s in:\n%s", want, b.String())
		}
	}
}
