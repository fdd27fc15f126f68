// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

const name = "localhost/multihome:dev"

// binaries is a directory with two binaries that `make build` made, twice: for
// what they are good for here, they may be for any platform.
func binaries(t *testing.T, mode fs.FileMode, modified time.Time) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{"linux-arm64", "linux-amd64"} {
		if err := os.Mkdir(filepath.Join(dir, p), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, b := range []string{"multihome", "coordinator"} {
			data, err := os.ReadFile(filepath.Join("../../../bin", b))
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, p, b)
			if err := errors.Join(os.WriteFile(path, data, mode), os.Chtimes(path, modified, modified)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// built is what build wrote.
type built struct {
	digest        string
	archive, sbom []byte
}

func buildFrom(t *testing.T, dir string) built {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	digest, err := build(name, dir, out)
	if err != nil {
		t.Fatal(err)
	}
	b := built{digest: digest}
	for file, data := range map[string]*[]byte{".tar": &b.archive, ".cdx.json": &b.sbom} {
		if *data, err = os.ReadFile(out + file); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// The same binaries make the same image, whatever else is different.
func TestSameAgain(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := binaries(t, 0o755, time.Unix(1e9, 0))
	first := buildFrom(t, dir)
	second := buildFrom(t, binaries(t, 0o600, time.Now()))
	if first.digest != second.digest || !bytes.Equal(first.archive, second.archive) || !bytes.Equal(first.sbom, second.sbom) {
		t.Errorf("another image of the same: %s, %s", first.digest, second.digest)
	}

	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	dated := buildFrom(t, dir)
	if dated.digest == first.digest || !bytes.Contains(dated.archive, []byte(`"created":"2001-09-09T01:46:40Z"`)) {
		t.Errorf("SOURCE_DATE_EPOCH is not in the image: %s", dated.digest)
	}
}

// entries are the files of a tar, and what they hold; the headers have all that
// must not depend on this machine.
func entries(t *testing.T, archive []byte) (names []string, files map[string][]byte) {
	t.Helper()
	files = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return names, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(time.Unix(0, 0)) {
			t.Errorf("%+v: want root's, of 1970", h)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		names = append(names, h.FileInfo().Mode().String()+" "+h.Name)
	}
}

// blob returns what a descriptor is of, decoded into v if there is one.
func blob(t *testing.T, files map[string][]byte, d v1.Descriptor, v any) []byte {
	t.Helper()
	data := files["blobs/"+strings.Replace(d.Digest.String(), ":", "/", 1)]
	if digestOf(data) != d.Digest.String() || int64(len(data)) != d.Size {
		t.Fatalf("%+v: there are %d bytes with %s", d, len(data), digestOf(data))
	}
	if v != nil {
		if err := json.Unmarshal(data, v); err != nil {
			t.Fatal(err)
		}
	}
	return data
}

// From its index down to the binaries, the image is what the specification says.
func TestLayout(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "")
	dir := binaries(t, 0o755, time.Now())
	image := buildFrom(t, dir)
	if !bytes.HasSuffix(image.archive, make([]byte, 1024)) || len(image.archive)%512 != 0 {
		t.Error("the archive has no end, which Go's reader does without, and tar does not")
	}
	_, files := entries(t, image.archive)
	if got, want := strings.Join(strings.Fields(string(files["oci-layout"])), ""), `{"imageLayoutVersion":"1.0.0"}`; got != want {
		t.Errorf("oci-layout is %s, want %s", got, want)
	}
	var top, all v1.IndexManifest
	if err := json.Unmarshal(files["index.json"], &top); err != nil || len(top.Manifests) != 1 {
		t.Fatalf("%v: %s", err, files["index.json"])
	}
	if top.Manifests[0].Digest.String() != image.digest || top.Manifests[0].Annotations["io.containerd.image.name"] != name ||
		top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "dev" {
		t.Errorf("index.json: %+v", top)
	}
	blob(t, files, top.Manifests[0], &all)
	var platforms []string
	for _, d := range all.Manifests {
		platforms = append(platforms, d.Platform.OS+"-"+d.Platform.Architecture)
		var m v1.Manifest
		blob(t, files, d, &m)
		var c v1.ConfigFile
		blob(t, files, m.Config, &c)
		if c.OS != d.Platform.OS || c.Architecture != d.Platform.Architecture || c.Config.User != nobody || c.Config.Entrypoint[0] != "/opt/multihome/bin/multihome" {
			t.Errorf("configuration: %+v", c)
		}
		z, err := gzip.NewReader(bytes.NewReader(blob(t, files, m.Layers[0], nil)))
		if err != nil {
			t.Fatal(err)
		}
		layer, err := io.ReadAll(z)
		if err != nil || digestOf(layer) != c.RootFS.DiffIDs[0].String() {
			t.Fatalf("%v: the layer is %s, want %v", err, digestOf(layer), c.RootFS.DiffIDs)
		}
		names, held := entries(t, layer)
		want := []string{"drwxr-xr-x opt/", "drwxr-xr-x opt/multihome/", "drwxr-xr-x opt/multihome/bin/",
			"-rwxr-xr-x opt/multihome/bin/coordinator", "-rwxr-xr-x opt/multihome/bin/multihome"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("layer (-want +got):\n%s", diff)
		}
		for _, b := range []string{"coordinator", "multihome"} {
			data, err := os.ReadFile(filepath.Join(dir, "linux-"+d.Platform.Architecture, b))
			if err != nil || !bytes.Equal(data, held["opt/multihome/bin/"+b]) {
				t.Errorf("%s is another in the image (%v)", b, err)
			}
		}
	}
	if diff := cmp.Diff([]string{"linux-amd64", "linux-arm64"}, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// The bill names each binary by its hash, and what it is made of, and nothing of
// this machine.
func TestBill(t *testing.T) {
	dir := binaries(t, 0o755, time.Now())
	image := buildFrom(t, dir)
	var list cdx.BOM
	if err := json.Unmarshal(image.sbom, &list); err != nil {
		t.Fatal(err)
	}
	if c := list.Metadata.Component; c.BOMRef != image.digest || c.Name != "localhost/multihome" || c.Version != "dev" {
		t.Errorf("it is of %+v", c)
	}
	known := map[string]cdx.Component{}
	for _, c := range append(*list.Components, *list.Metadata.Component) {
		known[c.BOMRef] = c
	}
	made := map[string][]string{}
	for _, d := range *list.Dependencies {
		if d.Dependencies == nil {
			t.Fatalf("%s is made of nothing", d.Ref)
		}
		for _, ref := range append(*d.Dependencies, d.Ref) {
			if _, ok := known[ref]; !ok {
				t.Errorf("%s is no component", ref)
			}
		}
		made[d.Ref] = *d.Dependencies
	}
	data, err := os.ReadFile(filepath.Join(dir, "linux-amd64/coordinator"))
	if err != nil {
		t.Fatal(err)
	}
	coordinator := known["linux/amd64/coordinator"]
	if coordinator.Hashes == nil || "sha256:"+(*coordinator.Hashes)[0].Value != digestOf(data) {
		t.Errorf("%+v, want the hash %s", coordinator, digestOf(data))
	}
	has := func(binary, module string) bool {
		return slices.ContainsFunc(made[binary], func(ref string) bool { return strings.HasPrefix(ref, "pkg:golang/"+module+"@") })
	}
	for module, want := range map[string]bool{"stdlib": true, "github.com/vishvananda/netlink": true, "github.com/spf13/cobra": false} {
		if has("linux/amd64/coordinator", module) != want {
			t.Errorf("coordinator is made of %v", made["linux/amd64/coordinator"])
		}
	}
	if !has("linux/arm64/multihome", "github.com/spf13/cobra") {
		t.Errorf("multihome is made of %v", made["linux/arm64/multihome"])
	}
	if bytes.Contains(image.sbom, []byte(dir)) || bytes.Contains(image.sbom, []byte("(devel)")) {
		t.Errorf("it names this machine:\n%s", image.sbom)
	}
}

func TestRefused(t *testing.T) {
	empty, notGo := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Mkdir(filepath.Join(notGo, "linux-amd64"), 0o755),
		os.WriteFile(filepath.Join(notGo, "linux-amd64/x"), []byte("#!/bin/sh\n"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for want, try := range map[string]struct{ name, dir, date string }{
		`name "localhost:5000/multihome": want NAME:TAG`:               {"localhost:5000/multihome", notGo, ""},
		empty + " has no directory <os>-<architecture>":                {name, empty, ""},
		`SOURCE_DATE_EPOCH "today": want seconds since 1970`:           {name, notGo, "today"},
		"could not read Go build info from " + notGo + "/linux-amd64/": {name, notGo, ""},
	} {
		t.Setenv("SOURCE_DATE_EPOCH", try.date)
		if _, err := build(try.name, try.dir, filepath.Join(t.TempDir(), "out")); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
