// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/spool"
)

const (
	thisNode = "node1"
	machine  = "machine1"
)

// memory is a spool. before, if set, runs before each operation, and an error of it is
// that of the operation.
type memory struct {
	files  map[string][]byte
	before func(op, name string) error
}

func (m *memory) op(op, name string) error {
	if m.before != nil {
		return m.before(op, name)
	}
	return nil
}

func (m *memory) Read(name string) ([]byte, error) {
	if err := m.op("read", name); err != nil {
		return nil, err
	}
	b, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(b), nil
}

func (m *memory) Write(name string, contents []byte) error {
	if err := m.op("write", name); err != nil {
		return err
	}
	m.files[name] = slices.Clone(contents)
	return nil
}

func (m *memory) Remove(name string) error {
	if err := m.op("remove", name); err != nil {
		return err
	}
	delete(m.files, name)
	return nil
}

func (m *memory) List(dir string) ([]string, error) {
	if err := m.op("list", dir); err != nil {
		return nil, err
	}
	var out []string
	for name := range m.files {
		if path.Dir(name) == dir {
			out = append(out, path.Base(name))
		}
	}
	slices.Sort(out)
	return out, nil
}

// nets are the network namespaces of a machine, by inode.
type nets map[uint64]*namespace

type namespace struct {
	path      string // "" if it has only processes
	addresses []netip.Addr
}

func (n nets) Look(id netns.ID) (bool, []netip.Addr, error) {
	found := n[id.Inode]
	if found == nil {
		return false, nil, nil
	}
	return found.path == id.Path, found.addresses, nil
}

func (n nets) Find(addresses []netip.Addr) ([]netns.ID, error) {
	var out []netns.ID
	for _, inode := range slices.Sorted(maps.Keys(n)) {
		if slices.ContainsFunc(n[inode].addresses, func(a netip.Addr) bool { return slices.Contains(addresses, a) }) {
			out = append(out, netns.ID{Path: n[inode].path, Inode: inode})
		}
	}
	return out, nil
}

// Busy: in these tests, plugins end before the agent looks.
func (n nets) Busy(string) (bool, error) { return false, nil }

// world is a node and a cluster.
type world struct {
	t     testing.TB
	c     client.WithWatch
	files *memory
	nets  nets
	agent *Agent
	boots int
	made  int // objects and namespaces so far
	// write, if set, runs before each write to the API server.
	write func() error
}

func newWorld(t testing.TB) *world {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v2beta1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, files: &memory{files: map[string][]byte{}}, nets: nets{}, boots: 1}
	w.c = fake.NewClientBuilder().WithScheme(s).WithStatusSubresource(&v2beta1.SpiderEndpoint{}, &v1alpha1.NodeSpool{}).
		WithIndex(&corev1.Pod{}, "spec.nodeName", func(o client.Object) []string { return []string{o.(*corev1.Pod).Spec.NodeName} }).Build()
	w.start()
	return w
}

// start starts an agent, as after a crash.
func (w *world) start() {
	w.t.Helper()
	w.restart()
	w.ok(w.agent.Start(w.t.Context()))
}

func (w *world) restart() {
	writer := interceptor.NewClient(w.c, interceptor.Funcs{
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			if w.write != nil {
				if err := w.write(); err != nil {
					return err
				}
			}
			return c.SubResource(sub).Update(ctx, o, opts...)
		},
	})
	w.agent = &Agent{
		Node: thisNode, MachineID: machine, BootID: fmt.Sprint("boot", w.boots),
		Files: w.files, Pods: w.c, Live: w.c, Writer: writer, Namespaces: w.nets,
	}
}

// reboot ends all namespaces. The spool is on a tmpfs, unless keep is set.
func (w *world) reboot(keep bool) {
	w.boots++
	clear(w.nets)
	if !keep {
		clear(w.files.files)
	}
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pod(name, uid string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(uid)}}
	p.Spec.NodeName = thisNode
	for _, f := range change {
		f(p)
	}
	w.ok(w.c.Create(w.t.Context(), p))
	return p
}

func (w *world) delete(o client.Object) { w.ok(client.IgnoreNotFound(w.c.Delete(w.t.Context(), o))) }

// claim makes a Ready claim with NICs eth0, net1, ..., whose addresses are the pod's.
func (w *world) claim(name, uid string, addresses ...string) *v2beta1.SpiderEndpoint {
	w.made++
	c := &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(fmt.Sprint("claim", w.made))}}
	c.Spec = v2beta1.SpiderEndpointSpec{PodUID: uid, NodeName: thisNode, MachineID: machine}
	status := v2beta1.SpiderEndpointStatus{Phase: v2beta1.Allocated, Current: &v2beta1.PodCurrent{UID: uid, Node: thisNode}}
	for i, a := range addresses {
		nic := "eth0"
		if i > 0 {
			nic = fmt.Sprint("net", i)
		}
		c.Spec.NICs = append(c.Spec.NICs, v2beta1.EndpointNIC{Interface: nic, Network: "lan"})
		status.Current.IPs = append(status.Current.IPs, v2beta1.NICAddresses{Interface: nic, IPv4: a + "/16", IPv4Gateway: "10.6.0.1", IPv4Pool: "pool"})
		w.address(a, uid)
	}
	w.ok(w.c.Create(w.t.Context(), c))
	c.Status = status
	w.ok(w.c.Status().Update(w.t.Context(), c))
	return c
}

