// SPDX-License-Identifier: Apache-2.0

package route

import (
	"testing"

	"github.com/multihome/multihome/pkg/plantest"
)

var suite = plantest.Suite{Names: []plantest.Name{{Name: "route", Load: Load}}, Remove: remove}

func TestPlans(t *testing.T) { suite.Plans(t) }

// TestDocs holds the page to the goldens and the keys.
func TestDocs(t *testing.T) {
	const page = "../../docs/route.md"
	suite.Page(t, page)
	plantest.Keys(t, page, "keys/config.go")
}
