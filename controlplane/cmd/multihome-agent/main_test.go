// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/nodehealth"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/spool"
	"github.com/multihome/multihome/pkg/testbed"
)

// binary is the agent, which TestMain builds.
var binary string

func TestMain(m *testing.M) { testcluster.WithBinary(m, &binary) }

// diagnose puts a program beside the agent that says of the node what multihome doctor would.
func diagnose(t *testing.T, report string) {
	t.Helper()
	path := filepath.Join(filepath.Dir(binary), "multihome")
	script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", report)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(path) })
}

// rights are what an agent needs; TestRoles compares the role in deploy/.
var rights = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get"}},
	{APIGroups: []string{""}, Resources: []string{"nodes/status"}, Verbs: []string{"patch"}},
	{APIGroups: []string{"spiderpool.spidernet.io"}, Resources: []string{"spidercoordinators"}, Verbs: []string{"get", "list", "watch"}},
	{APIGroups: []string{"spiderpool.spidernet.io"}, Resources: []string{"spiderendpoints"}, Verbs: []string{"get", "watch"}},
	{APIGroups: []string{"spiderpool.spidernet.io"}, Resources: []string{"spiderendpoints/status"}, Verbs: []string{"update"}},
	{APIGroups: []string{"multihome.io"}, Resources: []string{"ipaddresses"}, Verbs: []string{"get", "list"}},
	{APIGroups: []string{"multihome.io"}, Resources: []string{"nodespools"}, Verbs: []string{"get", "list", "watch", "create"}},
	{APIGroups: []string{"multihome.io"}, Resources: []string{"nodespools/status"}, Verbs: []string{"update"}},
	{APIGroups: []string{"events.k8s.io"}, Resources: []string{"events"}, Verbs: []string{"create", "patch"}},
}

// bench is a node of a cluster.
type bench struct {
	*testing.T
	c          client.Client
	ns, node   string
	dir        string // of the spool
	caches     string // of the runtime, which has no pods
	kubeconfig string // of the agent
	addr       netip.Addr
	agent      *process
}

func newBench(t *testing.T) *bench {
	b := newNode(t, testcluster.Config(t))
	b.create(&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: b.node}, Rules: rights})
	b.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: b.node}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: b.node},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: b.ns, Name: "default"}},
	})
	eventually(t, "the namespace's account", func() bool {
		return b.c.Get(t.Context(), client.ObjectKey{Namespace: b.ns, Name: "default"}, &corev1.ServiceAccount{}) == nil
	})
	b.kubeconfig = testcluster.Kubeconfig(t, "default", "--namespace", b.ns)
	b.start()
	return b
}

// newNode makes a node, without an agent, and speaks for the rest of the cluster.
func newNode(t *testing.T, config *rest.Config) *bench {
	b := &bench{T: t, addr: netip.AddrFrom4([4]byte{198, 18, byte(rand.N(256)), byte(1 + rand.N(254))})}
	scheme := testcluster.Scheme(t)
	b.ok(v1alpha1.AddToScheme(scheme))
	b.ok(rbacv1.AddToScheme(scheme))
	var err error
	b.c, err = client.New(config, client.Options{Scheme: scheme})
	b.ok(err)
	b.ns = testcluster.Namespace(t, b.c)
	b.node = "node-" + b.ns
	id, err := machineID("/etc/machine-id", "/var/lib/dbus/machine-id")
	b.ok(err)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: b.node}}
	b.create(node)
	node.Status.NodeInfo.MachineID = id
	b.ok(b.c.Status().Update(t.Context(), node))
	private := t.TempDir()
	b.ok(os.Chmod(private, 0o700))
	b.dir, b.caches = filepath.Join(private, "ipam"), filepath.Join(private, "cni")
	return b
}

func (b *bench) ok(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bench) create(o client.Object) {
	b.Helper()
	b.ok(b.c.Create(b.Context(), o))
	if o.GetNamespace() == "" {
		b.Cleanup(func() { _ = b.c.Delete(context.Background(), o) })
	}
}

