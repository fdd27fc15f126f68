// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/catalog"
)

// manifestCases test deploy/.
var manifestCases = []testCase{
	{name: "manifests-kustomize", what: "deploy/kustomize: the API server finds no fault with it, the DaemonSet installs the plugins, pods work with these", run: manifestsKustomize},
	{name: "manifests-helm", what: "deploy/helm: the same by helm install, into another CNI directory", run: manifestsHelm},
}

// ours are the plugins that the DaemonSet installs; the other list has the directories
// of the nodes where the cluster looks for plugins.
var (
	ours    = catalog.Binaries()
	cniBins = []string{"/opt/cni/bin", "/var/lib/cni/bin"}
)

func manifestsKustomize(t *testing.T) {
	takeAway(t)
	for _, dir := range []string{"deploy/kustomize/base", "deploy/kustomize/networks"} {
		valid(t, "", "-k", dir)
		apply(t, "-k", dir)
	}
	installed(t, cniBins[0], "/etc/iproute2/rt_protos.d/multihome.conf")
}

func manifestsHelm(t *testing.T) {
	takeAway(t)
	values := []string{"multihome", "deploy/helm/multihome", "--namespace", "kube-system",
		"--values", "deploy/helm/multihome/networks.yaml",
		"--set", "cniBinDir=" + cniBins[1], "--set", "etcDir=/var/lib/etc", "--set", "dropIns={iproute2,networkd,networkmanager}"}
	valid(t, tool(t, "", "helm", append([]string{"template"}, values...)...), "-f", "-")
	t.Cleanup(func() {
		tool(t, "", "helm", "uninstall", "multihome", "--namespace", "kube-system", "--wait", "--ignore-not-found")
	})
	tool(t, "", "helm", append([]string{"install", "--wait", "--timeout", "2m"}, values...)...)
	installed(t, cniBins[1], "/var/lib/etc/iproute2/rt_protos.d/multihome.conf",
		"/var/lib/etc/systemd/networkd.conf.d/multihome.conf", "/var/lib/etc/NetworkManager/conf.d/zz-multihome.conf")
}

// tool runs kubectl or helm in the repository, as a user does, and returns what it
// prints. A warning is an error.
func tool(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "HOME="+state) // both keep files there
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err == nil && errs.Len() > 0 {
		err = errors.New("it warns")
	}
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, errs.Bytes())
	}
	return string(out)
}

// valid checks that the API server accepts the manifests.
func valid(t *testing.T, stdin string, where ...string) {
	t.Helper()
	tool(t, stdin, "kubectl", append([]string{"apply", "--server-side", "--validate=strict", "--dry-run=server"}, where...)...)
}

// apply creates the objects of manifests, until the end of the test.
func apply(t *testing.T, where ...string) {
	t.Helper()
	t.Cleanup(func() {
		tool(t, "", "kubectl", append([]string{"delete", "--cascade=foreground", "--ignore-not-found"}, where...)...)
	})
	tool(t, "", "kubectl", append([]string{"apply", "--server-side", "--validate=strict"}, where...)...)
}

// takeAway removes our plugins from the nodes, until the end of the test, but leaves
// them the image.
func takeAway(t *testing.T) {
	t.Helper()
	remove := func(node string) {
		for _, dir := range cniBins {
			for _, plugin := range ours {
				os.Remove(fileOf(t, node, filepath.Join(dir, plugin)))
			}
		}
	}
	for _, node := range []string{"node1", "node2"} {
		remove(node)
		t.Cleanup(func() {
			remove(node)
			for _, plugin := range ours {
				b, err := os.ReadFile(filepath.Join(root, "bin", plugin))
				if err == nil {
					err = os.WriteFile(fileOf(t, node, filepath.Join(cniBins[0], plugin)), b, 0o755)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		run(t, machines[node], "nsenter", "--target", pidOf(t, node), "--mount",
			"ctr", "--namespace", "k8s.io", "images", "import", filepath.Join(root, "bin/image/multihome.tar"))
	}
}

// installed waits for the DaemonSet, and checks that each node has the image's plugins
// in its CNI directory, and the drop-ins, and that pods of the networks work.
func installed(t *testing.T, bin string, dropIns ...string) {
	t.Helper()
	tool(t, "", "kubectl", "rollout", "status", "daemonset/multihome", "--namespace", "kube-system", "--timeout", "2m")
	for _, node := range []string{"node1", "node2"} {
		for _, plugin := range ours {
			want, err := os.ReadFile(filepath.Join(root, "bin/image/linux-"+runtime.GOARCH, plugin))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(fileOf(t, node, filepath.Join(bin, plugin))); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s of %s is not the image's (%v)", node, plugin, bin, err)
			}
		}
		for _, file := range dropIns {
			if _, err := os.Stat(fileOf(t, node, file)); err != nil {
				t.Error(err)
			}
		}
	}
	last := 180
	a, b := pair(t, func() []nic {
		last++
		return []nic{
			{name: "eth0", lan: 6, made: "kube-system/underlay", addrs: lanAddrs(6, last)},
			{name: "net1", lan: 7, made: "default/lan", addrs: lanAddrs(7, last)},
		}
	})
	for _, p := range []*pod{a, b} {
		reachable(t, p)
	}
	reachEachOther(t, a, b)
}
