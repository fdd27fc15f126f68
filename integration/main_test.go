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

var update = flag.Bool("update", false, "rewrite the golden files")

// builtVar is the environment variable that names the directory of what `make build
// cni-plugins` and hack/test.sh made, which is to be tested instead of the tree.
const builtVar = "MULTIHOME_BUILT"

// plugins is the directory of what is run: our plugins and multihome, in its
// directory cni those of the CNI project that they are chained after, in the version
// of go.mod, and in its directory test inject.
var plugins string

// cniPath is where chains look for plugins.
func cniPath() []string { return []string{plugins, filepath.Join(plugins, "cni")} }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	if plugins = os.Getenv(builtVar); plugins != "" {
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
	root, err := golang(dir, "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	version, err := golang(dir, "list", "-m", "-f", "{{.Version}}", upstream)
	if err != nil {
		return err
	}
	for to, what := range map[string][]string{dir: {"./plugins/...", "./cmd/multihome"}, filepath.Join(dir, "test"): {"./integration/fault/inject"}} {
		if _, err := golang(dir, append([]string{"-C", root, "build", "-buildvcs=false", "-o", to + "/"}, what...)...); err != nil {
			return err
		}
	}
	at := "@" + version
	_, err = golang(filepath.Join(dir, "cni"), "install", upstream+"/plugins/main/macvlan"+at, upstream+"/plugins/main/host-device"+at, upstream+"/plugins/main/ptp"+at,
		upstream+"/plugins/meta/tuning"+at, upstream+"/plugins/ipam/host-local"+at, upstream+"/plugins/ipam/static"+at)
	return err
}

// inject is the program of integration/fault.
func inject() string { return filepath.Join(plugins, "test", "inject") }

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
	return strings.TrimSpace(string(out)), nil
}
