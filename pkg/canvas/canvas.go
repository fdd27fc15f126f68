// SPDX-License-Identifier: Apache-2.0

// Package canvas draws pictures of boxes, lines and text, and writes them as SVG. For
// example:
//
//	style := canvas.Style{Font: canvas.Sans, Size: 12, Colour: canvas.RGB(0x000000)}
//	c := canvas.Canvas{Width: 120, Height: 40, Title: "a node"}
//	c.Add(canvas.Box{X: 10, Y: 10, W: 100, H: 20, Stroke: canvas.RGB(0x0b63c5), Thick: 1})
//	c.Add(canvas.Text{X: 14, Y: 24, Style: style, Words: style.Cut("node1", 92)})
//	err := c.WriteSVG(os.Stdout)
//
// Text is measured in the Go fonts (golang.org/x/image/font/gofont), which are linked in.
// [Style.Room], [Style.Wrap] and [Style.Cut] add room for wider fonts, so that text fits
// into its box in other programs, too.
//
// Beware: linking the fonts makes a binary larger, so plugins must not link this package.
// Lines must be horizontal or vertical.
package canvas

import (
	"fmt"
	"slices"
)

// Canvas is a picture. Later items are drawn over earlier ones. All lengths are in
// pixels, from the upper left corner.
type Canvas struct {
	Width, Height float64
	Title         string // for screen readers
	Items         []Item
}

// Item is a Box, a Line or a Text.
type Item interface {
	svg() string
}

// Add draws items over the existing ones.
func (c *Canvas) Add(items ...Item) { c.Items = append(c.Items, items...) }

// Colour is an opaque colour. The zero Colour means none: nothing is painted.
type Colour struct {
	R, G, B uint8
	set     bool
}

// RGB returns the colour of a number like 0x0b63c5.
func RGB(n uint32) Colour { return Colour{uint8(n >> 16), uint8(n >> 8), uint8(n), true} }

func (c Colour) String() string {
	if !c.set {
		return "none"
	}
	return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B)
}

// Box is a rectangle.
type Box struct {
	X, Y, W, H float64
	Radius     float64 // of its corners
	Fill       Colour
	Stroke     Colour
	Thick      float64 // of the stroke, which is inside
}

// Contains reports whether o is inside b. The boxes may have edges in common.
func (b Box) Contains(o Box) bool {
	return b.X <= o.X && b.Y <= o.Y && o.X+o.W <= b.X+b.W && o.Y+o.H <= b.Y+b.H
}

// Overlaps reports whether both boxes have an area in common.
func (b Box) Overlaps(o Box) bool {
	return b.X < o.X+o.W && o.X < b.X+b.W && b.Y < o.Y+o.H && o.Y < b.Y+b.H
}

// Point is a place in the picture.
type Point struct{ X, Y float64 }

// Line leads through points. Each part of it is horizontal or vertical.
type Line struct {
	Points []Point
	Colour Colour
	Thick  float64
	Arrow  bool // at its end
	Dashed bool
}

// Segments returns the areas that the line covers, without its arrow's head.
func (l Line) Segments() []Box {
	points, h := l.Points, l.Thick/2
	if l.Arrow {
		points = l.shaft()
	}
	var out []Box
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		out = append(out, Box{X: min(a.X, b.X) - h, Y: min(a.Y, b.Y) - h, W: abs(a.X-b.X) + l.Thick, H: abs(a.Y-b.Y) + l.Thick})
	}
	return out
}

// shaft returns the points of an arrow without its head.
func (l Line) shaft() []Point {
	out := slices.Clone(l.Points)
	a, b := out[len(out)-2], &out[len(out)-1]
	b.X -= (arrow - 1) * sign(b.X-a.X)
	b.Y -= (arrow - 1) * sign(b.Y-a.Y)
	return out
}

// arrow is the length of an arrow's head.
const arrow = 9

// head returns the corners of the arrow's head, the tip first.
func (l Line) head() [3]Point {
	a, tip := l.Points[len(l.Points)-2], l.Points[len(l.Points)-1]
	dx, dy := sign(tip.X-a.X), sign(tip.Y-a.Y)
	back := Point{tip.X - arrow*dx, tip.Y - arrow*dy}
	const half = arrow / 2.
	return [3]Point{tip, {back.X - half*dy, back.Y + half*dx}, {back.X + half*dy, back.Y - half*dx}}
}

func sign(f float64) float64 {
	switch {
	case f > 0:
		return 1
	case f < 0:
		return -1
	}
	return 0
}

func abs(f float64) float64 { return max(f, -f) }
