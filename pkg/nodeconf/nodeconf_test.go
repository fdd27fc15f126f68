// SPDX-License-Identifier: Apache-2.0

package nodeconf_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/nodeconf"
)

// path returns the path of a file in a directory that doesn't exist yet.
func path(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "multihome", "coordinator.json")
}

func keys(t *testing.T, text string) map[string]json.RawMessage {
	t.Helper()
	out, err := nodeconf.Parse("it", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := nodeconf.Write(path, keys(t, text)); err != nil {
		t.Fatal(err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestWrite(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // which must not matter
	path := path(t)
	write(t, path, `{"serviceCIDR":["10.96.0.0/12"],"mend":false}`)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("{\n  \"mend\": false,\n  \"serviceCIDR\": [\n    \"10.96.0.0/12\"\n  ]\n}\n", string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	got, err := nodeconf.Read(path)
	if err != nil || len(got) != 2 || string(got["mend"]) != "false" {
		t.Errorf("%s, %v", got, err)
	}

	before := inode(t, path)
	write(t, path, `{"mend":  false, "serviceCIDR": [ "10.96.0.0/12" ]}`)
	if inode(t, path) != before {
		t.Error("the same content was written")
	}
	// Another mode or content makes a new file, whatever a killed process has left.
	if err := os.WriteFile(filepath.Join(filepath.Dir(path), ".coordinator.json.multihome"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	write(t, path, `{"mend":false,"serviceCIDR":["10.96.0.0/12"]}`)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := nodeconf.Write(path, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := nodeconf.Read(path); err != nil || got == nil || len(got) > 0 {
		t.Errorf("%s, %v", got, err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
}

// TestWriteAtOnce has writers and a reader at work at the same time: the reader sees nothing but
// what one of the writers wrote.
func TestWriteAtOnce(t *testing.T) {
	path := path(t)
	value := func(n int) string {
		return fmt.Sprintf(`{"serviceCIDR":[%s"10.%d.0.0/16"]}`, strings.Repeat(`"10.0.0.0/16",`, 100*n), n)
	}
	write(t, path, value(0))
	var writers sync.WaitGroup
	for n := range 4 {
		all := keys(t, value(n))
		writers.Go(func() {
			for range 25 {
				if err := nodeconf.Write(path, all); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		got, err := nodeconf.Read(path)
		var list []string
		if err != nil || json.Unmarshal(got["serviceCIDR"], &list) != nil || len(list)%100 != 1 {
			t.Fatalf("%d, %v", len(list), err)
		}
	}
}

func TestWriteFails(t *testing.T) {
	path := path(t)
	if err := os.MkdirAll(path, 0o755); err != nil { // a directory in its place
		t.Fatal(err)
	}
	if err := nodeconf.Write(path, keys(t, "{}")); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left: %v, %v", files, err)
	}
}

func TestRead(t *testing.T) {
	for name, tt := range map[string]struct {
		make func(path string) error
		want string // PATH is the file's path; "" for no error
	}{
		"nothing": {func(string) error { return nil }, ""},
		"a link that leads nowhere": {
			func(path string) error { return os.Symlink("/nowhere/at/all", path) },
			"open PATH: no such file or directory",
		},
		"half a file": {
			func(path string) error { return os.WriteFile(path, []byte(`{"serviceCIDR": ["10.9`), 0o644) },
			"PATH: want a JSON object of coordinator's keys (unexpected end of JSON input)",
		},
		"empty": {
			func(path string) error { return os.WriteFile(path, nil, 0o644) },
			"PATH: want a JSON object of coordinator's keys (unexpected end of JSON input)",
		},
		"a list": {
			func(path string) error { return os.WriteFile(path, []byte(`["10.96.0.0/12"]`), 0o644) },
			"PATH: want a JSON object of coordinator's keys (",
		},
		"null": {
			func(path string) error { return os.WriteFile(path, []byte(`null`), 0o644) },
			"PATH: null: want a JSON object of coordinator's keys",
		},
		"a key twice": {
			func(path string) error {
				return os.WriteFile(path, []byte(`{"mode": "auto", "mode": "overlay"}`), 0o644)
			},
			"PATH: want a JSON object of coordinator's keys (mode: there twice: want every key once)",
		},
		"everybody can write it": {
			func(path string) error {
				return os.WriteFile(path, []byte("{}"), 0o644)
			},
			"PATH: mode -rw-rw-rw-, owner 0: want owner 0 (root), and none of the permissions 022",
		},
		"a directory": {func(path string) error { return os.Mkdir(path, 0o755) }, "PATH: not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "coordinator.json")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(tt.want, "rw-rw-") {
				if err := os.Chmod(path, 0o666); err != nil {
					t.Fatal(err)
				}
			}
			got, err := nodeconf.Read(path)
			if got != nil {
				t.Errorf("got %s", got)
			}
			switch want := strings.ReplaceAll(tt.want, "PATH", path); {
			case want == "" && err != nil, want != "" && err == nil:
				t.Errorf("got %v, want %q", err, want)
			case err != nil && !strings.Contains(err.Error(), want):
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestMend(t *testing.T) {
	for text, want := range map[string]bool{`{}`: true, `{"mend": true}`: true, `{"mend": false}`: false, `{"MEND": false}`: false, `{"mend": null}`: true} {
		if got, err := nodeconf.Mend(keys(t, text)); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	if got, err := nodeconf.Mend(nil); !got || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
	if _, err := nodeconf.Mend(keys(t, `{"mend": "no"}`)); err == nil || err.Error() != `mend: "no": want true or false` {
		t.Error(err)
	}
}
