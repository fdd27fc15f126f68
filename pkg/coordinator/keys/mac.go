// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/multihome/multihome/pkg/config"
)

// macPrefix accepts the first two bytes of a unicast MAC.
func macPrefix(p *[]byte) config.Value {
	return config.Value{Want: `two bytes that a unicast MAC can begin with, like "0a:1b"`, Set: func(raw json.RawMessage) error {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("not a string")
		}
		if len(s) != 5 || s[2] != ':' && s[2] != '-' {
			return fmt.Errorf("not two bytes")
		}
		b, err := hex.DecodeString(s[:2] + s[3:])
		if err != nil {
			return fmt.Errorf("not two bytes in hexadecimal")
		}
		if b[0]&1 != 0 {
			return fmt.Errorf("a MAC with an odd first byte is a group address")
		}
		*p = b
		return nil
	}}
}
