// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// plugins is the directory of what is run: our plugins and multihome as they
// are in the tree, macvlan and host-local of the CNI project in the version of go.mod.
var plugins string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
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

// build puts the plugins into a directory, those of the CNI project by their own
// module file, as the Makefile does.
func build(dir string) error {
	const upstream = "github.com/containernetworking/plugins"
	version, err := golang(dir, "list", "-m", "-f", "{{.Version}}", upstream)
	if err != nil {
		return err
	}
	if _, err := golang(dir, "build", "-buildvcs=false", "-o", dir, "../plugins/coordinator", "../plugins/route", "../plugins/veth", "../cmd/multihome"); err != nil {
		return err
	}
	at := "@" + strings.TrimSpace(version)
	_, err = golang(dir, "install", upstream+"/plugins/main/macvlan"+at, upstream+"/plugins/ipam/host-local"+at)
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
