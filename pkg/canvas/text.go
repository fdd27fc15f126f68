// SPDX-License-Identifier: Apache-2.0

package canvas

import (
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
)

// Font is a typeface.
type Font int

// The typefaces there are.
const (
	Sans Font = iota
	SansBold
	Mono
	MonoBold
)

var typefaces = [...]struct {
	file   []byte
	family string // that looks much the same where there are no Go fonts
	weight string
	slack  float64 // how much wider DejaVu is, the widest that is common
}{
	Sans:     {goregular.TTF, "Go, Helvetica, Arial, sans-serif", "normal", 1.15},
	SansBold: {gobold.TTF, "Go, Helvetica, Arial, sans-serif", "bold", 1.25},
	Mono:     {gomono.TTF, "'Go Mono', Consolas, Menlo, 'Liberation Mono', monospace", "normal", 1.01},
	MonoBold: {gomonobold.TTF, "'Go Mono', Consolas, Menlo, 'Liberation Mono', monospace", "bold", 1.01},
}

// Style is how a text looks.
type Style struct {
	Font   Font
	Size   float64 // pixels
	Colour Colour
}

// Text is a line of text that begins at X, and whose letters stand on Y.
type Text struct {
	X, Y float64
	Style
	Words string
}

// Bounds is the area that the text takes in any font, with room for accents and
// descenders.
func (t Text) Bounds() Box {
	return Box{X: t.X, Y: t.Y - .8*t.Size, W: t.Room(t.Words), H: 1.05 * t.Size}
}

// Room returns how wide words may be, as some programs that show SVG have other fonts
// only, and don't go by how wide a text is said to be.
func (s Style) Room(words string) float64 { return s.Width(words) * typefaces[s.Font].slack }

// Width returns how wide words are in the Go fonts.
func (s Style) Width(words string) float64 {
	measuring.Lock()
	defer measuring.Unlock()
	f := measuring.faces[s.Font]
	if f == nil {
		f = face(s.Font)
		measuring.faces[s.Font] = f
	}
	return float64(font.MeasureString(f, words)) / 64 * s.Size / measured
}

// measured is the size in which text is measured; without hinting, all others are in
// proportion.
const measured = 100

var measuring struct {
	sync.Mutex // a face may be used by one goroutine at a time
	faces      [len(typefaces)]font.Face
}

// face returns a typeface in the size in which text is measured.
func face(of Font) font.Face {
	parsed, err := opentype.Parse(typefaces[of].file)
	if err != nil { // the files are linked in
		panic(err)
	}
	f, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: measured, DPI: 72, Hinting: font.HintingNone})
	if err != nil { // it never is
		panic(err)
	}
	return f
}

// Wrap breaks words into lines that are at most width wide in any font. A word that is wider by
// itself is cut.
func (s Style) Wrap(words string, width float64) (lines []string) {
	line := ""
	for _, w := range strings.Fields(words) {
		switch longer := strings.TrimSpace(line + " " + w); {
		case s.Room(longer) <= width:
			line = longer
		case line == "":
			lines = append(lines, s.Cut(w, width))
		default:
			lines = append(lines, line)
			line = s.Cut(w, width)
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// Cut returns words with an ellipsis for what is beyond width.
func (s Style) Cut(words string, width float64) string {
	if s.Room(words) <= width {
		return words
	}
	runes := []rune(words)
	for len(runes) > 0 && s.Room(string(runes)+"…") > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}
