// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var (
	update = flag.Bool("update", false, "rewrite the golden files")
	built  = flag.String("built", "", "directory of what make build cni-plugins made, to be tested instead of the tree")
)

// plugins is the directory of what is run: our plugins, multihome and inject, and in
// its directory cni those of the CNI project that they are chained after, in the
// version of go.mod.
var plugins string

// cniPath is where chains look for plugins.
func cniPath() []string { return []string{plugins, filepath.Join(plugins, "cni")} }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if *built != "" {
		dir, err := filepath.Abs(*built) // the lab's node has a working directory of its own
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		plugins = dir
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "multihome-plugins-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	plugins = dir
	code := 1
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	if err := os.RemoveAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// build puts the plugins into a directory as the Makefile does, those of the CNI
// project by their own module file.
func build(dir string) error {
	const upstream = "github.com/containernetworking/plugins"
	version, err := golang(dir, "list", "-m", "-f", "{{.Version}}", upstream)
	if err != nil {
		return err
	}
	if _, err := golang(dir, "build", "-buildvcs=false", "-o", dir, "../plugins/coordinator", "../plugins/ifacer", "../plugins/route", "../plugins/veth", "../cmd/multihome", "./fault/inject"); err != nil {
		return err
	}
	at := "@" + strings.TrimSpace(version)
	_, err = golang(filepath.Join(dir, "cni"), "install", upstream+"/plugins/main/macvlan"+at, upstream+"/plugins/main/host-device"+at, upstream+"/plugins/main/ptp"+at,
		upstream+"/plugins/meta/tuning"+at, upstream+"/plugins/ipam/host-local"+at, upstream+"/plugins/ipam/static"+at)
	return err
}

// golang runs a go command; what it installs goes to bin.
func golang(bin string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+bin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), nil
}
