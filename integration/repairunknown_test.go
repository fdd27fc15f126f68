// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

// damages are the ways in which a result that libcni keeps can be damaged. $file is the
// file of the damaged attachment, $other that of another NIC of the pod.
var damages = map[string]string{
	"cut short":              "truncate -s 100 $file",
	"cut by a byte":          "truncate -s -1 $file",
	"empty":                  ": >$file",
	"null":                   "echo null >$file",
	"a list":                 "echo [] >$file",
	"foreign":                `echo '{"hello": "world"}' >$file`,
	"a bare result":          `echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.7.0.9/16"}]}' >$file`,
	"another version's":      `sed -i 's/"result":{.*"cniVersion":"[^"]*"/"result":{"cniVersion":"9.9.9"/; s/"result":{/"result":{"cniVersion":"9.9.9",/' $file; sed -i 's/"cniVersion":"1.[0-9].0"/"cniVersion":"9.9.9"/' $file`,
	"without a result":       `sed -i 's/"result":/"was":/' $file`,
	"a result that is null":  `sed -i 's/"result":.*/"result":null}/' $file`,
	"an empty result":        `sed -i 's/"result":.*/"result":{}}/' $file`,
	"null for an address":    `sed -i 's/"ips":\[/"ips":[null,/' $file`,
	"no configuration":       `sed -i 's/"config":"[^"]*"/"config":""/' $file`,
	"a cut configuration":    `sed -i 's/"config":"\(....\)[^"]*"/"config":"\1"/' $file`,
	"a list without plugins": `sed -i "s/\"config\":\"[^\"]*\"/\"config\":\"$(echo '{"cniVersion":"1.0.0","name":"lan","plugins":7}' | base64 -w0)\"/" $file`,
	"another NIC's":          "cp $other $file",
	"a directory":            "rm $file; mkdir $file",
	"a FIFO":                 "rm $file; mkfifo $file",
	"a dangling link":        "rm $file; ln -s /nowhere $file",
	"not root's":             "chown 1000 $file; chmod 666 $file",
	"huge":                   "truncate -s 2M $file",
	"gone":                   "rm $file",
	"elsewhere":              "mkdir -p /elsewhere/results; mv $file /elsewhere/results/",
}

// fewer are a few damages that cover all the ways in which the owner can be unknown.
var fewer = []string{"cut short", "an empty result", "a directory", "gone", "elsewhere"}

// TestRepairKeepsWhatItCannotTell damages the cached result of one NIC of a pod. Repair
// and doctor --fix remove nothing from the pod, name the damaged file, and repair the
// other pod. One pod goes through all damages, the others through some.
func TestRepairKeepsWhatItCannotTell(t *testing.T) {
	const sbr = `{"type": "route", "sbr": true}`
	for name, make := range map[string]func(t *testing.T) *fixture.Site{
		"underlay": func(t *testing.T) *fixture.Site { return fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained) },
		"macvlan": func(t *testing.T) *fixture.Site {
			return fixture.NewSite(t, fixture.TwoLANs["v6"], with(`"hostLink": "macvlan"`))
		},
		"overlay": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, fixture.ThreeLANs(), fixture.Chained)
			s.Overlay(t, "calico")
			s.Plug(t, 1, "net1")
			s.Plug(t, 2, "net2")
			return s
		},
		"route": func(t *testing.T) *fixture.Site {
			s := fixture.EmptySite(t, fixture.TwoLANs["dual"], fixture.Chained)
			s.Plug(t, 0, "eth0")
			s.Plug(t, 1, "net1", sbr)
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := make(t)
			dir := t.TempDir()
			s.Repair(t, dir)
			s.Healthy(t, dir)
			before := s.State(t)
			for i, n := range s.NICs {
				other := s.NICs[(i+1)%len(s.NICs)]
				file, otherFile := s.CacheFile(n), s.CacheFile(other)
				s.OnNode(t, "cp "+file+" /run/kept")
				for what, damage := range damages {
					if name != "underlay" && !slices.Contains(fewer, what) {
						continue
					}
					s.OnNode(t, fmt.Sprintf("file=%s other=%s\n%s", file, otherFile, damage))
					fixture.Sh(t, s.App.Netns, "ip rule del pref 32763 2>/dev/null || ip -6 rule del pref 32763")
					stdout, stderr, status := s.Multihome(t, "repair", "--conf-dir", dir)
					named := strings.Contains(stderr, file)
					if what == "gone" || what == "elsewhere" {
						// Only the pod's own state shows an attachment of route with
						// sbr.
						named = strings.Contains(stderr, n.Name) || n.Network != nil && name == "route" && n.Name == "net1"
						status = max(status, 1)
					}
					if !named || status != 1 {
						t.Errorf("%s of %s: status %d, want 1 and %s named: %s%s", what, n.Name, status, file, stdout, stderr)
					}
					if stdout == "" || strings.Contains(stdout, s.Web.ContainerID) {
						t.Errorf("%s of %s: repair of the other pod alone says:\n%s", what, n.Name, stdout)
					}
					if slices.Contains(fewer, what) {
						if out, _, _ := s.Multihome(t, "doctor", "--fix", "--conf-dir", dir); !strings.Contains(out, n.Name) && name != "route" {
							t.Errorf("%s of %s: doctor --fix does not say so: %s", what, n.Name, out)
						}
					}
					s.OnNode(t, fmt.Sprintf("rm -rf %[1]s; cp /run/kept %[1]s", file))
					fixture.Same(t, fmt.Sprintf("repair with the result of %s %s", n.Name, what), fixture.NoRun(before).Unnumbered(), fixture.NoRun(s.State(t)).Unnumbered())
					if t.Failed() {
						return
					}
				}
			}
			if name != "route" { // without a default in main, macvlan's CHECK fails
				s.Check(t)
			}
			s.Healthy(t, dir)
		})
	}
}

// TestRepairWithoutOneConfiguration puts an unreadable file into the node's directory
// of configurations. It may be a network's newer configuration, so repair removes
// nothing that only the cached one doesn't want.
func TestRepairWithoutOneConfiguration(t *testing.T) {
	t.Parallel()
	s := fixture.NewSite(t, fixture.TwoLANs["dual"], fixture.Chained)
	other := strings.Replace(fixture.Chained, "10.96.0.0/12", "10.112.0.0/12", 1)
	dir := t.TempDir()
	for _, lan := range s.LANs {
		if err := os.WriteFile(filepath.Join(dir, lan.NIC+".conflist"), []byte(lan.Conflist(other)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.Repair(t, dir)
	s.Healthy(t, dir)
	before := fixture.Sh(t, s.Web.Netns, "ip route show table all 10.112.0.0/12")
	file := filepath.Join(dir, s.LANs[1].NIC+".conflist")
	for _, content := range []string{"", s.LANs[1].Conflist(other)[:200], "null", `{"plugins": 7}`} {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, stderr, status := s.Multihome(t, "repair", "--conf-dir", dir)
		if status != 1 || !strings.Contains(stderr, file) {
			t.Errorf("with %q: status %d: %s", content, status, stderr)
		}
		if got := fixture.Sh(t, s.Web.Netns, "ip route show table all 10.112.0.0/12"); got != before {
			t.Errorf("with %q: routes of the newer configuration are\n%s, want\n%s", content, got, before)
		}
	}
}
