// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/trace"
)

func TestTraceRefusesWhatItCannotFollow(t *testing.T) {
	for args, want := range map[string]string{
		"trace":                                 `accepts 1 arg(s), received 0`,
		"trace web":                             `required flag(s) "to" not set`,
		"trace web --to 10.6.0":                 `trace: --to "10.6.0": want ADDR or ADDR:PORT, such as 10.6.0.50:80 or [fd00:6::50]:80`,
		"trace web --to 10.6.0.9 --from eth0":   `trace: --from "eth0": want an address of the pod`,
		"trace web --to 10.6.0.9 --mark 1/1":    `trace: --mark "1/1": want a number of 32 bits, such as 0x1`,
		"trace nosuchpod --to 10.6.0.9":         `trace: pod "nosuchpod": no namespace, process or container of this node is called so`,
		"trace /proc/self/ns/net --to 10.6.0.9": `trace: pod /proc/self/ns/net: it is in the node's own network namespace, where plugins do nothing`,
	} {
		if _, err := run(strings.Fields(args)...); err == nil || err.Error() != want {
			t.Errorf("%s: got error %v, want %s", args, err, want)
		}
	}
}

func TestTraceOfAPod(t *testing.T) {
	scenario, err := lab.FindScenario("underlay")
	if err != nil {
		t.Fatal(err)
	}
	s, err := scenario.Up(t.Context(), "../../bin", "../../bin/cni")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Node.Do(func() error {
		out, err := run("trace", s.Web.Path(), "--to", "10.6.168.123", "--probe", "-o", "json")
		if err != nil {
			return err
		}
		var got trace.Trace
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return err
		}
		if !got.Symmetric || got.Request[0].Out != "veth0" || got.Agreed != 5 || got.Probe == nil || !got.Probe.Answered {
			t.Errorf("got %s", out)
		}
		text, err := run("trace", s.Web.Path(), "--to", "192.0.2.10", "--in", "veth0")
		if !strings.Contains(text, "asked by veth0, answered by veth0") || strings.Contains(text, "\x1b") {
			t.Errorf("got %s", text)
		}
		_, probeErr := run("trace", s.Web.Path(), "--to", "192.0.2.10", "--in", "veth0", "--probe")
		if want := "trace: probe: with --in, only the node can send from here, and 192.0.2.10 is not its own"; probeErr == nil || probeErr.Error() != want {
			t.Errorf("got error %v, want %s", probeErr, want)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
