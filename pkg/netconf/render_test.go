// SPDX-License-Identifier: Apache-2.0

package netconf_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/multihome/multihome/pkg/manifest"
	"github.com/multihome/multihome/pkg/netconf"
)

var update = flag.Bool("update", false, "write the goldens anew")

// object reads a SpiderMultusConfig that has the spec given, as YAML.
func object(t testing.TB, text string) (netconf.Config, []netconf.Fault) {
	t.Helper()
	objects, err := manifest.Read("test", []byte(text))
	if err != nil || len(objects) != 1 {
		t.Fatalf("%d objects: %v\n%s", len(objects), err, text)
	}
	c, faults := netconf.Decode(objects[0].JSON)
	return c, append(faults, c.Validate()...)
}

// TestRender renders every file of testdata: first the object, then what comes of it. The
// seed-* files have the form of the project's documents, to the byte.
func TestRender(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, faults := object(t, string(archive.Files[0].Data))
			for _, f := range faults {
				if !f.Warning {
					t.Errorf("%s", f)
				}
			}
			nad := c.Render()
			annotations, err := json.Marshal(nad.Annotations)
			if err != nil {
				t.Fatal(err)
			}
			got := []txtar.File{
				archive.Files[0],
				{Name: nad.Namespace + "/" + nad.Name, Data: append(annotations, '\n')},
				{Name: "config", Data: []byte(nad.Config + "\n")},
			}
			if *update {
				archive.Files = got
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(txtar.Format(&txtar.Archive{Files: archive.Files})), string(txtar.Format(&txtar.Archive{Files: got}))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if nad.Config == "" || !strings.Contains(nad.Config, `"plugins"`) {
				return
			}
			if _, err := libcni.NetworkConfFromBytes([]byte(nad.Config)); err != nil {
				t.Errorf("libcni: %v", err)
			}
		})
	}
}

// TestSeeds has the goldens of the project's documents, as they print them: with -update, a
// change of these would go unseen.
func TestSeeds(t *testing.T) {
	for name, want := range map[string]string{
		"seed-macvlan":       `{"cniVersion":"0.3.1","name":"macvlan-ens192","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-ipvlan":        `{"cniVersion":"0.3.1","name":"ipvlan-ens192","plugins":[{"type":"ipvlan","master":"ens192","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-sriov":         `{"cniVersion":"0.3.1","name":"sriov-demo","plugins":[{"vlan":100,"type":"sriov","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-sriov-rdma":    `{"cniVersion":"0.3.1","name":"sriov-rdma","plugins":[{"vlan":100,"type":"sriov","ipam":{"type":"spiderpool"}},{"type":"rdma"},{"type":"coordinator"}]}`,
		"seed-sriov-rates":   `{"cniVersion":"0.3.1","name":"sriov-bandwidth","plugins":[{"vlan":100,"min_tx_rate":100,"max_tx_rate":1000,"type":"sriov","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-ipvlan-vlan":   `{"cniVersion":"0.3.1","name":"ipvlan-ens192-vlan100","plugins":[{"vlanID":100,"type":"ifacer","interfaces":["ens192"]},{"type":"ipvlan","master":"ens192.100","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-existing-vlan": `{"cniVersion":"0.3.1","name":"macvlan-conf","plugins":[{"type":"macvlan","master":"ens192.100","mode":"bridge","ipam":{"type":"spiderpool","default_ipv4_ippool":["vlan100"]}},{"type":"coordinator"}]}`,
		"seed-bond":          `{"cniVersion":"0.3.1","name":"ipvlan-conf","plugins":[{"type":"ifacer","interfaces":["ens192","ens224"],"bond":{"name":"bond0","mode":1}},{"type":"ipvlan","master":"bond0","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-bond-vlan":     `{"cniVersion":"0.3.1","name":"ipvlan-conf","plugins":[{"vlanID":100,"type":"ifacer","interfaces":["ens192","ens224"],"bond":{"name":"bond0","mode":1}},{"type":"ipvlan","master":"bond0.100","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}`,
		"seed-ifacer-vlan":   `{"cniVersion":"0.3.1","name":"macvlan-conf","plugins":[{"vlanID":100,"type":"ifacer","interfaces":["ens192"]},{"type":"macvlan","master":"ens192.100","mode":"bridge","ipam":{"type":"spiderpool","default_ipv4_ippool":["vlan100"]}},{"mode":"underlay","type":"coordinator"}]}`,
		"seed-ifacer-bond":   `{"cniVersion":"0.3.1","name":"macvlan-conf","plugins":[{"vlanID":200,"type":"ifacer","interfaces":["ens192","ens160"],"bond":{"name":"bond0","mode":1}},{"type":"macvlan","master":"bond0.200","mode":"bridge","ipam":{"type":"spiderpool","default_ipv4_ippool":["vlan200"]}},{"mode":"underlay","type":"coordinator"}]}`,
	} {
		archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(archive.Files[2].Data)); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

// TestChainsAreTaken gives what comes out to our own plugins, as they read it.
func TestChainsAreTaken(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := object(t, string(archive.Files[0].Data))
		custom := netconf.Config{Name: "custom", Spec: netconf.Spec{CustomCNI: c.Render().Config}}
		if custom.Spec.CustomCNI == "" {
			continue
		}
		seen++
		for _, f := range custom.Validate() { // which reads each plugin of ours by its keys
			t.Errorf("%s: %s", file, f)
		}
	}
	if seen < 20 {
		t.Errorf("%d chains", seen)
	}
}

// TestWithDefaults fills in what an object leaves out, and nothing else.
func TestWithDefaults(t *testing.T) {
	defaults, faults := netconf.DecodeCoordinator([]byte(`{"metadata": {"name": "default"}, "spec": {"mode": "underlay", "podRPFilter": -5, "tunePodRoutes": true, "podCIDRType": "calico",
		"hijackCIDR": ["169.254.20.10"], "serviceCIDR": ["10.96.0.0/12"]}}`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	c, _ := object(t, "metadata: {name: a}\nspec: {cniType: macvlan, macvlan: {master: [ens192]}, coordinator: {tunePodRoutes: false}}")
	const want = `{"tunePodRoutes":false,"mode":"underlay","type":"coordinator","podRPFilter":-1,"serviceCIDR":["10.96.0.0/12"],"hijackCIDR":["169.254.20.10/32"]}`
	if got := c.WithDefaults(defaults).Render().Config; !strings.Contains(got, want) {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := c.Render().Config; !strings.Contains(got, `{"tunePodRoutes":false,"type":"coordinator"}`) {
		t.Errorf("the object has changed: %s", got)
	}
	_, faults = netconf.DecodeCoordinator([]byte(`{"metadata": {"name": "other"}, "spec": {"hijackCIDR": ["0.0.0.0/0"], "vethMTU": 1, "podCIDRtype": "x"}}`))
	for _, path := range []string{"metadata.name", "spec.hijackCIDR", "spec.vethMTU", "spec.podCIDRtype"} {
		if !slices.ContainsFunc(faults, func(f netconf.Fault) bool { return f.Path == path }) {
			t.Errorf("no fault of %s: %v", path, faults)
		}
	}
}
