// SPDX-License-Identifier: Apache-2.0

// Package conditions sets and compares the conditions in the status of objects.
package conditions

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// most is how long a message can be, in bytes (metav1.Condition has 32768; a reader has
// enough of less).
const most = 4096

// Set sets a condition. A message that is too long is cut. A condition that stays true or
// false keeps its time.
func Set(list *[]metav1.Condition, c metav1.Condition) {
	if len(c.Message) > most {
		c.Message = strings.ToValidUTF8(c.Message[:most], "") + "..."
	}
	meta.SetStatusCondition(list, c)
}

// Same reports whether two lists say the same, whenever that was.
func Same(a, b []metav1.Condition) bool {
	return slices.EqualFunc(a, b, func(x, y metav1.Condition) bool {
		return x.Type == y.Type && x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message && x.ObservedGeneration == y.ObservedGeneration
	})
}
