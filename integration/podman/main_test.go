// SPDX-License-Identifier: Apache-2.0

// Package podman runs containers by podman, on the networks that docs/install.md prints.
package podman

import (
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
