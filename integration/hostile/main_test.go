// SPDX-License-Identifier: Apache-2.0

// Package hostile gives plugins bad input, and lets pods attack.
package hostile

import (
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
