// SPDX-License-Identifier: Apache-2.0

package canvas_test

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/multihome/multihome/pkg/canvas"
)

var update = flag.Bool("update", false, "rewrite docs/images/addresses.svg")

// TestLifeOfAnAddress holds the picture in docs/addresses.md to what is drawn here, and wants
// all words in their boxes.
func TestLifeOfAnAddress(t *testing.T) {
	const file = "../../docs/images/addresses.svg"
	var got bytes.Buffer
	if err := life(t).WriteSVG(&got); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s isn't as drawn: `go test ./pkg/canvas -update` rewrites it", file)
	}
}

const (
	boxW, boxH = 220., 84.
	gap        = 160. // between boxes in a row
	margin     = 20.
	drop       = 96. // between the rows
)

var (
	ink  = canvas.RGB(0x111827)
	grey = canvas.RGB(0x4b5563)
	head = canvas.Style{Font: canvas.SansBold, Size: 14, Colour: ink}
	body = canvas.Style{Font: canvas.Sans, Size: 12, Colour: grey}
)

// life draws the states of an address as a ring, with what leads from each to the next.
func life(t *testing.T) *canvas.Canvas {
	t.Helper()
	c := &canvas.Canvas{Width: 3*boxW + 2*gap + 2*margin, Height: 2*boxH + drop + 2*margin, Title: "the life of an address"}
	c.Add(canvas.Box{W: c.Width, H: c.Height, Fill: canvas.RGB(0xffffff)})
	api, node, pod := canvas.RGB(0xfefce8), canvas.RGB(0xf3f4f6), canvas.RGB(0xeff6ff)
	at := func(column, row float64) (x, y float64) { return margin + column*(boxW+gap), margin + row*(boxH+drop) }
	state := func(column, row float64, fill canvas.Colour, name, words string) {
		x, y := at(column, row)
		c.Add(canvas.Box{X: x, Y: y, W: boxW, H: boxH, Radius: 6, Fill: fill, Stroke: canvas.RGB(0x9ca3af), Thick: 1})
		c.Add(canvas.Text{X: x + 12, Y: y + 24, Style: head, Words: name})
		lines(t, c, x+12, y+44, boxW-24, 2, words)
	}
	arrow := func(column, row, dx, dy float64, words string) {
		x, y := at(column, row)
		line := canvas.Line{Colour: grey, Thick: 1.5, Arrow: true}
		switch {
		case dx > 0:
			line.Points = []canvas.Point{{X: x + boxW + 4, Y: y + 20}, {X: x + boxW + gap - 4, Y: y + 20}}
			lines(t, c, x+boxW+12, y+40, gap-24, 3, words)
		case dx < 0:
			line.Points = []canvas.Point{{X: x - 4, Y: y + 20}, {X: x - gap + 4, Y: y + 20}}
			lines(t, c, x-gap+12, y+40, gap-24, 3, words)
		case dy > 0:
			line.Points = []canvas.Point{{X: x + 40, Y: y + boxH + 4}, {X: x + 40, Y: y + boxH + drop - 4}}
			lines(t, c, x+52, y+boxH+40, boxW-52, 3, words)
		default:
			line.Points = []canvas.Point{{X: x + 40, Y: y - 4}, {X: x + 40, Y: y - drop + 4}}
			lines(t, c, x+52, y-drop+40, boxW-52, 3, words)
		}
		c.Add(line)
	}
	state(0, 0, api, "free", "No IPAddress, and no claim or node names it.")
	arrow(0, 0, 1, 0, "A pod is bound: the controller makes IPAddresses.")
	state(1, 0, api, "taken", "The claim is Ready.")
	arrow(1, 0, 1, 0, "The agent checks that they are the pod's.")
	state(2, 0, node, "on the node", "pods/UID has it: ADD needs nobody else.")
	arrow(2, 0, 0, 1, "ADD notes the sandbox, looks again, and answers.")
	state(2, 1, pod, "in use", "The pod's namespace has it.")
	arrow(2, 1, -1, 0, "The pod is gone: the agent empties pods/UID.")
	state(1, 1, node, "not handed out any more", "No ADD finds it. A sandbox may still have it.")
	arrow(1, 1, -1, 0, "Nothing has it: namespaces gone, or DEL and it isn't there.")
	state(0, 1, api, "withdrawn", "The claim, or the NodeSpool, says so.")
	arrow(0, 1, 0, -1, "The controller deletes the IPAddresses, and the claim.")
	return c
}

// lines writes words in at most so many lines of a width.
func lines(t *testing.T, c *canvas.Canvas, x, y, width float64, most int, words string) {
	t.Helper()
	wrapped := body.Wrap(words, width)
	if len(wrapped) > most {
		t.Errorf("%q takes %d lines, want %d at most", words, len(wrapped), most)
	}
	for i, line := range wrapped {
		c.Add(canvas.Text{X: x, Y: y + float64(i)*16, Style: body, Words: line})
	}
}
