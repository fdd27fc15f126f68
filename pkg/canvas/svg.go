// SPDX-License-Identifier: Apache-2.0

package canvas

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteSVG writes the picture as SVG 1.1, on white. Each text carries its width
// (textLength), so that the picture looks the same without the Go fonts.
func (c *Canvas) WriteSVG(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%s" height="%s" viewBox="0 0 %[1]s %[2]s" role="img">`+"\n",
		number(c.Width), number(c.Height))
	fmt.Fprintf(&b, "<title>%s</title>\n<style>\n", escaped(c.Title))
	for i, t := range typefaces {
		fmt.Fprintf(&b, ".t%d { font-family: %s; font-weight: %s; }\n", i, t.family, t.weight)
	}
	b.WriteString("</style>\n" + Box{W: c.Width, H: c.Height, Fill: RGB(0xffffff)}.svg() + "\n")
	for _, i := range c.Items {
		b.WriteString(i.svg() + "\n")
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (b Box) svg() string {
	inset := b.Thick / 2 // SVG draws a stroke half outside
	s := fmt.Sprintf(`<rect x="%s" y="%s" width="%s" height="%s"`, number(b.X+inset), number(b.Y+inset), number(b.W-b.Thick), number(b.H-b.Thick))
	if b.Radius > 0 {
		s += fmt.Sprintf(` rx="%s"`, number(b.Radius-inset))
	}
	s += fmt.Sprintf(` fill="%s"`, b.Fill)
	if b.Thick > 0 {
		s += fmt.Sprintf(` stroke="%s" stroke-width="%s"`, b.Stroke, number(b.Thick))
	}
	return s + "/>"
}

// The lengths of the dashes of a line and of the gaps between, in pixels.
const (
	dash = 6
	gap  = 4
)

func (l Line) svg() string {
	points := l.Points
	if l.Arrow {
		points = l.shaft()
	}
	s := fmt.Sprintf(`<polyline points="%s" fill="none" stroke="%s" stroke-width="%s"`, pairs(points), l.Colour, number(l.Thick))
	if l.Dashed {
		s += fmt.Sprintf(` stroke-dasharray="%d %d"`, dash, gap)
	}
	s += "/>"
	if l.Arrow {
		head := l.head()
		s += fmt.Sprintf("\n"+`<polygon points="%s" fill="%s"/>`, pairs(head[:]), l.Colour)
	}
	return s
}

func pairs(points []Point) string {
	var out []string
	for _, p := range points {
		out = append(out, number(p.X)+","+number(p.Y))
	}
	return strings.Join(out, " ")
}

func (t Text) svg() string {
	return fmt.Sprintf(`<text class="t%d" x="%s" y="%s" font-size="%s" fill="%s" textLength="%s" lengthAdjust="spacingAndGlyphs">%s</text>`,
		t.Font, number(t.X), number(t.Y), number(t.Size), t.Colour, number(t.Width(t.Words)), escaped(t.Words))
}

// number returns a length, rounded to a tenth of a pixel.
func number(f float64) string { return strconv.FormatFloat(float64(int(f*10+.5))/10, 'f', -1, 64) }

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}
