// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// These are the measures of the plot, in pixels.
const (
	panelWidth, panelHeight = 480.0, 260.0 // the area between the axes
	marginLeft, marginTop   = 70.0, 90.0
	gapX, gapY              = 80.0, 110.0
	plotWidth               = marginLeft + 2*panelWidth + gapX + 40
	plotHeight              = marginTop + 2*panelHeight + gapY + 70
)

const style = `
  text { font: 15px sans-serif; fill: #222 }
  .title { font-size: 17px; font-weight: bold }
  .axis { stroke: #222 }
  .grid { stroke: #ddd }
  .add { stroke: #0b62a4; fill: none; stroke-width: 2.5 }
  .add-dot { fill: #0b62a4 }
  .spread { stroke: #0b62a4; stroke-width: 1.2 }
  .floor { stroke: #999; fill: none; stroke-width: 2; stroke-dasharray: 6 4 }
`

// plot writes the curves as an SVG: a panel for each curve, in two columns. The vertical axes
// are the time of ADD as a multiple of the echo plugin's.
func plot(out io.Writer, curves []curve) error {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0[1]f" height="%.0[2]f">`+"\n", plotWidth, plotHeight)
	fmt.Fprintf(&b, "<style>%s</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n", style)
	legend(&b)
	unit := math.Ceil(highest(curves) / 6) // between two lines of the grid
	top := unit * math.Ceil(highest(curves)/unit)
	for i, c := range curves {
		p := panel{
			x: marginLeft + float64(i%2)*(panelWidth+gapX), y: marginTop + float64(i/2)*(panelHeight+gapY),
			unit: unit, top: top, right: float64(c.points[len(c.points)-1].n),
		}
		p.draw(&b, c)
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func legend(b *strings.Builder) {
	const y = 28.0
	fmt.Fprintf(b, `<path class="add" d="M%g %g h40"/><circle class="add-dot" cx="%g" cy="%[2]g" r="4"/>`, marginLeft, y, marginLeft+20)
	fmt.Fprintf(b, `<text x="%g" y="%g">ADD, times the echo plugin: median and quartiles</text>`+"\n", marginLeft+50, y+5)
	fmt.Fprintf(b, `<path class="floor" d="M%g %g h40"/><text x="%g" y="%g">the kernel's work for a first NIC alone: median</text>`+"\n",
		marginLeft+panelWidth+gapX-50, y, marginLeft+panelWidth+gapX, y+5)
}

// highest returns the greatest value on the vertical axes.
func highest(curves []curve) float64 {
	top := 0.0
	for _, c := range curves {
		for _, p := range c.points {
			top = max(top, p.add.quantile(0.75)/p.echo.median())
		}
	}
	return top
}

// panel is the area of one curve: its upper left corner, the step of the grid, and the values
// at the ends of the axes.
type panel struct{ x, y, unit, top, right float64 }

// at returns the position of a value.
func (p panel) at(n int, ratio float64) (x, y float64) {
	return p.x + float64(n)/p.right*panelWidth, p.y + panelHeight*(1-ratio/p.top)
}

func (p panel) draw(b *strings.Builder, c curve) {
	fmt.Fprintf(b, `<text class="title" x="%g" y="%g">%s</text>`+"\n", p.x, p.y-14, c.of)
	for ratio := 0.0; ratio <= p.top; ratio += p.unit {
		x, y := p.at(0, ratio)
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1f h%g"/><text text-anchor="end" x="%.1f" y="%.1f">%g ×</text>`+"\n", x, y, panelWidth, x-8, y+5, ratio)
	}
	fmt.Fprintf(b, `<path class="axis" d="M%g %g v%g h%g" fill="none"/>`+"\n", p.x, p.y, panelHeight, panelWidth)
	var add, floor []string
	end := math.Inf(-1) // right end of the label before
	for _, pt := range c.points {
		echo := pt.echo.median()
		x, y := p.at(pt.n, pt.add.median()/echo)
		_, low := p.at(pt.n, pt.add.quantile(0.25)/echo)
		_, high := p.at(pt.n, pt.add.quantile(0.75)/echo)
		_, fy := p.at(pt.n, pt.floor.median()/echo)
		add, floor = append(add, fmt.Sprintf("%.1f,%.1f", x, y)), append(floor, fmt.Sprintf("%.1f,%.1f", x, fy))
		fmt.Fprintf(b, `<path class="spread" d="M%.1f %.1f V%.1f"/><circle class="add-dot" cx="%.1f" cy="%.1f" r="4"/>`+"\n", x, low, high, x, y)
		label := fmt.Sprint(pt.n)
		half := 4.5*float64(len(label)) + 4
		fmt.Fprintf(b, `<path class="axis" d="M%.1f %.1f v6"/>`+"\n", x, p.y+panelHeight)
		if x-half < end {
			continue // no room
		}
		end = x + half
		fmt.Fprintf(b, `<text text-anchor="middle" x="%.1f" y="%.1f">%s</text>`+"\n", x, p.y+panelHeight+24, label)
	}
	fmt.Fprintf(b, `<polyline class="floor" points="%s"/><polyline class="add" points="%s"/>`+"\n", strings.Join(floor, " "), strings.Join(add, " "))
}
