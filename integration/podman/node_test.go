// SPDX-License-Identifier: Apache-2.0

package podman

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/testbed"
)

// image is the name of the containers' image. Its only file is the program of
// integration/e2e/app, which answers HTTP at port 80.
const image = "localhost/app:1"

// node is a node on which podman runs. All of its processes are in one PID namespace, which
// ends with the first of them.
type node struct {
	*lab.Lab
	init *exec.Cmd // the first process, which ends when its standard input does
}

// prepare gives the first process, and so all others, files of their own beside those of a
// testbed.Machine, and installs the plugins. On a machine with both versions of cgroups, crun
// doesn't start; cgroup2 alone hides that. $1 is the directory of the plugins.
const prepare = `
	mount -t proc proc /proc
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t tmpfs tmpfs /dev/shm
	mkdir -p /run/lib/cni /run/lib/containers /run/tmp
	mount --rbind /var/lib/cni /run/lib/cni
	mount --rbind /run/lib /var/lib
	cp -a /etc/containers /run/containers.etc
	mount --bind /run/containers.etc /etc/containers
	mkdir -p /etc/containers/containers.conf.d
	mount -t tmpfs tmpfs /opt
	mkdir -p /opt/cni/bin /etc/cni/net.d
	"$1/multihome" install --from "$1" --to /opt/cni/bin >/dev/null
	echo ready
	read -r _
`

// settings makes podman work anywhere: it keeps the images in memory, and needs no cgroups.
var settings = map[string]string{
	"/etc/containers/containers.conf.d/test.conf": "[containers]\ncgroups = \"disabled\"\n[engine]\nruntime = \"crun\"\nevents_logger = \"none\"\n",
	"/etc/containers/storage.conf":                "[storage]\ndriver = \"vfs\"\ngraphroot = \"/run/containers/graph\"\nrunroot = \"/run/containers/run\"\n",
}

// newNode makes a node in two LANs, with some of the networks.
func newNode(t *testing.T, networks ...string) *node {
	t.Helper()
	n := &node{Lab: fixture.NewLab(t, lab.Ens192(), lab.Ens224())}
	n.start(t)
	for path, text := range settings {
		n.write(t, path, text)
	}
	blocks := printed(t)
	n.write(t, "/etc/containers/containers.conf", blocks["network_backend"])
	for _, name := range networks {
		n.network(t, name, conflist(blocks, name))
	}
	file, err := imageFile()
	if err != nil {
		t.Fatal(err)
	}
	n.write(t, "/run/image.tar", file)
	n.podman(t, "load", "--quiet", "--input", "/run/image.tar")
	return n
}

// conflist returns a network: one of those that docs/install.md prints, or one in their form.
// The LAN remembers the MACs of addresses, so networks that run beside those have addresses of
// their own.
func conflist(blocks map[string]string, name string) string {
	lan, storage := blocks[`"name": "lan"`], blocks[`"name": "storage"`]
	others := strings.NewReplacer("168.10", "168.60", "::1000", "::1600")
	switch name {
	case "lan":
		return lan
	case "storage":
		return storage
	case "newer": // is of CNI 1.1.0
		return strings.Replace(lan, "1.0.0", "1.1.0", 1)
	case "bare": // has no coordinator
		return others.Replace(chained.ReplaceAllString(lan, ""))
	case "bridged": // has coordinator with another link to the node
		return strings.Replace(lan, `"type": "coordinator"`, `"type": "coordinator", "hostLink": "macvlan"`, 1)
	case "further": // has coordinator in the place of route
		return others.Replace(chained.ReplaceAllString(storage, chained.FindString(lan)))
	}
	panic(name)
}

// chained matches the plugin of ours in a network that docs/install.md prints, with the comma
// before it.
var chained = regexp.MustCompile(`,\s*\{"type": "(coordinator|route)".*\}`)

// printed returns the blocks of code in the section podman of docs/install.md, each by a text
// that is in it.
func printed(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## podman\n")
	section, _, _ = strings.Cut(section, "\n## ")
	out := map[string]string{}
	for _, block := range regexp.MustCompile("(?s)```(?:toml|json)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		for _, text := range []string{"network_backend", `"name": "lan"`, `"name": "storage"`} {
			if strings.Contains(block[1], text) {
				out[text] = block[1]
			}
		}
	}
	if len(out) != 3 {
		t.Fatalf("docs/install.md has other blocks than wanted: %q", out)
	}
	return out
}

// start starts the first process.
func (n *node) start(t *testing.T) {
	t.Helper()
	n.init = exec.Command("bash", "-euc", prepare, "bash", fixture.Plugins)
	n.init.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	var stderr strings.Builder
	n.init.Stderr = &stderr
	in, err := n.init.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.init.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Node.Run(n.init.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = n.init.Wait() // read says that its input ends
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q: %v: %s", line, err, stderr.String())
	}
}

// root returns the path of a file of the node.
func (n *node) root(path string) string {
	return filepath.Join("/proc", strconv.Itoa(n.init.Process.Pid), "root", path)
}

