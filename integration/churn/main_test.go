// SPDX-License-Identifier: Apache-2.0

// Package churn lets pods come and go on a node, for as long as -churn says.
package churn

import (
	"os"
	"testing"

	"github.com/multihome/multihome/integration/fixture"
)

func TestMain(m *testing.M) { os.Exit(fixture.Main(m)) }
