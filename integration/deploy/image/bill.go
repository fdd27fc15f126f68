// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// writeBill lists the binaries of an image, and the modules that each is made of as
// the Go linker noted them in it.
func writeBill(file, name, digest string, platforms []platform) error {
	colon := strings.LastIndexByte(name, ':')
	list := cdx.NewBOM()
	list.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: digest, Type: cdx.ComponentTypeContainer, Name: name[:colon], Version: name[colon+1:], Hashes: hashed(digest),
	}}
	var components []cdx.Component
	var whole []string
	var made []cdx.Dependency
	modules := map[string]cdx.Component{}
	for _, p := range platforms {
		for _, path := range p.binaries {
			info, err := buildinfo.ReadFile(path)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			ref := p.os + "/" + p.arch + "/" + filepath.Base(path)
			components = append(components, cdx.Component{
				BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: filepath.Base(path), Hashes: hashed(fmt.Sprintf("%x", sha256.Sum256(data))),
			})
			whole = append(whole, ref)
			var of []string
			for _, m := range modulesOf(info) {
				modules[m.BOMRef] = m
				of = append(of, m.BOMRef)
			}
			made = append(made, cdx.Dependency{Ref: ref, Dependencies: &of})
		}
	}
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		components = append(components, modules[ref])
	}
	made = slices.Insert(made, 0, cdx.Dependency{Ref: digest, Dependencies: &whole})
	list.Components, list.Dependencies = &components, &made

	out, err := os.Create(file)
	if err != nil {
		return err
	}
	e := cdx.NewBOMEncoder(out, cdx.BOMFileFormatJSON).SetPretty(true)
	return errors.Join(e.EncodeVersion(list, cdx.SpecVersion1_6), out.Close())
}

// modulesOf are the modules in a binary, the standard library first.
func modulesOf(info *debug.BuildInfo) []cdx.Component {
	found := []cdx.Component{library("stdlib", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		c := library(m.Path, m.Version)
		if m.Sum != "" { // as in go.sum; it is no hash of a file
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.Sum}}
		}
		found = append(found, c)
	}
	return found
}

func library(name, version string) cdx.Component {
	purl := fmt.Sprintf("pkg:golang/%s@%s", name, version)
	return cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: purl}
}

func hashed(digest string) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: strings.TrimPrefix(digest, "sha256:")}}
}
