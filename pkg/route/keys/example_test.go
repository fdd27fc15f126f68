// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"encoding/json"
	"fmt"

	"github.com/multihome/multihome/pkg/route/keys"
)

func Example() {
	c, err := keys.Load(map[string]json.RawMessage{"sbr": json.RawMessage(`true`)})
	fmt.Println(c.SBR, err)
	_, err = keys.Load(map[string]json.RawMessage{"master": json.RawMessage(`"ens192"`)})
	fmt.Println(err)
	// Output:
	// true <nil>
	// bridge: missing: want the name of the node's macvlan on master ens192
}
