// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"fmt"
	"path"
	"regexp"
	"testing"

	"github.com/multihome/multihome/deploy"
	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/hostlink"
)

// NetworkManager and systemd-networkd are to leave the links alone that the plugins
// make, and no others.
func TestLinks(t *testing.T) {
	for software, pattern := range map[string]string{
		"networkmanager": `interface-name:([^;\n]+)`,
		"networkd-links": `(?:Name=| )(\S*[?*]\S*)`,
	} {
		t.Run(software, func(t *testing.T) { leavesLinksAlone(t, software, regexp.MustCompile(pattern)) })
	}
}

func leavesLinksAlone(t *testing.T, software string, pattern *regexp.Regexp) {
	want := map[string]bool{
		"lo": false, "ens192": false, "eth0": false, "ens192.100": false,
		"veth1a2b3c4": false, "vethwepl12345": false, // Docker's, Weave's
	}
	for i := range 100 {
		want[attachment.HostEnd(fmt.Sprint("container", i))] = true
		want[hostlink.On(fmt.Sprint("ens", i)).Name] = true
		want[hostlink.On(fmt.Sprintf("enp%ds0f0np0", i+10)).Name] = true
	}
	var patterns []string
	for _, d := range deploy.DropIns {
		if d.For != software {
			continue
		}
		for _, m := range pattern.FindAllSubmatch(d.Text(), -1) {
			patterns = append(patterns, string(m[1]))
		}
	}
	if len(patterns) == 0 {
		t.Fatal("no patterns")
	}
	for name, unmanaged := range want {
		got := false
		for _, p := range patterns {
			matched, err := path.Match(p, name) // '*' and '?', as there
			if err != nil {
				t.Fatal(err)
			}
			got = got || matched
		}
		if got != unmanaged {
			t.Errorf("%s is left alone: %v, want %v", name, got, unmanaged)
		}
	}
}
