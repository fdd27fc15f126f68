// SPDX-License-Identifier: Apache-2.0

package identities

import (
	"fmt"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// Annotations of a SpiderIPPool, or of the SpiderSubnet that has it: what becomes of the
// addresses of identities that are over.
const (
	WhenScaled  = "multihome.io/when-scaled"  // the StatefulSet was scaled away from the ordinal
	WhenDeleted = "multihome.io/when-deleted" // the StatefulSet or virtual machine was deleted
)

// Values of the annotations.
const (
	Delete = "Delete" // they are free; the default
	Retain = "Retain" // they stay reserved for who has the same name
)

// Policy says what stays reserved.
type Policy struct{ RetainScaled, RetainDeleted bool }

// PolicyOf returns the policy of a pool: its own annotations, then those of the subnet that has
// it. Either may be nil. A value that isn't known retains: an address that a typing error freed
// would not come back.
func PolicyOf(pool *v2beta1.SpiderIPPool, subnet *v2beta1.SpiderSubnet) Policy {
	retain := func(name string) bool {
		if pool != nil && pool.Annotations[name] != "" {
			return pool.Annotations[name] != Delete
		}
		return subnet != nil && subnet.Annotations[name] != "" && subnet.Annotations[name] != Delete
	}
	return Policy{retain(WhenScaled), retain(WhenDeleted)}
}

// Faults says which of the annotations have values that aren't known.
func Faults(annotations map[string]string) []string {
	var out []string
	for _, name := range []string{WhenScaled, WhenDeleted} {
		if v := annotations[name]; v != "" && v != Delete && v != Retain {
			out = append(out, fmt.Sprintf("annotation %s: %q: want %s or %s; until it is one of them, addresses are retained", name, v, Delete, Retain))
		}
	}
	return out
}
