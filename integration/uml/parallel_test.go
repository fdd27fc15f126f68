// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestParallel adds 20 pods at once: with one VLAN, with a VLAN each, with one bond and
// a VLAN each. All succeed, and each link is made once.
func TestParallel(t *testing.T) {
	for name, conf := range map[string]func(i int) string{
		"one VLAN":       func(int) string { return vlan100 },
		"different ones": func(i int) string { return fmt.Sprintf(`{"interfaces": ["ens192"], "vlanID": %d}`, 100+i%7) },
		"of a bond":      func(i int) string { return strings.Replace(bond200, "200", fmt.Sprint(100+i%5), 1) },
		"one bond":       func(int) string { return bond0 },
	} {
		t.Run(name, func(t *testing.T) {
			n := two(t)
			links := map[string]bool{}
			confs := make([]string, 20)
			for i := range confs {
				confs[i] = conf(i)
				links[confs[i]] = true
			}
			n.atOnce("ADD", func(i int) string { return confs[i] })
			made := strings.Count(n.sh("ip -o link show type vlan"), "\n")
			if name == "one bond" {
				made = strings.Count(n.sh("ip -o link show type bond"), "\n")
			}
			if made != len(links) {
				t.Errorf("%d links, want %d:\n%s", made, len(links), n.sh("ip link"))
			}
			for i, conf := range confs {
				n.fine(call{verb: "CHECK", id: fmt.Sprint("pod", i), conf: conf, more: prev})
			}
		})
	}
}

// TestParallelComeAndGo adds and deletes pods at once: nothing is left, and no link of
// a pod that stays is missing.
func TestParallelComeAndGo(t *testing.T) {
	n := two(t)
	conf := func(int) string { return unused(bond200) }
	before := n.state()
	n.fine(call{verb: "ADD", id: "stays", conf: conf(0)})
	n.atOnce("ADD", conf)
	n.atOnce("DEL", conf)
	n.fine(call{verb: "CHECK", id: "stays", conf: conf(0), more: prev})
	n.fine(call{verb: "DEL", id: "stays", conf: conf(0)})
	n.same("all gone", before)
}

// atOnce runs the verb for 20 pods.
func (n *node) atOnce(verb string, conf func(i int) string) {
	n.t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() {
			out, err := n.start(call{verb: verb, id: fmt.Sprint("pod", i), conf: conf(i)})
			if err == nil && out.err != nil {
				err = out.err
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			n.t.Errorf("%s of pod%d: %v", verb, i, err)
		}
	}
}
