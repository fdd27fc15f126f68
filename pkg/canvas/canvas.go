// SPDX-License-Identifier: Apache-2.0

// Package canvas is pictures of boxes, lines and text, written as SVG. Text
// has the metrics of the Go fonts (golang.org/x/image/font/gofont), which are linked
// in, with room for others: what fits into a box when it is laid out fits into it
// wherever it is drawn.
package canvas

import (
	"fmt"
	"slices"
)

// Canvas is a picture; items are drawn one upon the other. Lengths are in pixels, from
// the upper left corner.
type Canvas struct {
	Width, Height float64
	Title         string // for who can't see it
	Items         []Item
}

// Item is a Box, a Line or a Text.
type Item interface {
	svg() string
}

// Add draws on what is there.
func (c *Canvas) Add(items ...Item) { c.Items = append(c.Items, items...) }

// Colour is one without transparency. The zero Colour is none at all.
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

// Contains reports whether o is inside, or fills b.
func (b Box) Contains(o Box) bool {
	return b.X <= o.X && b.Y <= o.Y && o.X+o.W <= b.X+b.W && o.Y+o.H <= b.Y+b.H
}

// Overlaps reports whether the two have an area in common.
func (b Box) Overlaps(o Box) bool {
	return b.X < o.X+o.W && o.X < b.X+b.W && b.Y < o.Y+o.H && o.Y < b.Y+b.H
}

// Point is a place in the picture.
type Point struct{ X, Y float64 }

// Line leads through points that lie beside or above each other.
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

// shaft is the points of an arrow that ends where its head begins.
func (l Line) shaft() []Point {
	out := slices.Clone(l.Points)
	a, b := out[len(out)-2], &out[len(out)-1]
	b.X -= (arrow - 1) * sign(b.X-a.X)
	b.Y -= (arrow - 1) * sign(b.Y-a.Y)
	return out
}

// arrow is the length of an arrow's head.
const arrow = 9

// head returns the corners of the arrow's head.
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