func (n *node) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(n.root(path), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// network writes a network under a name.
func (n *node) network(t *testing.T, name, conflist string) {
	t.Helper()
	conflist = regexp.MustCompile(`"name": ".*"`).ReplaceAllString(conflist, `"name": "`+name+`"`)
	n.write(t, "/etc/cni/net.d/"+name+".conflist", conflist)
}

// try runs a command on the node, among its processes.
func (n *node) try(t *testing.T, argv ...string) (stdout, stderr string, err error) {
	t.Helper()
	enter := []string{"--target", strconv.Itoa(n.init.Process.Pid), "--mount", "--pid", "--"}
	cmd := exec.CommandContext(t.Context(), "nsenter", append(enter, argv...)...)
	cmd.Env = append(os.Environ(), "TMPDIR=/run/tmp")
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err = n.Node.Run(cmd.Run)
	return strings.TrimSpace(out.String()), said.String(), err
}

// run runs a command, which must succeed, and returns its output.
func (n *node) run(t *testing.T, argv ...string) string {
	t.Helper()
	stdout, stderr, err := n.try(t, argv...)
	if err != nil {
		t.Fatalf("%s: %v: %s%s", strings.Join(argv, " "), err, stdout, stderr)
	}
	return stdout
}

func (n *node) podman(t *testing.T, args ...string) string {
	t.Helper()
	return n.run(t, append([]string{"podman"}, args...)...)
}

func (n *node) multihome(t *testing.T, args ...string) string {
	t.Helper()
	return n.run(t, append([]string{filepath.Join(fixture.Plugins, "multihome")}, args...)...)
}

// refused runs podman, which must fail with a text.
func (n *node) refused(t *testing.T, want string, args ...string) {
	t.Helper()
	stdout, stderr, err := n.try(t, append([]string{"podman"}, args...)...)
	if e := (*exec.ExitError)(nil); !errors.As(err, &e) || !strings.Contains(stderr, want) {
		t.Errorf("podman %s: %v, want it to fail with %q: %s%s", strings.Join(args, " "), err, want, stdout, stderr)
	}
}

// up starts a container, and returns it as a pod.
func (n *node) up(t *testing.T, name string, networks ...string) *lab.Pod {
	t.Helper()
	args := []string{"run", "--detach", "--name", name}
	for _, network := range networks {
		args = append(args, "--network", network)
	}
	n.podman(t, append(args, image, "serve")...)
	return n.pod(t, name)
}

// connect adds a network to a running container.
func (n *node) connect(t *testing.T, name string, network ...string) {
	t.Helper()
	n.podman(t, slices.Concat([]string{"network", "connect"}, network[1:], []string{network[0], name})...)
}

// pod returns a running container as a pod, with the results that podman keeps.
func (n *node) pod(t *testing.T, name string) *lab.Pod {
	t.Helper()
	id, netns, _ := strings.Cut(n.podman(t, "inspect", "--format", "{{.Id}} {{.NetworkSettings.SandboxKey}}", name), " ")
	opened, err := testbed.OpenNetns(name, n.root(netns))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { opened.Close() })
	p := &lab.Pod{Netns: opened, NetNS: netns, ContainerID: id, Results: map[string]*types100.Result{}}
	kept := json.NewDecoder(strings.NewReader(n.run(t, "sh", "-c", "cat /var/lib/cni/results/*-"+id+"-*")))
	for {
		var of struct {
			IfName string
			Result *types100.Result
		}
		if err := kept.Decode(&of); errors.Is(err, io.EOF) {
			return p
		} else if err != nil {
			t.Fatal(err)
		}
		p.Results[of.IfName] = of.Result
	}
}

// podmansOwn matches files in /run that are not ours.
var podmansOwn = regexp.MustCompile(`^node: /run(/([^m]|mount).*)?$`)

// state returns the state of the node without what podman keeps for itself, and with what CNI
// keeps: the number of namespaces, the results, and the addresses of host-local.
func (n *node) state(t *testing.T) fixture.State {
	t.Helper()
	kept := n.run(t, "sh", "-c", `ls /run/netns | wc -l; find /var/lib/cni -type f ! -name lock ! -name "last_reserved_ip.*" | sort`)
	return append(fixture.StateOf(t, n.Lab).But(podmansOwn).Unnumbered(), fixture.Prefixed("cni", kept)...)
}

// becomes waits until the node has a state.
func (n *node) becomes(t *testing.T, what string, want fixture.State) {
	t.Helper()
	for range 1200 {
		if slices.Equal(want, n.state(t)) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	fixture.Same(t, what, want, n.state(t))
}

// imageFile returns the image, in the form of `docker save`.
var imageFile = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "multihome-podman-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	app := filepath.Join(dir, "app")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", app, "../e2e/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	program, err := os.ReadFile(app)
	if err != nil {
		return "", err
	}
	layer, err := archive(file{"app", 0o755, program})
	if err != nil {
		return "", err
	}
	config := fmt.Appendf(nil, `{"os": "linux", "config": {"Entrypoint": ["/app"]}, "rootfs": {"type": "layers", "diff_ids": ["sha256:%x"]}}`, sha256.Sum256(layer))
	manifest := fmt.Appendf(nil, `[{"Config": "config.json", "RepoTags": [%q], "Layers": ["layer.tar"]}]`, image)
	all, err := archive(file{"manifest.json", 0o644, manifest}, file{"config.json", 0o644, config}, file{"layer.tar", 0o644, layer})
	return string(all), err
})

// file is a file of an archive.
type file struct {
	name string
	mode int64
	data []byte
}

func archive(files ...file) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}
