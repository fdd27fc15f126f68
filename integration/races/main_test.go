// SPDX-License-Identifier: Apache-2.0

// Package races runs plugins at the same time, for one pod and for many.
package races

import (
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
