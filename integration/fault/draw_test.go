// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"slices"
	"testing"
)

// TestDraw: a seed draws the same again; every strike is drawn once, one where a defect was
// first, and each kind has its share from the beginning.
func TestDraw(t *testing.T) {
	calls := map[string][]string{}
	for i, verb := range verbs {
		for n := range 20 + 10*i {
			calls[verb] = append(calls[verb], fmt.Sprintf("%d sendto message of type 24: ", n+1))
		}
	}
	calls["DEL"][7] = "8 sendto message of type 33: "
	calls["GC"][3] = "4 openat /proc/self/fd/3: "
	calls["GC"][4] = "5 openat /proc/self/fd/4: "
	all, again, other := draw(calls, 5), draw(calls, 5), draw(calls, 6)
	if !slices.Equal(all, again) || slices.Equal(all, other) {
		t.Error("a seed doesn't decide what is drawn")
	}

	const spots = 2 // of GC, and of DEL
	if d := all[0]; kinds[d.kind].verb != "GC" || d.call != 4 && d.call != 5 {
		t.Errorf("%v comes first, want a call of GC that opens the namespace", d)
	}
	if d := all[1]; kinds[d.kind].verb != "DEL" || d.call != 8 {
		t.Errorf("%v comes second, want the eighth call of DEL", d)
	}
	seen := map[int]bool{}
	for _, d := range all[spots : spots+len(kinds)] {
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