// address makes an IPAddress.
func (w *world) address(a, uid string) *v1alpha1.IPAddress {
	ip := &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: ipam.Key{Addr: netip.MustParseAddr(a)}.String()}}
	ip.Spec = v1alpha1.IPAddressSpec{Address: a, Pool: "pool", State: v1alpha1.Allocated, Holders: []v1alpha1.Holder{{PodUID: uid}}}
	w.ok(w.c.Create(w.t.Context(), ip))
	return ip
}

// change writes the status of a claim.
func (w *world) change(c *v2beta1.SpiderEndpoint, f func(*v2beta1.SpiderEndpoint)) {
	w.t.Helper()
	w.ok(w.c.Get(w.t.Context(), client.ObjectKeyFromObject(c), c))
	f(c)
	w.ok(w.c.Status().Update(w.t.Context(), c))
}

// box is a sandbox of a pod, as its runtime sees it.
type box struct {
	spool.Want
	inode uint64
}

func (w *world) box(pod, uid string) box {
	w.made++
	b := box{inode: uint64(w.made), Want: spool.Want{Namespace: "default", Pod: pod, UID: uid, ContainerID: fmt.Sprint("c", w.made), Interface: "eth0", Call: "1", Network: "lan"}}
	b.Netns = netns.ID{Path: "/run/netns/" + b.ContainerID, Inode: b.inode}
	w.nets[b.inode] = &namespace{path: b.Netns.Path}
	return b
}

// runs makes a pod with a claim, and a sandbox that has its address.
func (w *world) runs(name, uid string) (*corev1.Pod, *v2beta1.SpiderEndpoint, box) {
	w.t.Helper()
	p, claim := w.pod(name, uid), w.claim(name, uid, addr)
	w.sync(1)
	b := w.box(name, uid)
	nic, err := w.add(b)
	w.ok(err)
	w.set(b, nic)
	return p, claim, b
}

// onWrite calls f before a file of the spool is written.
func (w *world) onWrite(name string, f func()) {
	w.files.before = func(op, of string) error {
		if op == "write" && of == name {
			f()
		}
		return nil
	}
}

var errOver = errors.New("the time is over")

// add runs ADD of the IPAM plugin, without the patience to wait.
func (w *world) add(b box) (spool.NIC, error) {
	return spool.Add(w.files, spool.Call{Want: b.Want, Boot: w.agent.BootID}, func() error { return errOver })
}

// set gives a namespace the addresses of a NIC, as the main plugin does.
func (w *world) set(b box, n spool.NIC) {
	if ns := w.nets[b.inode]; ns != nil {
		for _, a := range n.Addresses {
			ns.addresses = append(ns.addresses, a.Address.Addr())
		}
	}
}

func (w *world) del(b box) {
	w.t.Helper()
	w.ok(spool.Del(w.files, b.ContainerID, b.Interface))
}

// sync runs passes of the agent over all that it knows, and the pods given.
func (w *world) sync(passes int, uids ...string) {
	w.t.Helper()
	for range passes {
		w.ok(w.pass(uids...))
	}
}

func (w *world) pass(more ...string) error {
	uids, err := w.agent.UIDs(w.t.Context())
	if err != nil {
		return err
	}
	for _, uid := range append(uids, more...) {
		if _, err := w.agent.SyncPod(w.t.Context(), uid); err != nil {
			return err
		}
	}
	_, err = w.agent.SyncNode(w.t.Context())
	return err
}

// withdrawn reports whether a claim says so.
func (w *world) withdrawn(c *v2beta1.SpiderEndpoint) bool {
	w.t.Helper()
	now := &v2beta1.SpiderEndpoint{}
	w.ok(w.c.Get(w.t.Context(), client.ObjectKeyFromObject(c), now))
	return now.Status.Withdrawn != nil
}

func (w *world) served(uid string) *spool.Pod {
	w.t.Helper()
	p, err := w.agent.pod(uid)
	w.ok(err)
	return p
}

func (w *world) nodeSpool() v1alpha1.NodeSpool {
	w.t.Helper()
	n := v1alpha1.NodeSpool{}
	w.ok(w.c.Get(w.t.Context(), client.ObjectKey{Name: thisNode}, &n))
	return n
}

// left returns the files of the spool that are about pods of now.
func (w *world) left() []string {
	var out []string
	for name := range w.files.files {
		if strings.Contains(name, "/") && !strings.HasPrefix(name, "withdrawn/") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
