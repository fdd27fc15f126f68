// SPDX-License-Identifier: Apache-2.0

// Package integration tests the whole: real binaries on real kernels, and the
// repository itself. Its tests make network namespaces and touch no other.
package integration

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/netstate"
)

const module = "github.com/multihome/multihome"

// rules are the rules of the repository. Each finds its violations, and has a tree with
// some of them.
var rules = []struct {
	name string
	find func(fs.FS) ([]string, error)
	bad  fstest.MapFS
	want []string
}{
	{
		name: "only pkg/kernel, what is below it, pkg/survey and pkg/watch import what speaks to the kernel",
		find: kernelImports,
		bad: fstest.MapFS{
			"pkg/kernel/a.go":       goFile(`package kernel; import _ "github.com/vishvananda/netlink"`),
			"plugins/x/a_test.go":   goFile(`package main; import _ "github.com/vishvananda/netlink"`),
			"plugins/x/main.go":     goFile(`package main; import _ "golang.org/x/sys/unix"`),
			"plugins/x/windows.go":  goFile("//go:build windows\n\npackage main; import _ \"github.com/google/nftables/expr\""),
			"pkg/netstate/other.go": goFile(`package netstate; import _ "github.com/vishvananda/netlinkish"`),
		},
		want: []string{
			"plugins/x/main.go imports golang.org/x/sys/unix",
			"plugins/x/windows.go imports github.com/google/nftables/expr",
		},
	},
	{
		name: "only pkg/kernel writes to the system",
		find: writes,
		bad: fstest.MapFS{
			"pkg/kernel/a.go":      goFile(`package kernel; import "os"; func f() { os.Remove("") }`),
			"pkg/install/a.go":     goFile(`package install; import "os"; func f() { os.Rename("", "") }`),
			"pkg/route/a.go":       goFile("package route\nimport (\n\tsystem \"os\"\n\t\"os/exec\"\n)\nfunc f() {\n\tsystem.WriteFile(``, nil, 0)\n\texec.Command(``).Run()\n\tsystem.Open(``)\n}"),
			"pkg/route/a_test.go":  goFile(`package route; import "os"; func f() { os.Remove("") }`),
			"pkg/doctor/a.go":      goFile("package doctor\nimport \"syscall\"\nvar remove = syscall.Unlink\nvar is = syscall.Errno(2)"),
			"plugins/x/main.go":    goFile("package main\nimport \"os\"\nfunc f(os *os.Root) { os.Remove(``) }"),
			"integration/x/run.go": goFile(`package x; import "os"; func f() { os.Remove("") }`),
		},
		want: []string{
			"pkg/doctor/a.go:5: syscall.Unlink",
			"pkg/route/a.go:9: os.WriteFile",
			"pkg/route/a.go:10: os/exec.Command",
			"plugins/x/main.go:5: os.Root",
		},
	},
	{
		name: "pkg/netstate does no input or output",
		find: pureImports,
		bad: fstest.MapFS{
			"pkg/netstate/a.go":      goFile(`package netstate; import ("fmt"; "os/exec"; "net/netip")`),
			"pkg/netstate/a_test.go": goFile(`package netstate; import "os"`),
			"pkg/kernel/a.go":        goFile(`package kernel; import "os"`),
		},
		want: []string{"pkg/netstate/a.go imports os/exec"},
	},
	{
		name: "every Go file names its licence first",
		find: licences,
		bad: fstest.MapFS{
			"a.go": goFile("package a"),
			"b.go": {Data: []byte("package b\n")},
			"c.go": {Data: []byte(spdx + "package c\n")},
		},
		want: []string{
			"b.go does not start with // SPDX-License-Identifier: Apache-2.0 and an empty line",
			"c.go does not start with // SPDX-License-Identifier: Apache-2.0 and an empty line",
		},
	},
	{
		name: "every package says what it is for",
		find: packageDocs,
		bad: fstest.MapFS{
			"a/a.go":      goFile("// Package a is documented.\npackage a"),
			"a/b.go":      goFile("package a"),
			"b/b.go":      goFile("package b"),
			"b/b_test.go": goFile("// Package b is documented where nobody looks.\npackage b"),
			"c/c_test.go": goFile("// Package c has tests only.\npackage c"),
		},
		want: []string{"b has no package comment"},
	},
	{
		name: "files and packages are named for what they hold",
		find: fileNames,
		bad: fstest.MapFS{
			"pkg/common/a.go":            goFile("package common"),
			"pkg/a/net_utils_linux.go":   goFile("package a"),
			"pkg/a/helpers_test.go":      goFile("package a"),
			"pkg/a/commonroute.go":       goFile("package a"),
			"pkg/a/testdata/common.conf": {},
		},
		want: []string{
			"pkg/a/helpers_test.go: helpers says nothing of what it holds",
			"pkg/a/net_utils_linux.go: utils says nothing of what it holds",
			"pkg/common/a.go: common says nothing of what it holds",
		},
	},
	{
		name: "no test skips",
		find: skips,
		bad: fstest.MapFS{
			"a_test.go": goFile("package a\nfunc f() {\n\tt.Skip(1)\n\ttb.Skipf(`%d`, 1)\n\tt.SkipNow()\n\t_ = fs.SkipDir\n}"),
		},
		want: []string{"a_test.go:5: Skip", "a_test.go:6: Skipf", "a_test.go:7: SkipNow"},
	},
	{
		name: "the changelog has a place for what is not released yet",
		find: lineIn("CHANGELOG.md", `^## \[Unreleased\]$`),
		bad:  fstest.MapFS{"CHANGELOG.md": {Data: []byte("# Changelog\n\n## Unreleased\n")}},
		want: []string{`CHANGELOG.md has no line that matches ^## \[Unreleased\]$`},
	},
	{
		name: "the README names make demo",
		find: lineIn("README.md", `^\s*make demo\b`),
		bad:  fstest.MapFS{"README.md": {Data: []byte("see CONTRIBUTING\n")}},
		want: []string{`README.md has no line that matches ^\s*make demo\b`},
	},
	{
		name: "the README names make test",
		find: lineIn("README.md", `^\s*make test\b`),
		bad:  fstest.MapFS{"README.md": {Data: []byte("see CONTRIBUTING\n")}},
		want: []string{`README.md has no line that matches ^\s*make test\b`},
	},
	{
		name: "what the README configures is a CNI network",
		find: configurations,
		bad: fstest.MapFS{"README.md": {Data: []byte("```json\n" +
			`{"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "macvlan"},]}` + "\n```\n" +
			"```json\n" + `{"cniVersion": "1.0.0", "name": "b", "plugins": [{"type": "macvlan"}]}` + "\n```\n")}},
		want: []string{"README.md, configuration 1: error parsing configuration list: " +
			"invalid character ']' looking for beginning of value"},
	},
	{
		name: "what a document links to is there",
		find: links,
		bad: fstest.MapFS{
			"README.md": {Data: []byte("[a](docs/a.md), [b](docs/b.md#c), [d](https://example.com/d)\n")},
			"docs/b.md": {Data: []byte("[a](a.md) [c](#c)\n[d](../deploy/d.conf)\n")},
		},
		want: []string{"README.md links to docs/a.md", "docs/b.md links to docs/a.md", "docs/b.md links to deploy/d.conf"},
	},
	{
		name: "no document has the marks of a merge",
		find: mergeMarks,
		bad: fstest.MapFS{
			"README.md":   {Data: []byte("a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> 1a2b3c4 (d)\n")},
			"docs/a.md":   {Data: []byte("Title\n=======\n<<<<<<<< eight\n")},
			"docs/b.yaml": {Data: []byte(">>>>>>> main\n")},
		},
		want: []string{"README.md:2", "README.md:6", "docs/b.yaml:1"},
	},
	{
		name: "continuous integration runs make test",
		find: lineIn(".ci/run", `^[^#]*\bmake\b[^#]*\btest\b`),
		bad:  fstest.MapFS{".ci/run": {Data: []byte("#!/bin/sh\n# make test\ntrue\n")}},
		want: []string{`.ci/run has no line that matches ^[^#]*\bmake\b[^#]*\btest\b`},
	},
	{
		name: "ip prints the routes of coordinator by the number that we give them",
		find: lineIn("deploy/rt_protos.d/multihome.conf", fmt.Sprintf(`^%d\s+multihome$`, netstate.ProtoCoordinator)),
		bad:  fstest.MapFS{"deploy/rt_protos.d/multihome.conf": {Data: []byte("1\tmultihome\n")}},
		want: []string{fmt.Sprintf(`deploy/rt_protos.d/multihome.conf has no line that matches ^%d\s+multihome$`, netstate.ProtoCoordinator)},
	},
	{
		name: "ip prints the routes of route by the number that we give them",
		find: lineIn("deploy/rt_protos.d/multihome.conf", fmt.Sprintf(`^%d\s+multihome-route$`, netstate.ProtoRoute)),
		bad:  fstest.MapFS{"deploy/rt_protos.d/multihome.conf": {Data: []byte("109\tmultihome\n")}},
		want: []string{fmt.Sprintf(`deploy/rt_protos.d/multihome.conf has no line that matches ^%d\s+multihome-route$`, netstate.ProtoRoute)},
	},
}

