// SPDX-License-Identifier: Apache-2.0

package iptables

import "fmt"

// Error returns the program, its status and its output on stderr.
func (e *Failure) Error() string {
	if e.text == "" {
		return fmt.Sprintf("%s: %v", e.program, e.err)
	}
	return fmt.Sprintf("%s: %v: %s", e.program, e.err, e.text)
}
