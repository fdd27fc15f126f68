// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// The types of the image specification (github.com/opencontainers/image-spec).
const (
	indexType    = "application/vnd.oci.image.index.v1+json"
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// directory is where the binaries are in the image, and nobody the user that it
// runs as unless told otherwise: what it does by itself needs no rights.
const (
	directory = "opt/multihome/bin"
	nobody    = "65532:65532"
)

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *ociPlatform      `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type ociPlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        descriptor   `json:"config"`
	Layers        []descriptor `json:"layers"`
}

type imageConfig struct {
	Created string `json:"created"`
	ociPlatform
	Config struct {
		User       string   `json:"User"`
		Entrypoint []string `json:"Entrypoint"`
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
}

// image is a whole one.
type image struct {
	digest  string // of its index
	archive []byte // in the OCI image layout
}

// pack makes an image of what there is for each platform.
func pack(name string, platforms []platform, created time.Time) (image, error) {
	l := layout{}
	all := index{SchemaVersion: 2, MediaType: indexType}
	for _, p := range platforms {
		d, err := l.addPlatform(p, created)
		if err != nil {
			return image{}, err
		}
		all.Manifests = append(all.Manifests, d)
	}
	top, err := l.addJSON(indexType, all)
	if err != nil {
		return image{}, err
	}
	// The tag by the specification, and the whole name as containerd reads it.
	top.Annotations = map[string]string{
		"org.opencontainers.image.ref.name": name[strings.LastIndexByte(name, ':')+1:],
		"io.containerd.image.name":          name,
	}
	archive, err := l.archive(top, created)
	return image{top.Digest, archive}, err
}

// layout is the content of an OCI image layout: files by their names.
type layout map[string][]byte

func (l layout) add(mediaType string, data []byte) descriptor {
	digest := digestOf(data)
	l["blobs/"+strings.Replace(digest, ":", "/", 1)] = data
	return descriptor{MediaType: mediaType, Digest: digest, Size: len(data)}
}

func (l layout) addJSON(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	return l.add(mediaType, data), err
}

// addPlatform adds a manifest with its configuration and its only layer.
func (l layout) addPlatform(p platform, created time.Time) (descriptor, error) {
	var uncompressed, compressed bytes.Buffer
	if err := writeLayer(&uncompressed, p.binaries, created); err != nil {
		return descriptor{}, err
	}
	z := gzip.NewWriter(&compressed) // its header names no time
	if _, err := z.Write(uncompressed.Bytes()); err != nil {
		return descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return descriptor{}, err
	}

	config := imageConfig{Created: created.Format(time.RFC3339), ociPlatform: ociPlatform{p.arch, p.os}}
	config.Config.User = nobody
	config.Config.Entrypoint = []string{"/" + directory + "/multihome"}
	config.RootFS.Type = "layers"
	config.RootFS.DiffIDs = []string{digestOf(uncompressed.Bytes())}
	c, err := l.addJSON(configType, config)
	if err != nil {
		return descriptor{}, err
	}
	d, err := l.addJSON(manifestType, manifest{
		SchemaVersion: 2,
		MediaType:     manifestType,
		Config:        c,
		Layers:        []descriptor{l.add(layerType, compressed.Bytes())},
	})
	d.Platform = &config.ociPlatform
	return d, err
}

// writeLayer writes the binaries and the directories that lead to them.
func writeLayer(w io.Writer, binaries []binary, created time.Time) error {
	t := tar.NewWriter(w)
	for i := range len(directory) + 1 {
		if i < len(directory) && directory[i] != '/' {
			continue
		}
		if err := t.WriteHeader(header(directory[:i]+"/", 0o755, 0, created)); err != nil {
			return err
		}
	}
	for _, b := range binaries {
		if err := t.WriteHeader(header(directory+"/"+b.name, 0o755, len(b.data), created)); err != nil {
			return err
		}
		if _, err := t.Write(b.data); err != nil {
			return err
		}
	}
	return t.Close()
}

// archive writes the layout as a tar, whose only image is top.
func (l layout) archive(top descriptor, created time.Time) ([]byte, error) {
	var err error
	l["oci-layout"] = []byte(`{"imageLayoutVersion":"1.0.0"}`)
	l["index.json"], err = json.Marshal(index{SchemaVersion: 2, MediaType: indexType, Manifests: []descriptor{top}})
	if err != nil {
		return nil, err
	}
	var w bytes.Buffer
	t := tar.NewWriter(&w)
	for _, name := range slices.Sorted(maps.Keys(l)) {
		if err := t.WriteHeader(header(name, 0o644, len(l[name]), created)); err != nil {
			return nil, err
		}
		if _, err := t.Write(l[name]); err != nil {
			return nil, err
		}
	}
	err = t.Close()
	return w.Bytes(), err
}

// header is that of a file, or of a directory if the name ends with '/': root's,
// and of one time.
func header(name string, mode int64, size int, created time.Time) *tar.Header {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(size), ModTime: created, Format: tar.FormatUSTAR}
	if strings.HasSuffix(name, "/") {
		h.Typeflag = tar.TypeDir
	}
	return h
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }
