// SPDX-License-Identifier: Apache-2.0

// Command image packs binaries into an image for several platforms, as a tar archive
// in the OCI image layout, with a list of what is in it (CycloneDX) beside it. It
// needs no container engine, and the same binaries make the same image to the
// bit: every time in it is that of $SOURCE_DATE_EPOCH, or 0.
//
//	go run ./image -name localhost/multihome:dev -binaries bin/image -o bin/image/multihome
//
// reads the binaries for each platform from bin/image/<os>-<architecture>, and
// writes bin/image/multihome.tar and bin/image/multihome.cdx.json.
package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// directory is where the binaries are in the image, and nobody the user that it
// runs as unless told otherwise: what it does by itself needs no rights.
const (
	directory = "opt/multihome/bin"
	nobody    = "65532:65532"
)

func main() {
	name := flag.String("name", "", "of the image, with a tag")
	binaries := flag.String("binaries", "", "`directory` that holds one for each platform, linux-amd64 and so on")
	out := flag.String("o", "", "where to write, without .tar or .cdx.json")
	flag.Parse()
	digest, err := build(*name, *binaries, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Printf("%s.tar: %s@%s\n", *out, *name, digest)
}

// build writes the archive and the list of what is in it, and returns the digest
// by which a registry would know the image.
func build(name, binaries, out string) (string, error) {
	if _, tag, ok := strings.Cut(filepath.Base(name), ":"); !ok || tag == "" {
		return "", fmt.Errorf("name %q: want NAME:TAG", name)
	}
	created, err := sourceDate()
	if err != nil {
		return "", err
	}
	platforms, err := findPlatforms(binaries)
	if err != nil {
		return "", err
	}
	var index v1.ImageIndex = empty.Index
	for _, p := range platforms {
		image, err := p.image(created)
		if err != nil {
			return "", err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}},
		})
	}
	digest, err := index.Digest()
	if err != nil {
		return "", err
	}
	return digest.String(), errors.Join(writeBill(out+".cdx.json", name, digest.String(), platforms), writeArchive(out+".tar", name, index, created))
}

// platform is what the image holds for one.
type platform struct {
	os, arch string
	binaries []string // their paths here, in the order of their names
}

// findPlatforms finds a directory for each platform, in the order of their names.
func findPlatforms(dir string) ([]platform, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*-*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	var platforms []platform
	for _, d := range found {
		var p platform
		p.os, p.arch, _ = strings.Cut(filepath.Base(d), "-")
		if p.binaries, err = filepath.Glob(filepath.Join(d, "*")); err != nil {
			return nil, err
		}
		slices.Sort(p.binaries)
		platforms = append(platforms, p)
	}
	if len(platforms) == 0 {
		return nil, errors.New(dir + " has no directory <os>-<architecture>")
	}
	return platforms, nil
}

// sourceDate is the time that everything in the image has
// (reproducible-builds.org/docs/source-date-epoch).
func sourceDate() (time.Time, error) {
	text := os.Getenv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// image is that of one platform: a single layer, and how to run it.
func (p platform) image(created time.Time) (v1.Image, error) {
	files, err := p.layer(created)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files)), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created, config.History = p.os, p.arch, v1.Time{Time: created}, nil
	config.Config = v1.Config{User: nobody, Entrypoint: []string{"/" + directory + "/multihome"}}
	return mutate.ConfigFile(image, config)
}

// layer is a tar of the binaries and the directories that lead to them.
func (p platform) layer(created time.Time) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	at := ""
	for _, name := range strings.Split(directory, "/") {
		at += name + "/"
		if err := t.WriteHeader(header(at, 0o755, 0, created)); err != nil {
			return nil, err
		}
	}
	for _, path := range p.binaries {
		if err := addFile(t, path, at+filepath.Base(path), 0o755, created); err != nil {
			return nil, err
		}
	}
	err := t.Close()
	return b.Bytes(), err
}

// writeArchive writes the layout of an index as a tar.
func writeArchive(file, name string, index v1.ImageIndex, created time.Time) (err error) {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	// The tag by the specification, and the whole name as containerd reads it.
	if err := path.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": name[strings.LastIndexByte(name, ':')+1:],
		"io.containerd.image.name":          name,
	})); err != nil {
		return err
	}
	archive, err := os.Create(file)
	if err != nil {
		return err
	}
	t := tar.NewWriter(archive)
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error { // in the order of names
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return addFile(t, path, name, 0o644, created)
	})
	return errors.Join(err, t.Close(), archive.Close())
}

func addFile(t *tar.Writer, path, name string, mode int64, created time.Time) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := t.WriteHeader(header(name, mode, int64(len(data)), created)); err != nil {
		return err
	}
	_, err = t.Write(data)
	return err
}

// header is that of a file, or of a directory if the name ends with '/': root's,
// and of one time.
func header(name string, mode, size int64, created time.Time) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: size, ModTime: created, Format: tar.FormatUSTAR}
	if strings.HasSuffix(name, "/") {
		h.Typeflag = tar.TypeDir
	}
	return h
}
