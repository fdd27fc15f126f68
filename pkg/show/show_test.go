// SPDX-License-Identifier: Apache-2.0

package show_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"html"
	"io"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/multihome/multihome/pkg/canvas"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/show"
	"github.com/multihome/multihome/pkg/spool"
)

var update = flag.Bool("update", false, "rewrite the goldens")

// states are the names of what is in testdata.
func states(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no states: %v", err)
	}
	for _, f := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".txtar"))
	}
	return names
}

func TestOutputs(t *testing.T) {
	for _, name := range states(t) {
		v := show.Of(read(t, name))
		for format, suffix := range map[string]string{"text": ".txt", "json": ".json"} {
			var b bytes.Buffer
			if err := report.Write(&b, format, v); err != nil {
				t.Fatal(err)
			}
			golden(t, "testdata/"+name+suffix, b.String())
		}
	}
}

// TestSources wants of each address of a pool said where it comes from: with and without a
// network, and of no other address.
func TestSources(t *testing.T) {
	pod, state := read(t, "underlay")
	pod.Sandboxes = []spool.Sandbox{
		{Namespace: "default", Pod: "web", Interface: "eth0", Addresses: []spool.Address{
			{Address: netip.MustParsePrefix("10.6.168.171/16"), Pool: "lan", Space: "vlan100"},
			{Address: netip.MustParsePrefix("fd00:6::171/64"), Pool: "lan6"},
		}},
		{Namespace: "default", Pod: "web", Interface: "net1", Addresses: []spool.Address{{Address: netip.MustParsePrefix("10.6.168.171/16"), Pool: "pool-of-net1"}}},
	}
	v := show.Of(pod, state)
	for format, suffix := range map[string]string{"text": ".txt", "json": ".json", "yaml": ".yaml"} {
		var b bytes.Buffer
		if err := report.Write(&b, format, v); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "pool-of-net1") {
			t.Errorf("%s: another NIC's source", format)
		}
		golden(t, "testdata/sources"+suffix, b.String())
	}
}

// TestTextIsReadable wants lines that a terminal can show.
func TestTextIsReadable(t *testing.T) {
	for _, name := range states(t) {
		var b bytes.Buffer
		if err := report.Write(&b, "text", show.Of(read(t, name))); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSpace(line)); n > 100 {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
}

// TestPictures holds the pictures to goldens; the documentation shows those that are
// SVG.
func TestPictures(t *testing.T) {
	for _, name := range states(t) {
		v := show.Of(read(t, name))
		var svg, dot bytes.Buffer
		if err := errors.Join(v.Picture().WriteSVG(&svg), v.WriteDot(&dot)); err != nil {
			t.Fatal(err)
		}
		golden(t, "../../docs/images/"+name+".svg", svg.String())
		golden(t, "testdata/"+name+".dot", dot.String())
	}
}

// TestSVGIsXML wants well-formed pictures with all that the text says of addresses.
func TestSVGIsXML(t *testing.T) {
	for _, name := range states(t) {
		v := show.Of(read(t, name))
		var svg bytes.Buffer
		if err := v.Picture().WriteSVG(&svg); err != nil {
			t.Fatal(err)
		}
		words := ""
		d := xml.NewDecoder(&svg)
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if text, ok := token.(xml.CharData); ok {
				words += string(text)
			}
		}
		for _, n := range slices.Concat(v.Pod.NICs, v.Node.NICs) {
			for _, a := range n.Addresses {
				if !strings.Contains(words, n.Name) || !strings.Contains(words, a.Prefix.String()) {
					t.Errorf("%s: no %s with %s", name, n.Name, a.Prefix)
				}
			}
		}
	}
}

// TestDot wants graphs that graphviz draws.
func TestDot(t *testing.T) {
	views := []show.View{show.Of(large()), show.Of(bare())}
	for _, name := range states(t) {
		views = append(views, show.Of(read(t, name)))
	}
	for _, v := range views {
		c := exec.Command("dot", "-Tsvg")
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(v.WriteDot(in), in.Close(), c.Wait()); err != nil {
			t.Errorf("%s: %v: %s", v.Name, err, out.String())
		}
		drawn := html.UnescapeString(out.String())
		for _, n := range v.Pod.NICs {
			if !strings.Contains(drawn, n.Name) {
				t.Errorf("%s: no %s", v.Name, n.Name)
			}
		}
	}
}

// TestMarksThatAreNotAsTheyShouldBe wants that said where the rule is that needs them.
func TestMarksThatAreNotAsTheyShouldBe(t *testing.T) {
	for want, mark := range map[string]*netstate.Mark{
		"but nothing marks them":                nil,
		"isn't as it should be: chain output":   {Damage: "chain output"},
		"netfilter, table inet multihome, sets": {Dev: "veth0", Bits: 1 << 28},
	} {
		pod, state := read(t, "underlay")
		without := netstate.NewSnapshot()
		for _, line := range state.Lines() {
			if ns, o, err := netstate.Parse(line); err == nil && o.Kind() != netstate.KindNft {
				without.Put(ns, o)
			}
		}
		if state.Snapshot = without; mark != nil {
			state.Put(netstate.Pod, *mark)
		}
		v := show.Of(pod, state)
		var text string
		for _, i := range v.Picture().Items {
			if t, ok := i.(canvas.Text); ok {
				text += t.Words + " "
			}
		}
		if !strings.Contains(text, want) {
			t.Errorf("no %q in the picture: %s", want, text)
		}
		var b bytes.Buffer
		if err := report.Write(&b, "text", v); err != nil {
			t.Fatal(err)
		}
		if want = strings.Replace(want, "netfilter, table inet multihome, sets", "table inet multihome  replies", 1); !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}