// writers are the packages that may write to the system, and the reason.
var writers = map[string]string{
	"controlplane/bench":       "a benchmark",
	"controlplane/democluster": "a demo: the machines in it, and what runs on them",
	"controlplane/nodehealth":  "runs multihome doctor, which changes nothing",
	"controlplane/testcluster": "tests",

	"pkg/kernel":   "all that a plugin changes in the kernel",
	"pkg/iptables": "runs iptables for pkg/kernel, where the marks of replies are in its chains",
	"pkg/records":  "what the kernel has no room for, below /run/multihome",
	"pkg/spool":    "what IPAM and the node's agent say to each other, below /run/multihome",
	"pkg/nodeconf": "the node's defaults, for its agent and multihome install; plugins only read them",
	"pkg/install":  "copies plugins and drop-ins onto a node, for multihome install; no plugin links it",
	"pkg/testbed":  "the machines of tests and labs",
	"pkg/lab":      "the same",
	"pkg/plantest": "goldens of tests",
	"integration":  "tests",
	"cmd/multihome": "the lab's server is a process of its own, and doctor --root looks from inside a chroot; " +
		"what is changed on a node it has pkg/kernel change",
	"controlplane/cmd/multihome-agent": "the lock on the spool",
}

// writing are the functions and types that write: to files, other processes, or the
// kernel. The log's writer (lumberjack) is a library, and isn't checked.
var writing = map[string][]string{
	"os": {"Chmod", "Chown", "Chtimes", "CopyFS", "Create", "CreateTemp", "Lchown", "Link", "Mkdir", "MkdirAll", "MkdirTemp", "NewFile",
		"OpenFile", "OpenInRoot", "OpenRoot", "Remove", "RemoveAll", "Rename", "Root", "StartProcess", "Symlink", "Truncate", "WriteFile"},
	"os/exec": {"Cmd", "Command", "CommandContext"},
	"net":     {"Dial", "DialTimeout", "Dialer", "Listen", "ListenConfig", "ListenPacket", "ListenUDP", "DialUDP"},
	"syscall": {"Chroot", "Exec", "Flock", "ForkExec", "Ioctl", "Kill", "Link", "Mkdir", "Mount", "Open", "Pwrite", "RawSyscall", "RawSyscall6", "Rename",
		"Rmdir", "Sendmsg", "Sendto", "SetsockoptInt", "Setuid", "Socket", "StartProcess", "Symlink", "Syscall", "Syscall6", "Unlink", "Unmount", "Unshare", "Write"},
}

