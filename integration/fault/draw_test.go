// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"testing"
)

// TestDraw: a seed draws the same again; every strike is drawn once, what was a
// defect first, and each kind has its share from the beginning.
func TestDraw(t *testing.T) {
	calls := map[string][]string{}
	for i, verb := range verbs {
		for n := range 20 + 10*i {
			calls[verb] = append(calls[verb], fmt.Sprintf("%d sendto message of type 24: ", n+1))
		}
	}
	calls["DEL"][7] = "8 sendto message of type 33: "
	all, atLeast := draw(calls, 5)
	again, _ := draw(calls, 5)
	other, _ := draw(calls, 6)
	if !slices.Equal(all, again) || slices.Equal(all, other) {
		t.Error("a seed doesn't decide what is drawn")
	}

	const spots = 3 // DEL fails, and is killed before DEL and before GC
	if want := spots + len(kinds); atLeast != want {
		t.Errorf("at least %d strikes, want %d", atLeast, want)
	}
	for _, d := range all[:spots] {
		if kinds[d.kind].verb != "DEL" || d.call != 8 {
			t.Errorf("%v comes before the spots", d)
		}
	}
	seen := map[int]bool{}
	for _, d := range all[spots:atLeast] {
		seen[d.kind] = true
	}
	if len(seen) != len(kinds) {
		t.Errorf("%d kinds in the first round, want %d", len(seen), len(kinds))
	}
	total := 0
	for _, k := range kinds {
		total += len(calls[k.verb])
	}
	unique := map[drawn]bool{}
	for _, d := range all {
		unique[d] = true
	}
	if len(all) != total || len(unique) != total {
		t.Errorf("%d strikes, of them %d different ones, want %d", len(all), len(unique), total)
	}
}
