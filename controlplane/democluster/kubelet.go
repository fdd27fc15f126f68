// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/pkg/spool"
	"github.com/multihome/multihome/pkg/testbed"
)

const (
	lookEvery  = 200 * time.Millisecond // at the API server's pods
	retryAfter = time.Second            // a sandbox that could not be made
)

// kubelet does for pods of a node what kubelet and container runtime do, as far as networks
// are concerned: it makes a sandbox, calls CNI, and writes the pod's status. There are no
// containers: a process that waits holds the sandbox, and the demo answers at port 80.
type kubelet struct {
	client  client.Client
	node    *node
	network *libcni.NetworkConfigList
	cni     *libcni.CNIConfig

	mu   sync.Mutex
	pods map[types.UID]*worker
	all  sync.WaitGroup
}

// worker looks after one pod.
type worker struct {
	name string
	gone func()   // says that the pod is to end
	box  *sandbox // nil until the pod runs
	err  error    // of the last attempt to make the sandbox
}

// sandbox is a pod's network namespace.
type sandbox struct {
	*testbed.Netns
	conf   *libcni.RuntimeConf
	server *testbed.Server
	pause  *exec.Cmd
	ended  chan struct{} // closed when pause has ended
	ips    []netip.Addr
}

// newKubelet returns the kubelet of a node, whose plugins are in the demo's directory.
func newKubelet(d *demo, n *node) (*kubelet, error) {
	network, err := libcni.NetworkConfFromBytes([]byte(multusConfig(n, d.plugins)))
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(d.dir, n.Name()+"-cni.log"))
	if err != nil {
		return nil, err
	}
	d.closers = append(d.closers, log)
	// What plugins print on their standard error is the log's: Multus tells of its events.
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: log}}
	return &kubelet{
		client: d.client, node: n, network: network,
		cni:  libcni.NewCNIConfig([]string{d.plugins}, exec),
		pods: map[types.UID]*worker{},
	}, nil
}

// register makes the Node, ready and without the taint that the API server gives to new ones.
func (k *kubelet) register(ctx context.Context) error {
	id, err := machineID()
	if err != nil {
		return err
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: k.node.Name(), Labels: map[string]string{
		corev1.LabelHostname: k.node.Name(), corev1.LabelOSStable: "linux",
	}}}
	if err := k.client.Create(ctx, n); err != nil {
		return err
	}
	n.Spec.Taints = nil
	if err := k.client.Update(ctx, n); err != nil {
		return err
	}
	n.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	n.Status.Allocatable = n.Status.Capacity
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: k.node.addr.String()}, {Type: corev1.NodeHostName, Address: k.node.Name()},
	}
	n.Status.NodeInfo.MachineID = id
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", Message: "simulated"}}
	return k.client.Status().Update(ctx, n)
}

// machineID returns this machine's ID as the kubelet does: both nodes are this machine.
func machineID() (string, error) {
	for _, path := range []string{"/etc/machine-id", "/var/lib/dbus/machine-id"} {
		b, err := os.ReadFile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return strings.TrimSpace(string(b)), err
		}
	}
	return "", nil
}

// watch starts and ends pods until ctx ends, and returns when all workers ended.
func (k *kubelet) watch(ctx context.Context) {
	defer k.all.Wait()
	for ctx.Err() == nil {
		var list corev1.PodList
		// After an error the next look tells.
		if err := k.client.List(ctx, &list, client.MatchingFields{"spec.nodeName": k.node.Name()}); err == nil {
			k.sync(ctx, list.Items)
		}
		sleep(ctx, lookEvery)
	}
}

// sync starts a worker for each new pod, and tells those whose pods are to end.
func (k *kubelet) sync(ctx context.Context, pods []corev1.Pod) {
	k.mu.Lock()
	defer k.mu.Unlock()
	wanted := map[types.UID]bool{}
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil {
			if k.pods[p.UID] == nil { // it never ran here
				_ = k.remove(ctx, p) // the next look tries again
			}
			continue
		}
		wanted[p.UID] = true
		if k.pods[p.UID] == nil {
			lives, gone := context.WithCancel(ctx)
			w := &worker{name: p.Name, gone: gone}
			k.pods[p.UID] = w
			k.all.Go(func() { k.work(ctx, lives, p, w) })
		}
	}
	for uid, w := range k.pods {
		if !wanted[uid] {
			w.gone()
		}
	}
}

// work makes a pod's sandbox, ends it when the context lives ends, and then removes the pod.
// When ctx ends it leaves everything as it is: the namespaces end with this process.
func (k *kubelet) work(ctx, lives context.Context, p *corev1.Pod, w *worker) {
	var box *sandbox
	attempt(lives, func() (err error) {
		box, err = k.makeSandbox(ctx, p)
		return k.note(w, box, err)
	})
	attempt(lives, func() error { return k.note(w, box, k.running(ctx, p, box)) })
	<-lives.Done()
	attempt(ctx, func() error { return k.note(w, nil, k.end(ctx, p, box)) })
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.pods, p.UID)
}

// note notes a worker's sandbox and error, which it returns.
func (k *kubelet) note(w *worker, box *sandbox, err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	w.box, w.err = box, err
	return err
}

// attempt calls f until it succeeds, or ctx ends.
func attempt(ctx context.Context, f func() error) {
	for ctx.Err() == nil && f() != nil {
		sleep(ctx, retryAfter)
	}
}

