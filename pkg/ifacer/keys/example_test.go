// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"encoding/json"
	"fmt"

	"github.com/multihome/multihome/pkg/ifacer/keys"
)

func Example() {
	raw := map[string]json.RawMessage{"interfaces": json.RawMessage(`["ens192"]`), "vlanID": json.RawMessage(`100`)}
	c, err := keys.Load(raw)
	fmt.Println(c.Links(), err)
	raw["vlanID"] = json.RawMessage(`4095`)
	_, err = keys.Load(raw)
	fmt.Println(err)
	// Output:
	// [ens192.100] <nil>
	// vlanID: 4095: want a number from 0 to 4094
}
