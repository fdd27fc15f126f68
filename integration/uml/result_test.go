// SPDX-License-Identifier: Apache-2.0

//go:build uml

package uml

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestResult checks that prevResult is passed on unchanged, and that without one the
// result is empty, in the version of the configuration; each kind of configuration
// prints a result, each time.
func TestResult(t *testing.T) {
	n := two(t)
	for _, conf := range []string{vlan100, `{"interfaces": ["ens192"]}`} {
		for range 2 {
			n.results(conf)
		}
	}
	n = two(t)
	for _, conf := range []string{bond0, bond200} {
		for range 2 {
			n.results(conf)
		}
	}
}

func (n *node) results(conf string) {
	n.t.Helper()
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		empty := map[string]any{"cniVersion": version}
		if version < "1.0.0" {
			empty["dns"] = map[string]any{}
		}
		n.result(call{verb: "ADD", id: "a", conf: conf, version: version}, empty)
		ip := map[string]any{"address": "10.1.0.2/16", "interface": 0.0}
		if version < "1.0.0" {
			ip["version"] = "4"
		}
		passed := map[string]any{
			"cniVersion": version, "dns": map[string]any{"nameservers": []any{"10.96.0.10"}},
			"interfaces": []any{map[string]any{"name": "x0", "sandbox": "/x"}}, "ips": []any{ip},
			"routes": []any{map[string]any{"dst": "0.0.0.0/0"}},
		}
		given, err := json.Marshal(passed)
		if err != nil {
			n.t.Fatal(err)
		}
		n.result(call{verb: "ADD", id: "a", conf: conf, version: version, more: fmt.Sprintf(`"prevResult": %s`, given)}, passed)
	}
}

func (n *node) result(c call, want map[string]any) {
	n.t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(n.fine(c)), &got); err != nil {
		n.t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		n.t.Errorf("%s, version %s (-want +got):\n%s", c.conf, c.version, d)
	}
}