// process is a running agent.
type process struct {
	*exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
}

func (p *process) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(text)
}

func (p *process) logged(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Contains(p.log.String(), text)
}

// defaults returns the path of the node's defaults.
func (b *bench) defaults() string {
	return filepath.Join(filepath.Dir(b.dir), "etc", "coordinator.json")
}

// start starts the agent.
func (b *bench) start() {
	b.Helper()
	b.agent = b.run()
}

func (b *bench) run(args ...string) *process {
	b.Helper()
	args = append([]string{"--node", b.node, "--spool", b.dir, "--cache-dirs", b.caches, "--defaults", b.defaults(), "--metrics-address", "0", "--health-address", "0", "--kubeconfig", b.kubeconfig}, args...)
	p := &process{Cmd: exec.Command(binary, args...)}
	p.Stdout, p.Stderr = p, p
	b.ok(p.Start())
	b.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
		if b.Failed() {
			b.Logf("%s", p.log.String())
		}
		if p.logged("forbidden") {
			b.Error("something is forbidden to it")
		}
	})
	return p
}

// kill kills the agent.
func (b *bench) kill() {
	_ = b.agent.Process.Kill()
	_ = b.agent.Wait() // it was killed
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 12000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it doesn't come: " + what)
}

// pod makes a pod on the node, and returns it.
func (b *bench) pod(name string) *corev1.Pod {
	b.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: name, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "lan"}}}
	p.Spec = corev1.PodSpec{NodeName: b.node, Containers: []corev1.Container{{Name: "c", Image: "none"}}}
	b.create(p)
	return p
}

// give makes a Ready claim with the bench's address, as the controller does.
func (b *bench) give(p *corev1.Pod) *v2beta1.SpiderEndpoint {
	b.Helper()
	c := &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: p.Name}}
	c.Spec = v2beta1.SpiderEndpointSpec{PodUID: string(p.UID), NodeName: b.node, Since: metav1.Now(), NICs: []v2beta1.EndpointNIC{{Interface: "eth0", Network: "lan"}}}
	b.create(c)
	b.create(&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: b.addr.String()}, Spec: v1alpha1.IPAddressSpec{
		Address: b.addr.String(), Pool: "pool", State: v1alpha1.Allocated,
		Holders: []v1alpha1.Holder{{Namespace: b.ns, Pod: p.Name, PodUID: string(p.UID), Interface: "eth0", Node: b.node}},
	}})
	c.Status.Phase = v2beta1.Allocated
	c.Status.Current = &v2beta1.PodCurrent{UID: string(p.UID), Node: b.node, IPs: []v2beta1.NICAddresses{{Interface: "eth0", IPv4: b.addr.String() + "/15", IPv4Pool: "pool"}}}
	b.ok(b.c.Status().Update(b.Context(), c))
	return c
}

// takeBack removes claim and address, as the controller does.
func (b *bench) takeBack(c *v2beta1.SpiderEndpoint) {
	b.ok(client.IgnoreNotFound(b.c.Delete(b.Context(), c)))
	b.ok(b.c.Delete(b.Context(), &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: b.addr.String()}}))
}

func (b *bench) remove(p *corev1.Pod) {
	b.Helper()
	b.ok(client.IgnoreNotFound(b.c.Delete(b.Context(), p, client.GracePeriodSeconds(0))))
}

func (b *bench) withdrawn(c *v2beta1.SpiderEndpoint) bool {
	b.Helper()
	b.ok(b.c.Get(b.Context(), client.ObjectKeyFromObject(c), c))
	return c.Status.Withdrawn != nil
}

// served waits until the agent has a file of the pod: it is what names the claim once the pod
// is gone. Without it, only the controller can ask, and there is none here.
func (b *bench) served(p *corev1.Pod) {
	b.Helper()
	eventually(b.T, "the pod in the spool", func() bool {
		_, err := b.files().Read(spool.PodFile(string(p.UID)))
		return err == nil
	})
}

