// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"maps"
	"slices"
	"strings"
)

// Matches reports whether a selector selects an object with these labels, as a LabelSelector
// of Kubernetes does (k8s.io/apimachinery, LabelSelectorAsSelector and Requirement.Matches):
// none selects nothing, an empty one everything, and all of its requirements must be met. The
// error says what is wrong with the selector.
func Matches(s *Selector, labels map[string]string) (bool, error) {
	if s == nil {
		return false, nil
	}
	k := &checker{}
	k.selector("", s)
	if len(k.faults) > 0 {
		return false, errors.New(strings.TrimPrefix(k.faults[0].String(), "."))
	}
	return s.unmet(labels) == "", nil
}

// unmet returns the first requirement that labels don't meet, in words, "" if there is none.
func (s *Selector) unmet(labels map[string]string) string {
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		if value, ok := labels[key]; !ok || value != s.MatchLabels[key] {
			return key + "=" + s.MatchLabels[key]
		}
	}
	for _, r := range s.MatchExpressions {
		value, has := labels[r.Key]
		met, text := false, r.Key+" "+r.Operator
		switch r.Operator {
		case "In":
			met = has && slices.Contains(r.Values, value)
		case "NotIn":
			met = !has || !slices.Contains(r.Values, value)
		case "Exists":
			met = has
		case "DoesNotExist":
			met = !has
		}
		if len(r.Values) > 0 {
			text += " (" + few(r.Values) + ")"
		}
		if !met {
			return text
		}
	}
	return ""
}