func writes(tree fs.FS) ([]string, error) {
	return eachGoFile(tree, func(name string, file *ast.File, positions *token.FileSet) (found []string) {
		if isTest(name) || within(name, slices.Collect(maps.Keys(writers))...) {
			return nil
		}
		paths := map[string]string{} // by their names in the file
		for _, spec := range file.Imports {
			imported := importPath(spec)
			paths[path.Base(imported)] = imported
			if spec.Name != nil {
				paths[spec.Name.Name] = imported
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if of, ok := s.X.(*ast.Ident); ok && of.Obj == nil && slices.Contains(writing[paths[of.Name]], s.Sel.Name) {
					p := positions.Position(s.Pos())
					found = append(found, fmt.Sprintf("%s:%d: %s.%s", p.Filename, p.Line, paths[of.Name], s.Sel.Name))
				}
			}
			return true
		})
		return found
	})
}

// notInCommand are libraries that the command must not link: it uses no Kubernetes API,
// and logs nothing.
var notInCommand = []string{"k8s.io", "sigs.k8s.io", "go.uber.org/zap", "helm.sh", "github.com/google/go-containerregistry"}

// TestCommandBinary checks all packages that the command links.
func TestCommandBinary(t *testing.T) {
	if !within("sigs.k8s.io/yaml", notInCommand...) || within("k8s.iota/x", notInCommand...) {
		t.Error("k8s.io/… and k8s.iota/… are not told apart")
	}
	deps := goList(t, "-deps", "./cmd/...")
	if !slices.Contains(deps, module+"/pkg/doctor") {
		t.Error("the command does not link its own packages")
	}
	for _, dep := range deps {
		if within(dep, notInCommand...) {
			t.Errorf("the command links %s; find out why by `go mod why %[1]s`", dep)
		}
	}
}

func TestHygiene(t *testing.T) {
	repository := os.DirFS("..")
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			found, err := rule.find(rule.bad)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(rule.want, found); diff != "" {
				t.Errorf("in a tree that breaks it (-want +got):\n%s", diff)
			}
			found, err = rule.find(repository)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				t.Error(f)
			}
		})
	}
}

