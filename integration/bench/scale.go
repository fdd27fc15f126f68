// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"text/tabwriter"
	"time"
)

// growth describes objects of a node or a pod whose number grows.
type growth struct {
	of    string // name of the objects
	steps []int  // their numbers
	// grow adds objects to a stand, from one number to the next.
	grow func(ctx context.Context, s *stand, from, to int) error
}

// growths lists all growths to measure. Pods are last, because the kernel is busy for a while
// after 500 of them end.
var growths = []growth{
	{"routes in the node's main table", []int{0, 1000, 10000, 50000, 100000}, func(ctx context.Context, s *stand, from, to int) error {
		return s.node.addRoutes(ctx, from, to)
	}},
	{"service addresses on the node", []int{0, 500, 1000, 2500, 5000}, func(ctx context.Context, s *stand, from, to int) error {
		return s.node.addServices(ctx, from, to)
	}},
	{"which NIC of the pod it is", []int{1, 2, 4, 8, 16}, func(_ context.Context, s *stand, from, to int) error {
		return s.addNICs(from, to)
	}},
	{"pods on the node", []int{0, 10, 50, 100, 250, 500}, func(ctx context.Context, s *stand, from, to int) error {
		return s.addPods(ctx, to-from)
	}},
}

// curve holds the measurements of one growth.
type curve struct {
	of     string
	points []point
}

// point holds the measurements at one number of objects, all from the same rounds: ADD, the
// echo plugin, and the kernel's work for a first NIC.
type point struct {
	n                int
	add, echo, floor sample
}

// stand is a node with two pods whose ADD is measured again and again: add by coordinator and
// echo, and bare by floor.
type stand struct {
	*bench
	node      *node
	add, bare call
	pods      []*pod // all pods of the node
}

func (b *bench) newStand(n *node) (*stand, error) {
	s := &stand{bench: b, node: n}
	for _, c := range []*call{&s.add, &s.bare} {
		p, err := n.newPod()
		if err != nil {
			s.close()
			return nil, err
		}
		s.pods = append(s.pods, p)
		*c = call{command: "ADD", pod: p, prev: p.result, link: "floor0"}
	}
	return s, nil
}

func (s *stand) close() {
	for _, p := range s.pods {
		p.Close()
	}
}

// scale measures all growths, prints them as a table and plots them into a file.
func (b *bench) scale(ctx context.Context, rounds int, file string) error {
	var curves []curve
	for _, g := range growths {
		start := time.Now()
		c, err := b.curve(ctx, g, rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", g.of, err)
		}
		curves = append(curves, c)
		fmt.Fprintf(os.Stderr, "%s: %.0f s\n", g.of, time.Since(start).Seconds())
	}
	if err := printCurves(os.Stdout, curves); err != nil {
		return err
	}
	svg, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(plot(svg, curves), svg.Close())
}

// curve measures one growth on a node of its own.
func (b *bench) curve(ctx context.Context, g growth, rounds int) (curve, error) {
	c := curve{of: g.of}
	n, err := newNode(g.of, b.plugins[0])
	if err != nil {
		return c, err
	}
	defer n.Close()
	s, err := b.newStand(n)
	if err != nil {
		return c, err
	}
	defer s.close()
	for i, step := range g.steps {
		if i > 0 {
			if err := g.grow(ctx, s, g.steps[i-1], step); err != nil {
				return c, fmt.Errorf("from %d to %d: %w", g.steps[i-1], step, err)
			}
		}
		p := point{n: step}
		for range rounds {
			if err := p.round(s); err != nil {
				return c, fmt.Errorf("at %d: %w", step, err)
			}
			if err := ctx.Err(); err != nil {
				return c, err
			}
		}
		c.points = append(c.points, p)
	}
	return c, nil
}

// round measures each program of a point once, in a random order, and removes the objects that
// the program added.
func (p *point) round(s *stand) error {
	for _, m := range inAnyOrder(
		measured{s.node.coordinator, s.add, &p.add, []program{s.node.coordinator}},
		measured{s.echo, s.add, &p.echo, nil},
		measured{s.floor, s.bare, &p.floor, []program{s.floor, s.node.coordinator}}, // remove the link, and then the objects in the pod
	) {
		time.Sleep(settle)
		_, took, err := m.program.time(s.node, m.add)
		if err != nil {
			return err
		}
		*m.into = append(*m.into, float64(took)/float64(time.Millisecond))
		m.add.command = "DEL"
		for _, undo := range m.undo {
			if _, _, err := undo.time(s.node, m.add); err != nil {
				return err
			}
		}
	}
	return nil
}

// measured is an ADD to measure.
type measured struct {
	program program
	add     call
	into    *sample   // gets the time
	undo    []program // programs whose DEL removes the objects
}

// addNICs calls ADD for the pod's NICs before number to, and makes the NIC with that number,
// whose ADD is measured next. Each NIC is in a LAN of its own.
func (s *stand) addNICs(from, to int) error {
	for i := from; i < to; i++ {
		if _, _, err := s.node.coordinator.time(s.node, s.add); err != nil {
			return err
		}
		name := fmt.Sprintf("net%d", i)
		result, err := s.add.pod.addNIC(s.node, name, []netip.Prefix{
			netip.MustParsePrefix(fmt.Sprintf("10.%d.0.2/16", 16+i)),
			netip.MustParsePrefix(fmt.Sprintf("fd00:%d::2/64", 16+i)),
		})
		if err != nil {
			return err
		}
		s.add = call{command: "ADD", pod: s.add.pod, nic: name, prev: result}
	}
	return nil
}

// addPods adds pods to the node, with ADD of coordinator.
func (s *stand) addPods(ctx context.Context, n int) error {
	for range n {
		p, err := s.node.newPod()
		if err != nil {
			return err
		}
		s.pods = append(s.pods, p)
		if _, _, err := s.node.coordinator.time(s.node, call{command: "ADD", pod: p, prev: p.result}); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// printCurves writes the curves as a table.
func printCurves(out io.Writer, curves []curve) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "with\tADD\tquartiles\techo\tratio\tthe kernel's work\tratio\t")
	for _, c := range curves {
		for _, p := range c.points {
			echo := p.echo.median()
			fmt.Fprintf(w, "%s: %d\t%.2f ms\t%.2f – %.2f\t%.2f ms\t%.2f × echo\t%.2f ms\t%.2f × echo\n",
				c.of, p.n, p.add.median(), p.add.quantile(0.25), p.add.quantile(0.75),
				echo, p.add.median()/echo, p.floor.median(), p.floor.median()/echo)
		}
	}
	return w.Flush()
}
