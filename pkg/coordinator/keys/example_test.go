// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"encoding/json"
	"fmt"

	"github.com/multihome/multihome/pkg/coordinator/keys"
)

func Example() {
	raw := map[string]json.RawMessage{"serviceCIDR": json.RawMessage(`["10.96.0.0/12"]`)}
	c, err := keys.Load(raw)
	fmt.Println(c.Mode, c.ServiceCIDR, err)
	raw["mode"] = json.RawMessage(`"magic"`)
	_, err = keys.Load(raw)
	fmt.Println(err)
	// Output:
	// auto [10.96.0.0/12] <nil>
	// mode: "magic": want one of auto, underlay, overlay, disabled, disable
}
