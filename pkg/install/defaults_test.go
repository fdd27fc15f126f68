// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/pkg/install"
	"github.com/multihome/multihome/pkg/nodeconf"
)

var own = []netip.Prefix{netip.MustParsePrefix("10.6.168.123/16")}

func set(key, value string) map[string]json.RawMessage {
	return map[string]json.RawMessage{key: json.RawMessage(value)}
}

// defaults returns the text of a file of defaults, without spaces.
func defaults(t *testing.T, path string) string {
	t.Helper()
	keys, err := nodeconf.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDefaults(t *testing.T) {
	for name, tt := range map[string]struct {
		before  string // of the file; "": there is none
		then    func(path string) error
		want    string
		removed bool
	}{
		"no file":       {"", nil, `{"hijackCIDR":["1.1.1.1"],"serviceCIDR":["10.96.0.0/12"]}`, true},
		"an admin's":    {`{"vethMTU": 1400, "servicecidr": "10.97.0.0/16"}`, nil, `{"hijackCIDR":["1.1.1.1"],"serviceCIDR":["10.96.0.0/12"],"vethMTU":1400}`, false},
		"changed since": {"", func(path string) error { return nodeconf.Write(path, set("mend", "false")) }, `{"mend":false}`, false},
		"deleted since": {"", os.Remove, "null", false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "multihome", "coordinator.json")
			if tt.before != "" {
				if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				write(t, path, tt.before, 0o644)
			}
			for range 2 {
				for key, value := range map[string]string{"serviceCIDR": `["10.96.0.0/12"]`, "hijackCIDR": `["1.1.1.1"]`} {
					if err := install.Defaults(path, set(key, value), own); err != nil {
						t.Fatal(err)
					}
				}
			}
			if tt.then != nil {
				if err := tt.then(path); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(tt.want, defaults(t, path)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			stays, removed, err := install.RemoveDefaults(path)
			if err != nil || removed != tt.removed || stays != (!removed && tt.want != "null") {
				t.Errorf("stays %v, removed %v, %v", stays, removed, err)
			}
			left := 0
			if stays {
				left = 1
			}
			if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != left {
				t.Errorf("left: %v, %v", files, err)
			}
		})
	}
}

func TestDefaultsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ before, key, value, want string }{
		"a value":               {"", "serviceCIDR", `["10.96"]`, `serviceCIDR: ["10.96"]: want a list of CIDRs`},
		"a default route":       {"", "serviceCIDR", `["0.0.0.0/0"]`, "is the default route"},
		"the node's own subnet": {"", "overlayPodCIDR", `["10.0.0.0/8"]`, "it overlaps 10.6.168.123/16, a subnet of the node itself"},
		"a damaged file":        {`{"mode`, "serviceCIDR", `["10.96.0.0/12"]`, "want a JSON object"},
		"another key of it":     {`{"mod": "auto"}`, "serviceCIDR", `["10.96.0.0/12"]`, `unknown key "mod"`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "coordinator.json")
			if tt.before != "" {
				write(t, path, tt.before, 0o644)
			}
			if err := install.Defaults(path, set(tt.key, tt.value), own); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if is, _ := os.ReadFile(path); string(is) != tt.before { // "" if it isn't there
				t.Errorf("the file is %s", is)
			}
		})
	}
}
