// SPDX-License-Identifier: Apache-2.0

package catalog_test

import (
	"fmt"
	"maps"
	"slices"

	"github.com/multihome/multihome/pkg/catalog"
)

func Example() {
	fmt.Println(slices.Sorted(maps.Keys(catalog.Plugins)))
	// Output: [coordinator ifacer route veth]
}
