// SPDX-License-Identifier: Apache-2.0

package records_test

import (
	"fmt"

	"github.com/multihome/multihome/pkg/records"
)

// Who has which addresses on this node. Records that can't be read are in the error.
func Example() {
	all, err := records.NodeRoutes.Read("")
	for _, r := range all {
		fmt.Println(r.ContainerID, r.IfName, r.Addresses)
	}
	fmt.Println(err)
}
