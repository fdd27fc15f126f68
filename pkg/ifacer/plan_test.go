// SPDX-License-Identifier: Apache-2.0

package ifacer

import (
	"testing"

	"github.com/multihome/multihome/pkg/plantest"
)

func TestPlans(t *testing.T) {
	plantest.Suite{Names: []plantest.Name{{Name: "ifacer", Load: Load}}}.Plans(t)
}

func TestDocs(t *testing.T) { plantest.Keys(t, "../../docs/ifacer.md", "config.go") }
