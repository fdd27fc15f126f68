// SPDX-License-Identifier: Apache-2.0

package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
)

// bom is a bill of materials (cyclonedx.org/docs/1.6/json).
type bom struct {
	BOMFormat   string `json:"bomFormat"`
	SpecVersion string `json:"specVersion"`
	Version     int    `json:"version"`
	Metadata    struct {
		Component component `json:"component"`
	} `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type component struct {
	Ref        string     `json:"bom-ref"`
	Type       string     `json:"type"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Hashes     []hash     `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type hash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn"`
}

// bill lists the binaries of an image, and the modules that each is made of as the
// Go linker noted them in it.
func bill(name, digest string, platforms []platform) ([]byte, error) {
	colon := strings.LastIndexByte(name, ':')
	list := bom{BOMFormat: "CycloneDX", SpecVersion: "1.6", Version: 1}
	list.Metadata.Component = component{
		Ref: digest, Type: "container", Name: name[:colon], Version: name[colon+1:],
		Hashes: []hash{sha256Of(digest)},
	}
	whole := dependency{Ref: digest}
	modules := map[string]component{}
	for _, p := range platforms {
		for _, b := range p.binaries {
			info, err := buildinfo.ReadFile(b.path)
			if err != nil {
				return nil, err
			}
			c := component{Ref: p.os + "/" + p.arch + "/" + b.name, Type: "application", Name: b.name, Hashes: []hash{sha256Of(digestOf(b.data))}}
			list.Components = append(list.Components, c)
			whole.DependsOn = append(whole.DependsOn, c.Ref)
			made := dependency{Ref: c.Ref}
			for _, m := range modulesOf(info) {
				modules[m.Ref] = m
				made.DependsOn = append(made.DependsOn, m.Ref)
			}
			list.Dependencies = append(list.Dependencies, made)
		}
	}
	list.Dependencies = append([]dependency{whole}, list.Dependencies...)
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		list.Components = append(list.Components, modules[ref])
	}
	text, err := json.MarshalIndent(list, "", "  ")
	return append(text, '\n'), err
}

// modulesOf are the modules in a binary, the standard library first.
func modulesOf(info *debug.BuildInfo) []component {
	std := component{Type: "library", Name: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}
	std.PURL = fmt.Sprintf("pkg:golang/%s@%s", std.Name, std.Version)
	std.Ref = std.PURL
	found := []component{std}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		purl := fmt.Sprintf("pkg:golang/%s@%s", m.Path, m.Version)
		c := component{Ref: purl, Type: "library", Name: m.Path, Version: m.Version, PURL: purl}
		if m.Sum != "" { // as in go.sum; it is no hash of a file
			c.Properties = []property{{"go:sum", m.Sum}}
		}
		found = append(found, c)
	}
	return found
}

func sha256Of(digest string) hash { return hash{"SHA-256", strings.TrimPrefix(digest, "sha256:")} }
