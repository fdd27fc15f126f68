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

// The typefaces.
const (
	Sans Font = iota
	SansBold
	Mono
	MonoBold
)

var typefaces = [...]struct {
	file   []byte
	family string // the Go font, and fonts that look much the same
	weight string
	slack  float64 // width of DejaVu, the widest common font, divided by that of the Go font
}{
	Sans:     {goregular.TTF, "Go, Helvetica, Arial, sans-serif", "normal", 1.15},
	SansBold: {gobold.TTF, "Go, Helvetica, Arial, sans-serif", "bold", 1.25},
	Mono:     {gomono.TTF, "'Go Mono', Consolas, Menlo, 'Liberation Mono', monospace", "normal", 1.01},
	MonoBold: {gomonobold.TTF, "'Go Mono', Consolas, Menlo, 'Liberation Mono', monospace", "bold", 1.01},
}

// Style is the look of a text.
type Style struct {
	Font   Font
	Size   float64 // pixels
	Colour Colour
}

// Text is a line of text. It begins at X. Y is its baseline.
type Text struct {
	X, Y float64
	Style
	Words string
}

// Bounds returns the area that the text takes in any common font, with room for accents
// and descenders.
func (t Text) Bounds() Box {
	return Box{X: t.X, Y: t.Y - .8*t.Size, W: t.Room(t.Words), H: 1.05 * t.Size}
}

// Room returns the width of words in the widest common font. Some programs that show SVG
// have only other fonts, and ignore the width that a text carries.
func (s Style) Room(words string) float64 { return s.Width(words) * typefaces[s.Font].slack }

// Width returns the width of words in the Go fonts.
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

// measured is the size, in pixels, in which text is measured. Without hinting, widths in
// other sizes are in proportion.
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
	if err != nil { // NewFace never fails
		panic(err)
	}
	return f
}

// Wrap breaks words into lines of at most width, in any common font. It cuts a single word
// that is wider.
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

// Cut returns words if they fit into width, or else the start of them with an ellipsis.
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
