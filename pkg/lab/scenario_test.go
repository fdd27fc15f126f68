// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"slices"
	"testing"
)

// TestScenarios brings up what this kernel can; the user-mode Linux one can all.
func TestScenarios(t *testing.T) {
	for _, scenario := range Scenarios() {
		t.Run(scenario.Name, func(t *testing.T) {
			s, err := scenario.Up(t.Context(), cniPath...)
			if missing := scenario.Possible(); missing != nil {
				if s != nil || err == nil || err.Error() != missing.Error() {
					t.Errorf("Up: %v, want %v", err, missing)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, network := range []string{"tcp", "udp"} {
				for some := range slices.Chunk(s.Checks(network), 20) { // each watches two namespaces
					for _, r := range RunAll(some) {
						if r.Err != nil {
							t.Errorf("%s, %s: %v; %s", r.Name, network, r.Err, r.Evidence)
						}
					}
				}
			}
			for _, pod := range s.Pods() {
				for _, a := range s.Attachments {
					if err := a.Network.Check(t.Context(), pod, a.IfName); err != nil {
						t.Error(err)
					}
				}
			}
			if err := s.Del(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestScenarioThatTheKernelCannotDo(t *testing.T) {
	s := Scenarios()[0]
	s.Links = append(slices.Clone(s.Links), "multihome")
	const want = "scenario underlay needs drivers that this kernel lacks: multihome"
	if _, err := s.Up(t.Context(), cniPath...); err == nil || err.Error() != want {
		t.Errorf("Up: %v, want %s", err, want)
	}
}
