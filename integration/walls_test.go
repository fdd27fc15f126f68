// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// below lists, for a package, the packages of ours that it may import. Packages that
// are not listed may import any, as long as Go finds no cycle.
var below = map[string][]string{
	"pkg/netstate":         {},
	"pkg/config":           {},
	"pkg/attachment":       {"pkg/netstate"},
	"pkg/netlink":          {},
	"pkg/netns":            {},
	"pkg/nft":              {"pkg/netlink", "pkg/netstate"},
	"pkg/iptables":         {"pkg/netstate", "pkg/nft"},
	"pkg/rtnetlink":        {"pkg/netlink", "pkg/netstate"},
	"pkg/neighbours":       {"pkg/netstate"},
	"pkg/records":          {"pkg/netns", "pkg/netstate"},
	"pkg/spool":            {"pkg/netns", "pkg/netstate", "pkg/records"},
	"pkg/nodeconf":         {"pkg/config", "pkg/netns", "pkg/records"},
	"pkg/watch":            {"pkg/netlink", "pkg/netns", "pkg/netstate", "pkg/rtnetlink"},
	"pkg/kernel":           {"pkg/netlink", "pkg/netns", "pkg/netstate", "pkg/nft", "pkg/iptables", "pkg/rtnetlink", "pkg/neighbours", "pkg/records"},
	"pkg/coordinator/keys": {"pkg/config", "pkg/netstate"},
	"pkg/route/keys":       {"pkg/config", "pkg/netstate"},
	"pkg/ifacer/keys":      {"pkg/config", "pkg/netstate"},
}

// TestWalls checks the imports of packages against below.
func TestWalls(t *testing.T) {
	bad := fstest.MapFS{
		"pkg/nft/a.go":      goFile(`package nft; import _ "` + module + `/pkg/kernel"`),
		"pkg/nft/a_test.go": goFile(`package nft; import _ "` + module + `/pkg/kernel"`),
		"pkg/kernel/a.go":   goFile(`package kernel; import _ "` + module + `/pkg/nft"`),
	}
	found, err := beyond(bad)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"pkg/nft/a.go imports pkg/kernel, which isn't below it"}, found); diff != "" {
		t.Errorf("in a tree that breaks it (-want +got):\n%s", diff)
	}
	found, err = beyond(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

func beyond(tree fs.FS) ([]string, error) {
	return eachGoFile(tree, func(name string, file *ast.File, _ *token.FileSet) (found []string) {
		allowed, walled := below[path.Dir(name)]
		if isTest(name) || !walled {
			return nil
		}
		for _, imported := range imports(file) {
			if ours, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(allowed, ours) {
				found = append(found, fmt.Sprintf("%s imports %s, which isn't below it", name, ours))
			}
		}
		return found
	})
}

// TestConfigurationsNeedNoKernel checks that a program that only validates
// configurations links nothing that talks to the kernel.
func TestConfigurationsNeedNoKernel(t *testing.T) {
	for _, pkg := range []string{"pkg/config", "pkg/attachment", "pkg/coordinator/keys", "pkg/route/keys", "pkg/ifacer/keys"} {
		for _, dep := range goList(t, "-deps", "./"+pkg) {
			if within(dep, "golang.org/x/sys", "github.com/vishvananda", module+"/pkg/kernel", module+"/pkg/records", module+"/pkg/netns", module+"/pkg/plugin") {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}
