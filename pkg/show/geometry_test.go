// SPDX-License-Identifier: Apache-2.0

package show_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/canvas"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/show"
)

// TestPicturesAreLegible wants, of every state and of the largest pod there may be,
// that no text meets another text or a line, that each is inside of whatever box it
// touches and of the picture, and that none is too small.
func TestPicturesAreLegible(t *testing.T) {
	pictures := map[string]*canvas.Canvas{"large": show.Of(large()).Picture(), "bare": show.Of(bare()).Picture()}
	for _, name := range states(t) {
		pictures[name] = show.Of(read(t, name)).Picture()
	}
	for name, c := range pictures {
		for _, problem := range problems(c) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

// TestProblemsAreFound holds the test above to what it is there for.
func TestProblemsAreFound(t *testing.T) {
	text := func(x, y float64) canvas.Text {
		return canvas.Text{X: x, Y: y, Style: canvas.Style{Size: 12}, Words: "some words"}
	}
	for want, items := range map[string][]canvas.Item{
		"overlaps text":   {text(10, 20), text(40, 25)},
		"leaves a box":    {canvas.Box{X: 0, Y: 0, W: 30, H: 40}, text(10, 20)},
		"leaves the page": {text(170, 20)},
		"crosses":         {text(10, 20), canvas.Line{Points: []canvas.Point{{X: 20, Y: 0}, {X: 20, Y: 50}}, Thick: 1}},
		"overlaps box":    {canvas.Box{X: 0, Y: 0, W: 30, H: 40}, canvas.Box{X: 20, Y: 20, W: 30, H: 40}},
		"too small":       {canvas.Text{X: 10, Y: 20, Style: canvas.Style{Size: 9}, Words: "x"}},
		"is nothing":      {canvas.Text{X: 10, Y: 20, Style: canvas.Style{Size: 12}, Words: "…"}},
	} {
		c := &canvas.Canvas{Width: 200, Height: 100, Items: items}
		if got := strings.Join(problems(c), "\n"); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// problems says what can't be read in a picture.
func problems(c *canvas.Canvas) (out []string) {
	found := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	page := canvas.Box{W: c.Width, H: c.Height}
	var texts []canvas.Text
	var boxes []canvas.Box
	for _, i := range c.Items {
		switch i := i.(type) {
		case canvas.Text:
			texts = append(texts, i)
		case canvas.Box:
			if i.Thick > 0 || i.Fill == (canvas.Colour{}) { // others are backgrounds
				boxes = append(boxes, i)
			}
		}
	}
	for i, a := range texts {
		in := a.Bounds()
		if !page.Contains(in) {
			found("%q leaves the page", a.Words)
		}
		if a.Size < 12 {
			found("%q is too small", a.Words)
		}
		if strings.Trim(a.Words, "… ") == "" {
			found("%q is nothing", a.Words)
		}
		for _, b := range texts[:i] {
			if in.Overlaps(b.Bounds()) {
				found("%q overlaps text %q", a.Words, b.Words)
			}
		}
		for _, b := range boxes {
			if in.Overlaps(b) && !b.Contains(in) {
				found("%q leaves a box", a.Words)
			}
		}
	}
	for _, i := range c.Items {
		l, ok := i.(canvas.Line)
		if !ok {
			continue
		}
		for _, s := range l.Segments() {
			for _, a := range texts {
				if s.Overlaps(a.Bounds()) {
					found("a line crosses %q", a.Words)
				}
			}
		}
	}
	for i, a := range boxes {
		for _, b := range boxes[:i] {
			if a.Overlaps(b) && !a.Contains(b) && !b.Contains(a) && !regions(a, b) {
				found("box %v overlaps box %v", a, b)
			}
		}
	}
	return out
}

// regions reports whether two boxes are those that the pod's is made of.
func regions(a, b canvas.Box) bool { return a.Fill == b.Fill && a.Radius == 10 && b.Radius == 10 }

// large is a pod with 16 NICs, all with the longest names and addresses there are.
func large() (inspect.Pod, inspect.State) {
	s := inspect.State{Snapshot: netstate.NewSnapshot(), Parents: map[string]string{}}
	put := func(ns netstate.NS, format string, a ...any) {
		_, o, err := netstate.Parse(string(ns) + ": " + fmt.Sprintf(format, a...))
		if err != nil {
			panic(err)
		}
		s.Put(ns, o)
	}
	pod := inspect.Pod{
		Name: strings.Repeat("a-namespace-of-", 8) + "/" + strings.Repeat("a-pod-of-", 20), Netns: "/run/netns/" + strings.Repeat("cni-", 60),
		ContainerID: strings.Repeat("0123456789abcdef", 4),
	}
	const node = "2001:db8:1111:2222:3333:4444:5555:6666"
	put(netstate.Host, "addr %s/64 dev enp216s0f1np999", node)
	put(netstate.Host, `link enp216s0f1np999 address 02:00:00:00:00:01 mtu 9000 up`)
	put(netstate.Host, `link veth0123456789a address 02:00:00:00:00:02 mtu 9000 up alias "multihome:x" type veth peer name veth0 netns pod`)
	put(netstate.Pod, `link veth0 address 02:00:00:00:00:03 mtu 9000 up type veth peer name veth0123456789a netns host`)
	put(netstate.Host, "-6 rule pref 1000 from all lookup 500 proto multihome")
	put(netstate.Pod, "-6 rule pref 32763 from all fwmark 0x10000000/0x10000000 lookup 4294967295 proto multihome")
	put(netstate.Pod, "-6 rule pref 32766 from all lookup main proto kernel")
	put(netstate.Pod, "-6 route default via %s dev veth0 table 4294967295 proto multihome metric 1024", node)
	for i := range 16 {
		nic := fmt.Sprintf("underlaynic-n%02d", i)
		parent := fmt.Sprintf("enp216s0f1np%d", i%3)
		addr := netip.MustParseAddr(fmt.Sprintf("2001:db8:aaaa:bbbb:cccc:dddd:eeee:ff%02x", i))
		pod.Attachments = append(pod.Attachments, inspect.Attachment{IfName: nic, Network: strings.Repeat("network-", 8)})
		s.Parents[nic] = parent
		put(netstate.Host, "link %s address 02:00:00:00:01:%02x mtu 9000 up", parent, i)
		put(netstate.Host, "addr 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ee%02x/64 dev %s", i, parent)
		put(netstate.Pod, "link %s address 02:00:00:00:02:%02x mtu 9000 up type macvlan mode bridge", nic, i)
		put(netstate.Pod, "addr %s/64 dev %s tentative", addr, nic)
		put(netstate.Pod, "addr 192.168.100.%d/24 dev %s", 100+i, nic)
		put(netstate.Pod, "-6 rule pref 32764 from %s lookup %d proto multihome", addr, 101+i)
		put(netstate.Pod, "-6 route %s via %s dev %s table %d proto multihome src %s metric 1024", node, node, nic, 101+i, addr)
		put(netstate.Pod, "-6 route default via fe80::1 dev %s table %d metric 1024 onlink", nic, 101+i)
		put(netstate.Pod, "-6 route 2001:db8:aaaa:bbbb:cccc:dddd:eeee:fff0/124 dev %s proto kernel metric %d", nic, 256+i)
		put(netstate.Host, "-6 route %s dev veth0123456789a table 500 proto multihome src %s metric 1024", addr, node)
	}
	return pod, s
}

// bare is a pod without any NIC.
func bare() (inspect.Pod, inspect.State) {
	return inspect.Pod{Name: "1", Netns: "/proc/1/ns/net"}, inspect.State{Snapshot: netstate.NewSnapshot()}
}
