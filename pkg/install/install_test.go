// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/install"
)

// mark is in each plugin of ours: the path of its main package.
const mark = "\npath\tgithub.com/multihome/multihome/plugins/x\n"

// node is a node's file system: its CNI directory, with somebody else's plugin and
// an older one of ours in it, and where new ones come from.
type node struct{ from, to, etc string }

func newNode(t *testing.T) node {
	t.Helper()
	dir := t.TempDir()
	n := node{from: filepath.Join(dir, "image"), to: filepath.Join(dir, "bin"), etc: filepath.Join(dir, "etc")}
	for _, d := range []string{n.from, n.to, n.etc} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range catalog.Binaries() {
		write(t, filepath.Join(n.from, name), "new "+name+mark, 0o644)
	}
	write(t, filepath.Join(n.to, "macvlan"), "somebody else's", 0o700)
	write(t, filepath.Join(n.to, "coordinator"), "older", 0o755)
	return n
}

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// install returns the names of the files that were changed.
func (n node) install(dropIns ...string) ([]string, error) {
	plugins, err := install.Plugins(n.from, n.to)
	if err != nil {
		return nil, err
	}
	others, err := install.DropIns(dropIns, n.etc)
	if err != nil {
		return nil, err
	}
	var changed []string
	err = install.Files(append(plugins, others...), func(f install.File, c bool) {
		if c {
			changed = append(changed, filepath.Base(f.Path))
		}
	})
	return changed, err
}

// files are mode and text of all files below a directory, by their names.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		found[name] = info.Mode().String() + " " + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// installed is what newNode's CNI directory holds afterwards.
var installed = map[string]string{
	"macvlan":            "-rwx------ somebody else's",
	"coordinator":        "-rwxr-xr-x new coordinator" + mark,
	"ifacer":             "-rwxr-xr-x new ifacer" + mark,
	"multihome-ipam":     "-rwxr-xr-x new multihome-ipam" + mark,
	"route":              "-rwxr-xr-x new route" + mark,
	"spiderpool":         "-rwxr-xr-x new spiderpool" + mark,
	"static-ipam":        "-rwxr-xr-x new static-ipam" + mark,
	"static-macvlan-cni": "-rwxr-xr-x new static-macvlan-cni" + mark,
	"veth":               "-rwxr-xr-x new veth" + mark,
}

func TestInstall(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // which must not matter
	n := newNode(t)
	for _, want := range [][]string{catalog.Binaries(), nil} {
		changed, err := n.install()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, changed); diff != "" {
			t.Errorf("changed (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(installed, files(t, n.to)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestInstallRepairs(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	damage := map[string]func(path string) error{
		"a bit":     func(path string) error { return os.WriteFile(path, []byte("new routs"), 0o755) },
		"a half":    func(path string) error { return os.Truncate(path, 4) },
		"no mode":   func(path string) error { return os.Chmod(path, 0o644) },
		"gone":      os.Remove,
		"elsewhere": func(path string) error { return os.Rename(path, elsewhere) },
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if _, err := n.install(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(n.to, "route")
			if err := do(path); err != nil {
				t.Fatal(err)
			}
			if name == "elsewhere" {
				if err := os.Symlink(elsewhere, path); err != nil {
					t.Fatal(err)
				}
			}
			changed, err := n.install()
			if diff := cmp.Diff([]string{"route"}, changed); diff != "" || err != nil {
				t.Errorf("%v, changed (-want +got):\n%s", err, diff)
			}
			if diff := cmp.Diff(installed, files(t, n.to)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%v, %v, want a regular file", info.Mode(), err)
			}
		})
	}
}

// A plugin that runs can't be written to (ETXTBSY), but it can be replaced.
func TestInstallReplacesWhatRuns(t *testing.T) {
	n := newNode(t)
	sleep, err := os.ReadFile("/bin/sleep")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.to, "coordinator")
	write(t, path, string(sleep), 0o755)
	running := exec.Command(path, "60")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = running.Process.Kill()
		_ = running.Wait()
	}()
	if _, err := n.install(); err != nil {
		t.Error(err)
	}
	if err := running.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the one that ran: %v", err)
	}
	if diff := cmp.Diff(installed, files(t, n.to)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Two at a time, as an old and a new pod of a DaemonSet may be.
func TestInstallAtOnce(t *testing.T) {
	n := newNode(t)
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := n.install(install.Software()...)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(installed, files(t, n.to)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestInstallFails(t *testing.T) {
	tests := map[string]struct {
		spoil   func(t *testing.T, n node) node
		dropIns []string
		want    string
	}{
		"no CNI directory": {
			spoil: func(_ *testing.T, n node) node { n.to += "/no"; return n },
			want:  "open TO/no: no such file or directory",
		},
		"a plugin is missing": {
			spoil: func(t *testing.T, n node) node {
				if err := os.Remove(filepath.Join(n.from, "veth")); err != nil {
					t.Fatal(err)
				}
				return n
			},
			want: "open FROM/veth: no such file or directory",
		},
		"a directory in the way": {
			spoil: func(t *testing.T, n node) node {
				if err := os.Mkdir(filepath.Join(n.to, "ifacer"), 0o755); err != nil {
					t.Fatal(err)
				}
				return n
			},
			want: "TO/ifacer: is a directory",
		},
		"no such drop-in": {
			dropIns: []string{"iproute2", "networkd.conf"},
			want:    `no drop-in for "networkd.conf": there are iproute2, networkd, networkd-links, networkmanager, sysctl`,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			names := strings.NewReplacer(n.from, "FROM", n.to, "TO")
			before := files(t, n.to)
			if test.spoil != nil {
				n = test.spoil(t, n)
			}
			changed, err := n.install(test.dropIns...)
			if err == nil || names.Replace(err.Error()) != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
			n.to = strings.TrimSuffix(n.to, "/no")
			if diff := cmp.Diff(before, files(t, n.to)); diff != "" || changed != nil {
				t.Errorf("changed %v (-want +got):\n%s", changed, diff)
			}
		})
	}
}

func TestDropIns(t *testing.T) {
	n := newNode(t)
	changed, err := n.install(install.Software()...)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(changed, "zz-multihome.conf") {
		t.Errorf("changed %v", changed)
	}
	var got []string
	for name, text := range files(t, n.etc) {
		// Each file says itself where it belongs.
		if !strings.HasPrefix(text, "-rw-r--r-- ") || !strings.Contains(text, "/etc/"+name) {
			t.Errorf("%s: %s", name, text)
		}
		got = append(got, name)
	}
	slices.Sort(got)
	want := []string{
		"NetworkManager/conf.d/zz-multihome.conf", "iproute2/rt_protos.d/multihome.conf", "sysctl.d/90-multihome.conf",
		"systemd/network/05-multihome.network", "systemd/networkd.conf.d/multihome.conf",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if changed, err := n.install(install.Software()...); len(changed) > 0 || err != nil {
		t.Errorf("again: %v, %v", changed, err)
	}
}

// What is installed is what there is to install.
func TestAllPlugins(t *testing.T) {
	n := newNode(t)
	if _, err := n.install(); err != nil {
		t.Fatal(err)
	}
	dirs, err := filepath.Glob("../../plugins/*/main.go")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("%v, %v", dirs, err)
	}
	for _, main := range dirs {
		name := filepath.Base(filepath.Dir(main))
		if _, err := os.Stat(filepath.Join(n.to, name)); err != nil {
			t.Error(err)
		}
	}
}