// makeSandbox makes a namespace with a waiting process, and calls CNI ADD as containerd does:
// another container ID each time, and DEL after an ADD that failed.
func (k *kubelet) makeSandbox(ctx context.Context, p *corev1.Pod) (_ *sandbox, err error) {
	n, err := testbed.NewNetns(p.Name)
	if err != nil {
		return nil, err
	}
	id := uuid.NewString()
	box := &sandbox{Netns: n, ended: make(chan struct{}), conf: &libcni.RuntimeConf{
		ContainerID: strings.ReplaceAll(id+uuid.NewString(), "-", ""), NetNS: "/run/netns/cni-" + id, IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", p.Namespace}, {"K8S_POD_NAME", p.Name}, {"K8S_POD_UID", string(p.UID)},
		},
	}}
	box.conf.Args = append(box.conf.Args, [2]string{"K8S_POD_INFRA_CONTAINER_ID", box.conf.ContainerID})
	defer func() {
		if err != nil {
			err = errors.Join(err, k.removeSandbox(ctx, box))
		}
	}()
	if err := k.node.Pin(n, box.conf.NetNS); err != nil {
		return nil, err
	}
	if err := k.hold(ctx, box); err != nil {
		return nil, err
	}
	var result *types100.Result
	err = k.node.Run(func() error {
		r, err := k.cni.AddNetworkList(ctx, k.network, box.conf)
		if err != nil {
			return err
		}
		result, err = types100.NewResultFromResult(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, ip := range result.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok && (ip.Interface == nil || result.Interfaces[*ip.Interface].Sandbox != "") {
			box.ips = append(box.ips, addr.Unmap())
		}
	}
	if len(box.ips) == 0 {
		return nil, fmt.Errorf("pod %s: the result of CNI has no address: %v", p.Name, result)
	}
	box.server, err = n.Serve(80, testbed.Socket{})
	return box, err
}

// hold starts the process that waits in the sandbox, at the latest until ctx ends.
func (k *kubelet) hold(ctx context.Context, box *sandbox) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, asPause)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	k.all.Go(func() {
		// Run stays on its thread, so the process ends with it.
		defer close(box.ended)
		running := false
		err := k.node.Run(func() error {
			return box.Do(func() error {
				if err := cmd.Start(); err != nil {
					return err
				}
				running = true
				started <- nil
				_ = cmd.Wait() // it is killed
				return nil
			})
		})
		if !running {
			started <- err
		}
	})
	if err := <-started; err != nil {
		return err
	}
	box.pause = cmd
	return nil
}

// running writes what the kubelet writes about a pod that runs.
func (k *kubelet) running(ctx context.Context, p *corev1.Pod, box *sandbox) error {
	now := metav1.Now()
	patch := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}}
	before := patch.DeepCopy()
	s := &patch.Status
	s.Phase, s.HostIP, s.StartTime = corev1.PodRunning, k.node.addr.String(), &now
	s.PodIP = box.ips[0].String()
	for _, ip := range box.ips {
		s.PodIPs = append(s.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	for _, c := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: c, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for _, c := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, Ready: true, Started: ptr.To(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return k.client.Status().Patch(ctx, patch, client.StrategicMergeFrom(before))
}

// end ends a pod's sandbox, if there is one, and then removes its object.
func (k *kubelet) end(ctx context.Context, p *corev1.Pod, box *sandbox) error {
	if box != nil {
		if err := k.removeSandbox(ctx, box); err != nil {
			return err
		}
	}
	return k.remove(ctx, p)
}

// removeSandbox calls CNI DEL, and then removes the namespace, as containerd does. It may be
// called again after an error.
func (k *kubelet) removeSandbox(ctx context.Context, box *sandbox) error {
	if box.server != nil {
		if err := box.server.Close(); err != nil {
			return err
		}
		box.server = nil
	}
	if err := k.node.Run(func() error { return k.cni.DelNetworkList(ctx, k.network, box.conf) }); err != nil {
		return err
	}
	if box.pause != nil {
		if err := box.pause.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		<-box.ended
		box.pause = nil
	}
	err := k.node.Run(func() error {
		if err := syscall.Unmount(box.conf.NetNS, syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("unmount %s: %w", box.conf.NetNS, err)
		}
		if err := os.Remove(box.conf.NetNS); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	return errors.Join(err, box.Close())
}

// remove says to the API server that nothing of a pod is left.
func (k *kubelet) remove(ctx context.Context, p *corev1.Pod) error {
	err := k.client.Delete(ctx, p, client.GracePeriodSeconds(0), client.Preconditions{UID: &p.UID})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // it is gone
		return nil
	}
	return err
}

// sandboxOf returns the sandbox of a running pod; nil if there is none.
func (k *kubelet) sandboxOf(uid types.UID) *sandbox {
	k.mu.Lock()
	defer k.mu.Unlock()
	if w := k.pods[uid]; w != nil && w.err == nil {
		return w.box
	}
	return nil
}

// troubles returns what keeps pods from running.
func (k *kubelet) troubles() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []string
	for w := range maps.Values(k.pods) {
		if w.err != nil {
			out = append(out, fmt.Sprintf("pod %s on %s: %v", w.name, k.node.Name(), w.err))
		}
	}
	slices.Sort(out)
	return out
}

// left returns the files of sandboxes on the node: namespaces, what Multus and libcni
// remember, and what agent and plugin say to each other about sandboxes.
func (k *kubelet) left() ([]string, error) {
	var out []string
	err := k.node.Run(func() error {
		for _, pattern := range []string{
			"/run/netns/*", "/var/lib/cni/multus/*-*", "/var/lib/cni/results/*",
			spool.Dir + "/pods/*", spool.Dir + "/sandboxes/*", spool.Dir + "/wants/*",
		} {
			files, err := filepath.Glob(pattern)
			if err != nil {
				return err
			}
			out = append(out, files...)
		}
		return nil
	})
	return out, err
}

// sleep waits for a time, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