// TestPluginBinaries checks all packages that a plugin links: a plugin's process lives
// for some milliseconds, and each heavy import takes some of them.
func TestPluginBinaries(t *testing.T) {
	deps := []string{
		"fmt",
		"github.com/containernetworking/plugins/pkg/ip",
		"github.com/containernetworking/plugins/pkg/ipcalc",
		"github.com/containernetworking/plugins/pkg/ns",
		"k8s.io/api/core/v1",
		"sigs.k8s.io/yaml",
		"testing",
	}
	want := []string{"github.com/containernetworking/plugins/pkg/ip", "k8s.io/api/core/v1", "sigs.k8s.io/yaml", "testing"}
	if diff := cmp.Diff(want, banned(deps)); diff != "" {
		t.Errorf("of an example (-want +got):\n%s", diff)
	}

	plugins := goList(t, "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, "./plugins/...")
	if len(plugins) == 0 {
		t.Error("found no plugin under plugins/")
	}
	for _, plugin := range plugins {
		for _, dep := range banned(goList(t, "-deps", plugin)) {
			t.Errorf("%s links %s; find out why by `go mod why %[2]s`", plugin, dep)
		}
	}
}

// banned returns the packages among deps that a plugin must not link.
func banned(deps []string) []string {
	return slices.DeleteFunc(slices.Clone(deps), func(dep string) bool {
		return !within(dep,
			"k8s.io",
			"sigs.k8s.io",
			"go.uber.org/zap",
			"github.com/google/nftables",
			"github.com/containernetworking/plugins/pkg/ip",
			"github.com/containernetworking/plugins/pkg/ipam",
			"github.com/spf13",
			"golang.org/x/image",
			"testing",
			module+"/pkg/lab",
			module+"/pkg/testbed",
			module+"/pkg/survey",
			module+"/pkg/fib",
			module+"/pkg/trace",
			module+"/pkg/plantest",
		)
	})
}

// goList returns the lines that go list prints, at the top of the repository and for
// binaries as released.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v", cmd, err)
	}
	return strings.Fields(string(out))
}

func kernelImports(tree fs.FS) ([]string, error) {
	return eachGoFile(tree, func(name string, file *ast.File, _ *token.FileSet) (found []string) {
		if isTest(name) || within(name, "pkg/kernel", "pkg/netlink", "pkg/rtnetlink", "pkg/nft", "pkg/iptables", "pkg/netns", "pkg/neighbours", "pkg/records", "pkg/survey", "pkg/watch", "pkg/testbed", "integration") {
			return nil
		}
		for _, imported := range imports(file) {
			if within(imported,
				"github.com/vishvananda/netlink",
				"github.com/vishvananda/netns",
				"github.com/google/nftables",
				"golang.org/x/sys/unix",
			) {
				found = append(found, fmt.Sprintf("%s imports %s", name, imported))
			}
		}
		return found
	})
}

func pureImports(tree fs.FS) ([]string, error) {
	return eachGoFile(tree, func(name string, file *ast.File, _ *token.FileSet) (found []string) {
		if isTest(name) || !within(name, "pkg/netstate") {
			return nil
		}
		for _, imported := range imports(file) {
			if within(imported, "os", "syscall", "net/http", "time", module+"/pkg/kernel", module+"/pkg/plugin", module+"/pkg/config", module+"/pkg/attachment") {
				found = append(found, fmt.Sprintf("%s imports %s", name, imported))
			}
		}
		return found
	})
}

const spdx = "// SPDX-License-Identifier: Apache-2.0\n"

func licences(tree fs.FS) ([]string, error) {
	return eachGoFile(tree, func(name string, _ *ast.File, _ *token.FileSet) []string {
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return []string{err.Error()}
		}
		if !strings.HasPrefix(string(text), spdx+"\n") {
			return []string{fmt.Sprintf("%s does not start with %s and an empty line", name, strings.TrimSpace(spdx))}
		}
		return nil
	})
}

// packageDocs finds packages without a comment where go doc looks: not in a test,
// unless the package has only tests.
func packageDocs(tree fs.FS) ([]string, error) {
	type pkg struct{ inCode, inTests, hasCode bool }
	packages := map[string]*pkg{}
	_, err := eachGoFile(tree, func(name string, file *ast.File, _ *token.FileSet) []string {
		dir := path.Dir(name)
		p := packages[dir]
		if p == nil {
			p = &pkg{}
			packages[dir] = p
		}
		documented := strings.TrimSpace(file.Doc.Text()) != ""
		if isTest(name) {
			p.inTests = p.inTests || documented
		} else {
			p.hasCode = true
			p.inCode = p.inCode || documented
		}
		return nil
	})
	var found []string
	for dir, p := range packages {
		if !p.inCode && (p.hasCode || !p.inTests) {
			found = append(found, dir+" has no package comment")
		}
	}
	slices.Sort(found)
	return found, err
}

