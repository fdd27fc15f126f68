// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"testing"
)

// FuzzLogOptions reads any value of logOptions: what is no object of them is refused.
func FuzzLogOptions(f *testing.F) {
	f.Add(`{"logFile": "/x", "logLevel": "debug", "logMaxSize": 1, "log_max_count": 0}`)
	f.Add(`["/x"]`)
	f.Fuzz(func(t *testing.T, value string) {
		file, _, err := logOptions("logOptions", json.RawMessage(value))
		if err != nil && file != nil {
			t.Errorf("%s: a log beside the error %v", value, err)
		}
	})
}