func (b *bench) nodeSpool() v1alpha1.NodeSpoolStatus {
	n := &v1alpha1.NodeSpool{}
	_ = b.c.Get(b.Context(), client.ObjectKey{Name: b.node}, n) // it may not be there yet
	return n.Status
}

// files returns the spool as the plugin has it.
func (b *bench) files() *spool.Directory {
	b.Helper()
	d, err := spool.OpenDir(b.dir)
	b.ok(err)
	return d
}

// sandbox is a namespace with its call of ADD.
type sandbox struct {
	*testbed.Netns
	spool.Want
}

func (b *bench) sandbox(p *corev1.Pod) sandbox {
	b.Helper()
	ns, err := testbed.NewNetns(p.Name)
	b.ok(err)
	b.Cleanup(func() { _ = ns.Close() })
	s := sandbox{ns, spool.Want{Namespace: b.ns, Pod: p.Name, UID: string(p.UID), ContainerID: spool.NewCall(), Interface: "eth0", Call: spool.NewCall(), Network: "lan"}}
	info, err := os.Stat(ns.Path())
	b.ok(err)
	s.Want.Netns = netns.ID{Path: ns.Path(), Inode: info.Sys().(*syscall.Stat_t).Ino}
	return s
}

var errOver = errors.New("the time is over")

// add runs ADD, repeats it as the kubelet does, and gives the namespace its address.
func (b *bench) add(s sandbox) {
	b.Helper()
	boot, err := spool.BootID()
	b.ok(err)
	var nic spool.NIC
	eventually(b.T, "ADD", func() bool {
		s.Call = spool.NewCall()
		tries := 0
		nic, err = spool.Add(b.files(), spool.Call{Want: s.Want, Boot: boot}, func() error {
			if tries++; tries == 100 {
				return errOver
			}
			time.Sleep(10 * time.Millisecond)
			return nil
		})
		return err == nil
	})
	b.ok(s.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(nic.Addresses[0].Address.String())
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, addr)
	}))
}

func (b *bench) del(s sandbox) {
	b.Helper()
	b.ok(spool.Del(b.files(), s.ContainerID, s.Interface))
}

// stops waits until the agent knows that the pod is gone.
func (b *bench) stops(p *corev1.Pod) {
	b.Helper()
	eventually(b.T, "the end of what is served", func() bool {
		text, err := b.files().Read(spool.PodFile(string(p.UID)))
		return err == nil && strings.Contains(string(text), "given back") || err != nil
	})
}

// looks waits until the agent has answered twice more in its NodeSpool, so that it has
// looked at all pods meanwhile.
func (b *bench) looks() {
	b.Helper()
	for i := range 2 {
		uid := fmt.Sprint("nobody", i)
		n := &v1alpha1.NodeSpool{}
		b.ok(b.c.Get(b.Context(), client.ObjectKey{Name: b.node}, n))
		n.Spec.Ask = []string{uid}
		b.ok(b.c.Update(b.Context(), n))
		eventually(b.T, "the agent's answer", func() bool { return slices.Contains(b.nodeSpool().Withdrawn, uid) })
		time.Sleep(2 * soonest)
	}
}

// soonest is the time after which the agent looks again.
const soonest = time.Second

// TestLife has a pod from its binding to its end, and another one that gets its address.
func TestLife(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"first", "second"} {
		p := b.pod(name)
		claim := b.give(p)
		s := b.sandbox(p)
		b.add(s)
		b.remove(p)
		b.stops(p)
		b.looks()
		if b.withdrawn(claim) {
			t.Fatal("withdrawn, and its sandbox is there")
		}
		b.del(s)
		b.looks()
		if b.withdrawn(claim) {
			t.Fatal("withdrawn after DEL, and the address is there")
		}
		b.ok(s.Close())
		eventually(t, "withdrawn", func() bool { return b.withdrawn(claim) })
		b.takeBack(claim)
	}
}