func fileNames(tree fs.FS) ([]string, error) {
	word := regexp.MustCompile(`(^|[/_])(utils?|common|helpers?|misc)([/_.]|$)`)
	return eachGoFile(tree, func(name string, _ *ast.File, _ *token.FileSet) []string {
		if m := word.FindStringSubmatch(name); m != nil {
			return []string{fmt.Sprintf("%s: %s says nothing of what it holds", name, m[2])}
		}
		return nil
	})
}

func skips(tree fs.FS) ([]string, error) {
	return eachGoFile(tree, func(_ string, file *ast.File, positions *token.FileSet) (found []string) {
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if f, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, f.Sel.Name) {
					p := positions.Position(f.Pos())
					found = append(found, fmt.Sprintf("%s:%d: %s", p.Filename, p.Line, f.Sel.Name))
				}
			}
			return true
		})
		return found
	})
}

// mergeMarks finds the lines that git writes around what it couldn't merge.
func mergeMarks(tree fs.FS) (found []string, err error) {
	mark := regexp.MustCompile(`^(<<<<<<<|>>>>>>>) `)
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == ".git" || name == ".cache" || name == "bin"):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains([]string{".md", ".yaml", ".yml", ".sh"}, path.Ext(name)):
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		for i, line := range strings.Split(string(text), "\n") {
			if mark.MatchString(line) {
				found = append(found, fmt.Sprintf("%s:%d", name, i+1))
			}
		}
		return nil
	})
	return found, err
}

// lineIn finds files without a line that matches the pattern.
func lineIn(name, pattern string) func(fs.FS) ([]string, error) {
	line := regexp.MustCompile("(?m)" + pattern)
	return func(tree fs.FS) ([]string, error) {
		text, err := fs.ReadFile(tree, name)
		if err == nil && !line.Match(text) {
			return []string{fmt.Sprintf("%s has no line that matches %s", name, pattern)}, nil
		}
		return nil, err
	}
}

// configurations finds configurations that a runtime refuses, and a document without
// any.
func configurations(tree fs.FS) ([]string, error) {
	text, err := fs.ReadFile(tree, "README.md")
	if err != nil {
		return nil, err
	}
	blocks := regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		return []string{"README.md shows no configuration"}, nil
	}
	var found []string
	for i, block := range blocks {
		if _, err := libcni.ConfListFromBytes(block[1]); err != nil {
			found = append(found, fmt.Sprintf("README.md, configuration %d: %v", i+1, err))
		}
	}
	return found, nil
}

// links finds links of documents to missing files of this repository.
func links(tree fs.FS) ([]string, error) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	documents, err := fs.Glob(tree, "docs/*.md")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range append([]string{"README.md", "CONTRIBUTING.md"}, documents...) {
		text, err := fs.ReadFile(tree, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, m := range link.FindAllSubmatch(text, -1) {
			target := path.Join(path.Dir(name), string(m[1]))
			if _, err := fs.Stat(tree, target); err != nil {
				found = append(found, fmt.Sprintf("%s links to %s", name, target))
			}
		}
	}
	return found, nil
}

// eachGoFile calls find for every Go file of the tree, whatever its build constraints,
// and returns all results in the order of the files' names.
func eachGoFile(tree fs.FS, find func(name string, file *ast.File, positions *token.FileSet) []string) ([]string, error) {
	var found []string
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := entry.Name()
		if entry.IsDir() {
			if name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_') {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(base) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		positions := token.NewFileSet()
		file, err := parser.ParseFile(positions, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		found = append(found, find(name, file, positions)...)
		return nil
	})
	return found, err
}

func imports(file *ast.File) []string {
	var paths []string
	for _, spec := range file.Imports {
		paths = append(paths, importPath(spec))
	}
	return paths
}

func importPath(spec *ast.ImportSpec) string {
	imported, err := strconv.Unquote(spec.Path.Value)
	if err != nil { // the parser accepts only quoted strings
		panic(err)
	}
	return imported
}

// within reports whether a path is one of the roots, or lies under one.
func within(name string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return name == root || strings.HasPrefix(name, root+"/")
	})
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

// goFile returns a file with the given text that breaks no other rule.
func goFile(text string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(spdx + "\n" + text + "\n")}
}
