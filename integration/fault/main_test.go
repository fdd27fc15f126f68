// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
