// SPDX-License-Identifier: Apache-2.0

// Image packs binaries into an OCI image for several platforms, as a tar archive
// in the OCI image layout, with a list of what is in it (CycloneDX) beside it. It
// needs no container engine, and the same binaries make the same image to the
// bit: every time in it is that of $SOURCE_DATE_EPOCH, or 0.
//
//	go run ./hack/image -name localhost/multihome:dev -binaries bin/image -o bin/image/multihome
//
// reads the binaries for each platform from bin/image/<os>-<architecture>, and
// writes bin/image/multihome.tar and bin/image/multihome.cdx.json.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
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
	platforms, err := readPlatforms(binaries)
	if err != nil {
		return "", err
	}
	image, err := pack(name, platforms, created)
	if err != nil {
		return "", err
	}
	list, err := bill(name, image.digest, platforms)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(out+".cdx.json", list, 0o644); err != nil {
		return "", err
	}
	return image.digest, os.WriteFile(out+".tar", image.archive, 0o644)
}

// platform is what the image holds for one.
type platform struct {
	os, arch string
	binaries []binary
}

type binary struct {
	name string
	path string // here
	data []byte
}

// readPlatforms reads a directory for each platform, in the order of their names.
func readPlatforms(dir string) ([]platform, error) {
	found, err := filepath.Glob(filepath.Join(dir, "*-*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(found)
	var platforms []platform
	for _, d := range found {
		var p platform
		p.os, p.arch, _ = strings.Cut(filepath.Base(d), "-")
		entries, err := os.ReadDir(d) // by name
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			b := binary{name: e.Name(), path: filepath.Join(d, e.Name())}
			if b.data, err = os.ReadFile(b.path); err != nil {
				return nil, err
			}
			p.binaries = append(p.binaries, b)
		}
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
