// SPDX-License-Identifier: Apache-2.0

package canvas

import (
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"io"
	"math"

	"golang.org/x/image/font"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

// density is how many pixels of a PNG there are to one of the picture, so that it is
// sharp on any screen.
const density = 2

// WritePNG writes the picture as PNG, on white.
func (c *Canvas) WritePNG(w io.Writer) error { return png.Encode(w, c.image()) }

func (c *Canvas) image() *image.RGBA {
	p := &painter{
		image: image.NewRGBA(image.Rect(0, 0, int(math.Ceil(c.Width*density)), int(math.Ceil(c.Height*density)))),
		faces: map[Style]font.Face{},
	}
	draw.Draw(p.image, p.image.Bounds(), image.White, image.Point{}, draw.Src)
	for _, i := range c.Items {
		i.paint(p)
	}
	return p.image
}

// painter draws on an image.
type painter struct {
	image *image.RGBA
	faces map[Style]font.Face
}

// fill fills the area that a path encloses within a box, in which the path is given.
func (p *painter) fill(in Box, c color.RGBA, path func(r *vector.Rasterizer, at func(x, y float64) (float32, float32))) {
	area := image.Rect(int(in.X*density), int(in.Y*density), int(math.Ceil((in.X+in.W)*density)), int(math.Ceil((in.Y+in.H)*density)))
	r := vector.NewRasterizer(area.Dx(), area.Dy())
	path(r, func(x, y float64) (float32, float32) {
		return float32(x*density - float64(area.Min.X)), float32(y*density - float64(area.Min.Y))
	})
	r.Draw(p.image, area, image.NewUniform(c), image.Point{})
}

func (b Box) paint(p *painter) {
	if b.Thick > 0 {
		p.rounded(b, b.Stroke)
		b.X, b.Y, b.W, b.H = b.X+b.Thick, b.Y+b.Thick, b.W-2*b.Thick, b.H-2*b.Thick
		b.Radius = max(0, b.Radius-b.Thick)
	}
	if b.Fill.set {
		p.rounded(b, b.Fill)
	}
}

// rounded fills a rectangle with rounded corners.
func (p *painter) rounded(b Box, c Colour) {
	const k = .5523 // of a cubic curve that is nearly a quarter of a circle
	p.fill(b, c.rgba(), func(r *vector.Rasterizer, at func(x, y float64) (float32, float32)) {
		move := func(x, y float64) { fx, fy := at(x, y); r.MoveTo(fx, fy) }
		line := func(x, y float64) { fx, fy := at(x, y); r.LineTo(fx, fy) }
		curve := func(x1, y1, x2, y2, x3, y3 float64) {
			ax, ay := at(x1, y1)
			bx, by := at(x2, y2)
			cx, cy := at(x3, y3)
			r.CubeTo(ax, ay, bx, by, cx, cy)
		}
		l, t, right, bottom, rad := b.X, b.Y, b.X+b.W, b.Y+b.H, b.Radius
		c := rad * (1 - k)
		move(l+rad, t)
		line(right-rad, t)
		curve(right-c, t, right, t+c, right, t+rad)
		line(right, bottom-rad)
		curve(right, bottom-c, right-c, bottom, right-rad, bottom)
		line(l+rad, bottom)
		curve(l+c, bottom, l, bottom-c, l, bottom-rad)
		line(l, t+rad)
		curve(l, t+c, l+c, t, l+rad, t)
		r.ClosePath()
	})
}

// The dashes of a line, and the space between, in pixels.
const (
	dash = 6
	gap  = 4
)

func (l Line) paint(p *painter) {
	for _, s := range l.Segments() {
		for _, part := range l.dashes(s) {
			p.rounded(part, l.Colour)
		}
	}
	if l.Arrow {
		head := l.head()
		in := Box{X: head[0].X, Y: head[0].Y}
		for _, h := range head {
			in = Box{X: min(in.X, h.X), Y: min(in.Y, h.Y), W: max(in.X+in.W, h.X) - min(in.X, h.X), H: max(in.Y+in.H, h.Y) - min(in.Y, h.Y)}
		}
		p.fill(in, l.Colour.rgba(), func(r *vector.Rasterizer, at func(x, y float64) (float32, float32)) {
			x, y := at(head[0].X, head[0].Y)
			r.MoveTo(x, y)
			for _, h := range head[1:] {
				x, y = at(h.X, h.Y)
				r.LineTo(x, y)
			}
			r.ClosePath()
		})
	}
}

// dashes returns the parts of a segment that are drawn.
func (l Line) dashes(s Box) (out []Box) {
	if !l.Dashed {
		return []Box{s}
	}
	for at := 0.; at < max(s.W, s.H); at += dash + gap {
		if s.W > s.H {
			out = append(out, Box{X: s.X + at, Y: s.Y, W: min(dash, s.W-at), H: s.H})
		} else {
			out = append(out, Box{X: s.X, Y: s.Y + at, W: s.W, H: min(dash, s.H-at)})
		}
	}
	return out
}

func (t Text) paint(p *painter) {
	large := t.Style
	large.Size *= density
	f := p.faces[large]
	if f == nil {
		f = face(large)
		p.faces[large] = f
	}
	d := font.Drawer{Dst: p.image, Src: image.NewUniform(t.Colour.rgba()), Face: f}
	for i, letter := range t.Words { // each on a whole pixel: equal ones look the same, and compress well
		d.Dot = fixed.P(int(math.Round((t.X+t.Width(t.Words[:i]))*density)), int(math.Round(t.Y*density)))
		d.DrawString(string(letter))
	}
}
