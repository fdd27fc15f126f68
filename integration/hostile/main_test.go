// SPDX-License-Identifier: Apache-2.0

// Package hostile gives plugins what nobody should, and has pods that mean harm.
package hostile

import (
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