// TestDown has an agent that is down at ADD, at DEL and when the namespace goes without a DEL. DEL
// comes when the pod's object is gone (F.6 X26), and the address is free when the agent is back (X25).
func TestDown(t *testing.T) {
	for name, del := range map[string]bool{"X25, X26: DEL": true, "no DEL": false} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.pod("web")
			claim := b.give(p)
			eventually(t, "what is served", func() bool { _, err := b.files().Read(spool.PodFile(string(p.UID))); return err == nil })
			b.kill()
			s := b.sandbox(p)
			b.add(s)
			b.remove(p)
			if del {
				b.del(s)
			}
			b.ok(s.Close())
			b.start()
			eventually(t, "withdrawn", func() bool { return b.withdrawn(claim) })
		})
	}
}

// TestLate has the claim come after ADD began, of a pod that names no network.
func TestLate(t *testing.T) {
	b := newBench(t)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "web"}, Spec: corev1.PodSpec{NodeName: b.node, Containers: []corev1.Container{{Name: "c", Image: "none"}}}}
	b.create(p)
	s := b.sandbox(p)
	eventually(t, "a spool", func() bool { _, err := spool.GetReady(b.files()); return err == nil })
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.add(s)
	}()
	eventually(t, "the want in the NodeSpool", func() bool {
		return slices.ContainsFunc(b.nodeSpool().Wants, func(w v1alpha1.Want) bool { return w.PodUID == string(p.UID) && w.Network == "lan" })
	})
	b.give(p)
	<-done
	eventually(t, "the end of the want", func() bool { return len(b.nodeSpool().Wants) == 0 })
}

// TestSpoolDeleted deletes the spool of a running agent: the pod is served again, and is
// withdrawn only when its address is in no namespace.
func TestSpoolDeleted(t *testing.T) {
	b := newBench(t)
	p := b.pod("web")
	claim := b.give(p)
	s := b.sandbox(p)
	b.add(s)
	sleep := exec.Command("sleep", "1000") // the namespace of a pod has a path or a process
	b.ok(s.Do(sleep.Start))
	end := func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }
	t.Cleanup(end)
	eventually(t, "the end of the spool", func() bool { return os.RemoveAll(b.dir) == nil }) // the agent makes it again meanwhile
	boot, err := spool.BootID()
	b.ok(err)
	eventually(t, "a spool again", func() bool { d, err := spool.OpenDir(b.dir); return err == nil && spool.Status(d, boot) == nil })
	b.served(p)
	b.remove(p)
	b.looks()
	if b.withdrawn(claim) {
		t.Fatal("withdrawn, and the address is in a namespace")
	}
	end()
	b.ok(s.Close())
	eventually(t, "withdrawn", func() bool { return b.withdrawn(claim) })
}

// TestForced deletes pod and claim while the sandbox runs: the NodeSpool has it.
func TestForced(t *testing.T) {
	b := newBench(t)
	p := b.pod("web")
	claim := b.give(p)
	s := b.sandbox(p)
	b.add(s)
	b.ok(b.c.Delete(t.Context(), claim))
	b.remove(p)
	eventually(t, "the question", func() bool { // the agent writes the NodeSpool, too
		n := &v1alpha1.NodeSpool{}
		b.ok(b.c.Get(t.Context(), client.ObjectKey{Name: b.node}, n))
		n.Spec.Ask = []string{string(p.UID)}
		return b.c.Update(t.Context(), n) == nil
	})
	eventually(t, "the sandbox in the NodeSpool", func() bool {
		return slices.ContainsFunc(b.nodeSpool().Sandboxes, func(s v1alpha1.Sandbox) bool {
			return s.PodUID == string(p.UID) && s.Addresses[0].Address == b.addr.String()
		})
	})
	if slices.Contains(b.nodeSpool().Withdrawn, string(p.UID)) {
		t.Fatal("withdrawn, and its sandbox is there")
	}
	b.ok(s.Close())
	eventually(t, "the answer", func() bool {
		return slices.Contains(b.nodeSpool().Withdrawn, string(p.UID)) && len(b.nodeSpool().Sandboxes) == 0
	})
}

