// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"os/exec"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// Another implementation reads the image of `make image`.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("tar", "-xf", "../../bin/image/multihome.tar", "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
}
