// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"encoding/json"
	"fmt"

	"github.com/multihome/multihome/pkg/config"
)

func Example() {
	mode, mtu := "auto", 0
	keys := []config.Key{
		{Name: "mode", Value: config.OneOf(&mode, "auto", "manual")},
		{Name: "mtu", Value: config.Int(&mtu, 68, 65535)},
	}
	for _, text := range []string{`{"mode": "manual", "mtu": 1400}`, `{"mtu": 1}`, `{"mdoe": "auto"}`} {
		var raw map[string]json.RawMessage
		if err := json.Unmarshal([]byte(text), &raw); err != nil {
			fmt.Println(err)
		}
		if err := config.Decode(raw, keys); err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(mode, mtu)
	}
	// Output:
	// manual 1400
	// mtu: 1: want a number from 68 to 65535
	// unknown key "mdoe": the nearest known one is "mode"
}
