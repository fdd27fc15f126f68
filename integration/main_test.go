// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