// TestKilled has pods that get the one address one after the other, while the agent is
// killed again and again. Some of its lives are long enough to look twice.
func TestKilled(t *testing.T) {
	b := newBench(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	var kills atomic.Int32
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(rand.N(4 * time.Second)):
				b.kill()
				kills.Add(1)
				b.agent.log.Reset()
				b.agent.Cmd = exec.Command(binary, b.agent.Args[1:]...)
				b.agent.Stdout, b.agent.Stderr = b.agent, b.agent
				if err := b.agent.Start(); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	for i := 0; kills.Load() < 6; i++ {
		p := b.pod(fmt.Sprint("web", i))
		claim := b.give(p)
		s := b.sandbox(p)
		b.add(s)
		b.remove(p)
		if b.withdrawn(claim) {
			t.Error("withdrawn, and its sandbox is there")
		}
		if i%2 == 0 {
			b.del(s)
		}
		if b.withdrawn(claim) {
			t.Error("withdrawn, and its address is there")
		}
		b.ok(s.Close())
		eventually(t, "withdrawn", func() bool { return b.withdrawn(claim) })
		b.takeBack(claim)
	}
	close(stop)
	<-stopped
}

// TestOne has two agents on a spool: the second one waits for the end of the first.
func TestOne(t *testing.T) {
	b := newBench(t)
	eventually(t, "the first", func() bool { _, err := spool.GetReady(b.files()); return err == nil })
	first := b.agent
	b.start()
	p := b.pod("web")
	b.give(p)
	b.add(b.sandbox(p))
	if b.agent.logged("Starting Controller") {
		t.Error("both run")
	}
	_ = first.Process.Kill()
	_ = first.Wait() // it was killed
	eventually(t, "the second", func() bool { return b.agent.logged("Starting Controller") })
}

// TestRefuses: what is wrong is said in a sentence, and the agent ends.
func TestRefuses(t *testing.T) {
	b := newBench(t)
	b.kill()
	n := &corev1.Node{}
	b.ok(b.c.Get(t.Context(), client.ObjectKey{Name: b.node}, n))
	n.Status.NodeInfo.MachineID = "another"
	b.ok(b.c.Status().Update(t.Context(), n))
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"an argument":     {[]string{"--node", "x", "y"}, `y\": want no arguments`},
		"no node":         {nil, "--node: want the name of the node"},
		"another machine": {[]string{"--node", b.node, "--spool", b.dir, "--cache-dirs", "", "--kubeconfig", b.kubeconfig}, `has the machine ID \"another\"`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, tt.args...)
			cmd.Env = append(os.Environ(), "NODE_NAME=")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// condition returns what the Node says of multihome: "STATUS REASON", "" if nothing.
func (b *bench) condition() string {
	n := &corev1.Node{}
	b.ok(b.c.Get(b.Context(), client.ObjectKey{Name: b.node}, n))
	for _, c := range n.Status.Conditions {
		if c.Type == nodehealth.Type {
			return string(c.Status) + " " + c.Reason
		}
	}
	return ""
}

// TestStartsWithoutAPIServer: an agent that starts while the API server doesn't answer goes on, for it mends
// pods; it is healthy, and ready when the API server has answered.
func TestStartsWithoutAPIServer(t *testing.T) {
	b := newBench(t)
	b.kill()
	config, err := clientcmd.LoadFromFile(b.kubeconfig)
	b.ok(err)
	unused := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		b.ok(err)
		defer l.Close()
		return l.Addr().String()
	}
	there, health := unused(), unused()
	var server *url.URL
	for _, c := range config.Clusters {
		server, err = url.Parse(c.Server)
		b.ok(err)
		c.Server, c.TLSServerName = "https://"+there, server.Hostname()
	}
	b.ok(clientcmd.WriteToFile(*config, b.kubeconfig))
	answers := func(path string, code int) {
		t.Helper()
		eventually(t, fmt.Sprint(path, " ", code), func() bool {
			r, err := http.Get("http://" + health + path) //nolint:gosec,noctx // the agent's own
			if err != nil {
				return false
			}
			defer r.Body.Close()
			return r.StatusCode == code
		})
	}
	former, err := net.Listen("tcp", health)
	b.ok(err)
	b.agent = b.run("--health-address", health)
	eventually(t, "that the API server doesn't answer", func() bool { return b.agent.logged("the API server doesn't answer") })
	eventually(t, "that another one has the port", func() bool { return b.agent.logged("another program has the port of health") })
	b.ok(former.Close())
	answers("/healthz", http.StatusOK)
	answers("/readyz", http.StatusServiceUnavailable)
	l, err := net.Listen("tcp", there)
	b.ok(err)
	defer l.Close()
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", server.Host)
			if err != nil {
				_ = from.Close()
				continue
			}
			go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
			go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
		}
	}()
	answers("/readyz", http.StatusOK)
	answers("/healthz", http.StatusOK)
	b.kill()
}

// TestIsPassing: which errors an agent waits out.
func TestIsPassing(t *testing.T) {
	gone := &url.Error{Op: "Get", URL: "https://x", Err: syscall.ECONNREFUSED}
	for err, want := range map[error]bool{
		gone:                            true,
		fmt.Errorf("mapping: %w", gone): true,
		apierrors.NewServiceUnavailable("a proxy"):                                   true,
		apierrors.NewUnauthorized("an old token"):                                    true,
		apierrors.NewTooManyRequests("later", 1):                                     true,
		apierrors.NewInternalError(io.EOF):                                           true,
		&meta.NoKindMatchError{}:                                                     true,
		apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "n"):          false,
		apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "n", io.EOF): false,
		errors.New("another machine"):                                                false,
		nil:                                                                          false,
	} {
		if got := isPassing(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// TestMetrics: the agent serves what only it knows, and what doctor found, at its port. As long as another
// program has that, it does all the rest.
func TestMetrics(t *testing.T) {
	diagnose(t, `{"findings": [{"id": "ip-forward", "severity": "warning", "what": "a"}]}`)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	b := newBench(t)
	b.kill()
	b.agent = b.run("--metrics-address", address)
	p := b.pod("unmistakable")
	b.give(p)
	s := b.sandbox(p)
	b.add(s)
	b.served(p)
	b.ok(listener.Close())
	b.remove(p)
	b.del(s)
	b.ok(s.Close())
	for _, want := range []string{
		`multihome_agent_findings{finding="ip-forward",severity="warning"} 1`, `multihome_agent_sandboxes_removed_total{del="yes"} 1`,
		"multihome_agent_pods_not_withdrawn 0", "multihome_agent_fights_total 0", "multihome_agent_examined_timestamp_seconds 1", "process_cpu_seconds_total",
	} {
		eventually(t, want, func() bool {
			answer, err := http.Get("http://" + address + "/metrics") //nolint:gosec,noctx // the agent's own
			if err != nil {
				return false
			}
			defer answer.Body.Close()
			text, err := io.ReadAll(answer.Body)
			if strings.Contains(string(text), p.Name) {
				t.Fatal("a metric names a pod")
			}
			return err == nil && strings.Contains(string(text), "\n"+want)
		})
	}
}

// unmendable has the agent say by events that a pod can't be mended, twice: the second event
// is a series.
func (b *bench) unmendable(p *corev1.Pod, s sandbox) {
	b.Helper()
	results := filepath.Join(b.caches, "results")
	file := filepath.Join(results, "lan-"+s.ContainerID+"-eth0")
	b.ok(os.MkdirAll(results, 0o700))
	b.ok(os.Chmod(results, 0o700))
	b.ok(os.Chmod(b.caches, 0o700))
	conf := base64.StdEncoding.EncodeToString([]byte(`{"cniVersion": "1.1.0", "name": "lan", "plugins": [{"type": "macvlan"}, {"type": "coordinator", "mode": "wrong"}]}`))
	text := fmt.Sprintf(`{"kind": "cniCacheV1", "containerId": %q, "config": %q, "ifName": "eth0", "networkName": "lan", "netns": %q,
		"cniArgs": [["K8S_POD_NAMESPACE", %q], ["K8S_POD_NAME", %q], ["K8S_POD_UID", %q]], "result": {"cniVersion": "1.1.0"}}`,
		s.ContainerID, conf, s.Want.Netns.Path, p.Namespace, p.Name, p.UID)
	for _, want := range []string{"an event", "a series"} {
		b.ok(os.WriteFile(file, []byte(text), 0o600))
		eventually(b.T, want, func() bool {
			var list eventsv1.EventList
			b.ok(b.c.List(b.Context(), &list, client.InNamespace(p.Namespace)))
			return slices.ContainsFunc(list.Items, func(e eventsv1.Event) bool {
				return e.Reason == "NetworkNotMended" && e.Regarding.UID == p.UID && strings.Contains(e.Note, "mode") && (want == "an event" || e.Series != nil)
			})
		})
		b.ok(os.Remove(file))
		time.Sleep(2 * time.Second) // until the agent has seen that it is gone
	}
}

// TestRoles runs an agent with the rights that deploy/ gives it, and a token of its node, under
// the policies of deploy/: it serves, withdraws and answers, nothing is forbidden to it, and it
// has no right that it doesn't use. It may not speak for another node.
func TestRoles(t *testing.T) {
	testcluster.Install(t)
	diagnose(t, `{"findings": []}`)
	config := testcluster.Config(t)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:multihome-controller", Groups: []string{"system:masters"}}
	b, other := newNode(t, config), newNode(t, config)
	b.kubeconfig = testcluster.Kubeconfig(t, "multihome-agent", "--namespace", "kube-system", "--bound-object-kind", "Node", "--bound-object-name", b.node)
	b.start()

	cluster := &v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	b.create(cluster)
	cluster.Status = v2beta1.SpiderCoordinatorStatus{Phase: v2beta1.Synced, ServiceCIDR: []string{"198.51.100.0/24"}}
	b.ok(b.c.Status().Update(t.Context(), cluster))
	eventually(t, "the node's defaults", func() bool {
		keys, err := nodeconf.Read(b.defaults())
		return err == nil && string(keys["serviceCIDR"]) != ""
	})

	p := b.pod("web")
	eventually(t, "a spool", func() bool { _, err := spool.GetReady(b.files()); return err == nil })
	eventually(t, "a watch of the claim, which isn't there yet", func() bool {
		return !slices.ContainsFunc(testcluster.Unused(t, "multihome-agent"), func(right string) bool {
			return strings.Contains(right, "spiderendpoints") && strings.Contains(right, "watch")
		})
	})
	claim := b.give(p)
	s := b.sandbox(p)
	b.add(s)
	b.unmendable(p, s)
	eventually(t, "the end of the spool", func() bool { return os.RemoveAll(b.dir) == nil })
	eventually(t, "a spool again", func() bool { _, err := spool.GetReady(b.files()); return err == nil })
	b.served(p)
	b.remove(p)
	b.looks()
	b.ok(s.Close())
	eventually(t, "withdrawn", func() bool { return b.withdrawn(claim) })
	b.takeBack(claim)
	eventually(t, "the Node's condition", func() bool { return b.condition() == "True NoProblem" })

	own, err := clientcmd.BuildConfigFromFlags("", b.kubeconfig)
	b.ok(err)
	agent, err := client.New(own, client.Options{Scheme: b.c.Scheme()})
	b.ok(err)
	if err := agent.Create(t.Context(), &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: other.node}}); err == nil || !strings.Contains(err.Error(), "whose token is of node "+b.node) {
		t.Errorf("it makes another node's NodeSpool: %v", err)
	}
	claim = other.give(other.pod("web"))
	claim.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: "machine"}
	if err := agent.Status().Update(t.Context(), claim); err == nil || !strings.Contains(err.Error(), "by the agent of node "+other.node) {
		t.Errorf("it withdraws another node's claim: %v", err)
	}
	if unused := testcluster.Unused(t, "multihome-agent"); len(unused) > 0 {
		t.Errorf("rights that it doesn't use:\n%s", strings.Join(unused, "\n"))
	}
}
