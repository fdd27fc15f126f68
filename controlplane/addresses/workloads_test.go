// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// workloads starts Kubernetes' controllers of workloads, until the end of the test.
func workloads(t *testing.T) {
	t.Helper()
	cmd := exec.Command("kube-controller-manager", "--kubeconfig="+os.Getenv("KUBECONFIG"), "--leader-elect=false", "--secure-port=0",
		"--kube-api-qps=1000", "--kube-api-burst=2000",
		"--controllers=deployment-controller,replicaset-controller,statefulset-controller,daemonset-controller,job-controller")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("the last of kube-controller-manager's log: %s", log.Bytes()[max(0, log.Len()-4000):])
		}
	})
}

// workload makes a workload whose pods have the label app=NAME. A DaemonSet has a pod on each
// node, whatever n is.
func (b *bench) workload(kind, name string, n int32, annotations map[string]string) client.Object {
	b.Helper()
	m := metav1.ObjectMeta{Namespace: b.NS, Name: name}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: selector.MatchLabels, Annotations: annotations},
		Spec: corev1.PodSpec{
			Containers:                    []corev1.Container{{Name: "c", Image: "i"}},
			TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, // nobody says that the nodes are ready
		},
	}
	var o client.Object
	switch kind {
	case "Deployment":
		o = &appsv1.Deployment{ObjectMeta: m, Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: selector, Template: template}}
	case "ReplicaSet":
		o = &appsv1.ReplicaSet{ObjectMeta: m, Spec: appsv1.ReplicaSetSpec{Replicas: &n, Selector: selector, Template: template}}
	case "StatefulSet":
		o = &appsv1.StatefulSet{ObjectMeta: m, Spec: appsv1.StatefulSetSpec{
			Replicas: &n, Selector: selector, Template: template, ServiceName: name, PodManagementPolicy: appsv1.ParallelPodManagement,
		}}
	case "DaemonSet":
		o = &appsv1.DaemonSet{ObjectMeta: m, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}}
	case "Job":
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		o = &batchv1.Job{ObjectMeta: m, Spec: batchv1.JobSpec{Parallelism: &n, Completions: &n, Template: template}}
	default:
		b.Fatalf("no kind %s", kind)
	}
	b.Create(o)
	return o
}

// end deletes a workload and its pods.
func (b *bench) end(o client.Object) {
	b.Helper()
	if err := b.C.Delete(b.Context(), o, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		b.Fatal(err)
	}
}

// patch changes a workload by a merge patch.
func (b *bench) patch(o client.Object, format string, args ...any) {
	b.Helper()
	if err := b.C.Patch(b.Context(), o, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, format, args...))); err != nil {
		b.Fatal(err)
	}
}

// podsOf returns the pods of a workload.
func (b *bench) podsOf(app string) []corev1.Pod {
	b.Helper()
	var list corev1.PodList
	if err := b.C.List(b.Context(), &list, client.InNamespace(b.NS), client.MatchingLabels{"app": app}); err != nil {
		b.Fatal(err)
	}
	return list.Items
}

// running waits until a workload has n pods, which all run and have the addresses that want
// matches. It returns the pods.
func (b *bench) running(app string, n int, want string) []corev1.Pod {
	b.Helper()
	var all []corev1.Pod
	b.Eventually("the pods of "+app, func() error {
		all = b.podsOf(app)
		if len(all) != n {
			return fmt.Errorf("%d pods, want %d", len(all), n)
		}
		for i := range all {
			c := &v2beta1.SpiderEndpoint{}
			if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(&all[i]), c); err != nil {
				return err
			}
			if all[i].Status.Phase != corev1.PodRunning || c.Spec.PodUID != string(all[i].UID) || c.Status.Phase != v2beta1.Allocated {
				return fmt.Errorf("pod %s is %s, its claim %s: %v", all[i].Name, all[i].Status.Phase, c.Status.Phase, c.Status.Conditions)
			}
			if got := text(c); !regexp.MustCompile("^" + want + "$").MatchString(got) {
				return fmt.Errorf("pod %s has %s, want %s", all[i].Name, got, want)
			}
		}
		return nil
	})
	return all
}

// taken waits until as many addresses are out as the pods have, and no others.
func (b *bench) taken(n int) {
	b.Helper()
	b.Eventually("the addresses that are out", func() error {
		if all := b.addressesOf(); len(all) != n {
			return fmt.Errorf("%d, want %d: %v", len(all), n, all)
		}
		return nil
	})
}

// TestWorkloads: the pods of each kind of workload get addresses of each family, and all are
// back at the end. A Job's are back when its pods have finished.
func TestWorkloads(t *testing.T) {
	workloads(t)
	const n = 3 // as many nodes, too
	for _, kind := range []struct{ id, name string }{
		{"E00002", "Deployment"}, {"E00003", "StatefulSet"}, {"E00004", "DaemonSet"}, {"E00005", "Job"}, {"E00006", "ReplicaSet"},
	} {
		for _, family := range []struct {
			name, annotation, want string
			addresses              int
		}{
			{"IPv4", `{"ipv4":["a"]}`, `net1 10\.1\.0\.\d+/16`, n},
			{"IPv6", `{"ipv6":["b"]}`, `net1 fd00:2::\d/64`, n},
			{"dual", `{"ipv4":["a"],"ipv6":["b"]}`, `net1 10\.1\.0\.\d+/16 fd00:2::\d/64`, 2 * n},
		} {
			t.Run(kind.id+": "+kind.name+", "+family.name, func(t *testing.T) {
				b := newBench(t)
				for i := range n {
					b.Node(fmt.Sprint("node", i+1))
				}
				b.pool("a", "10.1.0.0/16", "10.1.0.1-10.1.0.3")
				b.pool("b", "fd00:2::/64", "fd00:2::1-fd00:2::3")
				b.Network("net", "")
				b.start(nil)
				b.machines()
				annotations := networks("net")
				annotations[ipam.IPPoolAnnotation] = family.annotation
				o := b.workload(kind.name, "w", n, annotations)
				all := b.running("w", n, family.want)
				b.taken(family.addresses)
				if kind.name == "Job" {
					for i := range all {
						b.succeed(&all[i])
					}
					b.taken(0)
				}
				b.end(o)
				b.free()
			})
		}
	}
}

// succeed says for the kubelet that a pod has finished.
func (b *bench) succeed(p *corev1.Pod) {
	b.Helper()
	p = p.DeepCopy()
	if err := b.C.SubResource("status").Patch(b.Context(), p, client.RawPatch(types.MergePatchType, []byte(`{"status":{"phase":"Succeeded"}}`))); err != nil {
		b.Fatal(err)
	}
}

// TestPoolsChanged: a workload's pods are made again, and get addresses of the same pools. Its
// annotation names other pools: the new pods have addresses of those, and the former pools are
// free.
func TestPoolsChanged(t *testing.T) {
	workloads(t)
	const one, two = `net1 10\.1\.\d+\.\d+/16`, `net1 10\.1\.\d+\.\d+/16, net2 10\.2\.\d+\.\d+/16`
	const newOne, newTwo = `net1 10\.3\.\d+\.\d+/16`, `net1 10\.3\.\d+\.\d+/16, net2 10\.4\.\d+\.\d+/16`
	const named, newNamed = `[{"interface":"net1","ipv4":["a"]},{"interface":"net2","ipv4":["b"]}]`, `[{"interface":"net1","ipv4":["c"]},{"interface":"net2","ipv4":["d"]}]`
	for _, x := range []struct {
		name, kind, networks, key, former, now string
		wantFormer, want                       string
		nics                                   int
	}{
		{"A00009: a Deployment", "Deployment", "net", ipam.IPPoolAnnotation, `{"ipv4":["a"]}`, `{"ipv4":["c"]}`, one, newOne, 1},
		{"A00009: a StatefulSet", "StatefulSet", "net", ipam.IPPoolAnnotation, `{"ipv4":["a"]}`, `{"ipv4":["c"]}`, one, newOne, 1},
		{"A00010: a Deployment with two NICs", "Deployment", "net,net", ipam.IPPoolsAnnotation, named, newNamed, two, newTwo, 2},
		{"A00017: a StatefulSet with two NICs, by their names", "StatefulSet", "net,net", ipam.IPPoolsAnnotation, named, newNamed, two, newTwo, 2},
		{"A00018: a StatefulSet with two NICs, by their order", "StatefulSet", "net,net", ipam.IPPoolsAnnotation,
			`[{"ipv4":["x"]},{"ipv4":["a"]},{"ipv4":["b"]}]`, `[{"ipv4":["x"]},{"ipv4":["c"]},{"ipv4":["d"]}]`, two, newTwo, 2},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t)
			b.Node("node1")
			for i, name := range []string{"a", "b", "c", "d"} {
				b.pool(name, fmt.Sprintf("10.%d.0.0/16", i+1), fmt.Sprintf("10.%d.0.1-10.%d.0.9", i+1, i+1))
			}
			b.Network("net", "")
			b.start(nil)
			b.machines()
			annotations := networks(x.networks)
			annotations[x.key] = x.former
			o := b.workload(x.kind, "w", 2, annotations)
			for _, p := range b.running("w", 2, x.wantFormer) {
				b.Delete(&p)
			}
			b.running("w", 2, x.wantFormer)
			b.taken(2 * x.nics)
			b.patch(o, `{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, x.key, x.now)
			b.running("w", 2, x.want)
			b.taken(2 * x.nics)
			b.end(o)
			b.free()
		})
	}
}

// TestL00007: a DaemonSet on nodes of two zones, with a pool for each: each pod has an address
// of its zone.
func TestL00007(t *testing.T) {
	workloads(t)
	b := newBench(t)
	zones := map[string]string{"node1": "a", "node2": "b", "node3": "a", "node4": "b"}
	for _, name := range slices.Sorted(maps.Keys(zones)) {
		b.nodeIn(name, zones[name])
	}
	b.Create(
		&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v4(1, "10.1.0.1-10.1.0.9", func(s *ipam.PoolSpec) { s.NodeAffinity = labels("zone", "a") })},
		&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v4(2, "10.2.0.1-10.2.0.9", func(s *ipam.PoolSpec) { s.NodeAffinity = labels("zone", "b") })},
	)
	b.Network("net", `,"default_ipv4_ippool":["a","b"]`)
	b.start(nil)
	b.machines()
	o := b.workload("DaemonSet", "w", 0, networks("net"))
	for _, p := range b.running("w", 4, `net1 10\.[12]\.0\.\d/16`) {
		subnet := map[string]string{"a": "10.1.", "b": "10.2."}[zones[p.Spec.NodeName]]
		if got := b.ready(p.Name); !strings.HasPrefix(got, "net1 "+subnet) {
			t.Errorf("the pod on %s has %s, want one of %s", p.Spec.NodeName, got, subnet)
		}
	}
	b.end(o)
	b.free()
}

// TestL00008: the pods of a StatefulSet have addresses of the pool whose podAffinity is theirs,
// also when they are made again; another workload's pod doesn't.
func TestL00008(t *testing.T) {
	workloads(t)
	b := newBench(t)
	b.Node("node1")
	b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v4(1, "10.1.0.1-10.1.0.9", func(s *ipam.PoolSpec) { s.PodAffinity = labels("app", "w") })})
	b.Network("net", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.machines()
	all := []client.Object{b.workload("StatefulSet", "w", 2, networks("net")), b.workload("StatefulSet", "other", 1, networks("net"))}
	for _, p := range b.running("w", 2, `net1 10\.1\.0\.\d/16`) {
		b.Delete(&p)
	}
	b.running("w", 2, `net1 10\.1\.0\.\d/16`)
	b.waits("other-0", "pool a: ")
	for _, o := range all {
		b.end(o)
	}
	b.free()
}

// TestX12: the network of a StatefulSet is in Multus' namespace, and a pool names it by
// multusName without a namespace. A pool that names a namespace means that one alone.
func TestX12(t *testing.T) {
	workloads(t)
	b := newBench(t)
	b.Node("node1")
	b.Create(
		&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: v4(1, "10.1.0.1-10.1.0.9", func(s *ipam.PoolSpec) { s.MultusName = []string{b.NS + "/net"} })},
		&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v4(2, "10.2.0.1-10.2.0.9", func(s *ipam.PoolSpec) { s.MultusName = []string{"net"} })},
	)
	mine := b.NS
	b.NS = "kube-system"
	b.Network("net", `,"default_ipv4_ippool":["a","b"]`)
	t.Cleanup(func() {
		network := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "net"}}
		if err := b.C.Delete(context.Background(), network); err != nil {
			t.Error(err)
		}
	})
	b.NS = mine
	b.start(nil)
	b.machines()
	o := b.workload("StatefulSet", "w", 2, networks("kube-system/net"))
	b.running("w", 2, `net1 10\.2\.0\.\d/16`)
	b.end(o)
	b.free()
}

// TestG00012: workloads of all kinds share a pool that has as many addresses as they have pods.
// They come, go, and come again.
func TestG00012(t *testing.T) {
	workloads(t)
	b := newBench(t)
	b.Node("node1")
	b.Node("node2")
	b.pool("a", "10.1.0.0/16", "10.1.0.1-10.1.0.11")
	b.Network("net", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	b.machines()
	for range 2 {
		var all []client.Object
		kinds := []string{"Deployment", "StatefulSet", "DaemonSet", "Job", "ReplicaSet"}
		for _, kind := range kinds {
			all = append(all, b.workload(kind, strings.ToLower(kind), 2, networks("net")))
		}
		bare := b.pod("bare", "node1", networks("net"))
		b.readyAs("bare", bare)
		for _, kind := range kinds {
			b.running(strings.ToLower(kind), 2, `net1 10\.1\.0\.\d+/16`)
		}
		b.taken(11)
		for _, o := range all {
			b.end(o)
		}
		b.Delete(bare)
	}
	b.free()
}

// collector is a controller whose round of the collector the test calls.
type collector struct {
	addresses.Controller
	mu    sync.Mutex
	woken map[types.NamespacedName]bool
}

// collector returns one with a cache that follows the API server until stop is called.
func (b *bench) collector() (c *collector, stop func()) {
	b.Helper()
	mgr, err := ctrl.NewManager(testcluster.Config(b), ctrl.Options{
		Scheme: testcluster.Scheme(b), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	for _, index := range []func(context.Context, ctrl.Manager) error{addresses.Index, identities.Index} {
		if err := index(ctx, mgr); err != nil {
			b.Fatal(err)
		}
	}
	var done sync.WaitGroup
	done.Go(func() {
		if err := mgr.GetCache().Start(ctx); err != nil {
			b.Error(err)
		}
	})
	stop = func() { cancel(); done.Wait() }
	b.Cleanup(stop)
	for _, o := range []client.Object{
		&corev1.Pod{}, &corev1.Node{}, &corev1.Namespace{}, &nad.NetworkAttachmentDefinition{}, &v1alpha1.IPAddress{}, &v1alpha1.NodeSpool{},
		&v2beta1.SpiderEndpoint{}, &v2beta1.SpiderIPPool{}, &v2beta1.SpiderSubnet{}, &v2beta1.SpiderReservedIP{},
	} {
		if _, err := mgr.GetCache().GetInformer(ctx, o); err != nil {
			b.Fatal(err)
		}
	}
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		b.Fatal("the cache doesn't come")
	}
	c = &collector{woken: map[types.NamespacedName]bool{}}
	c.Controller = addresses.Controller{
		Cache: mgr.GetCache(), Live: b.C, Writer: b.C, Now: time.Now, Identity: "collector",
		Each: func(n int, f func(int) error) error {
			for i := range n {
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		},
		Until: func(func() bool) bool { return true }, // its cache is told nothing
		Wake:  func(key types.NamespacedName) { c.mu.Lock(); defer c.mu.Unlock(); c.woken[key] = true },
	}
	if err := c.OnPools(ctx); err != nil {
		b.Fatal(err)
	}
	return c, stop
}

// round has everything looked at again, and returns how many names that are.
func (c *collector) round(b *bench) int {
	b.Helper()
	if err := c.Collect(b.Context()); err != nil {
		b.Fatal(err)
	}
	c.mu.Lock()
	all := slices.Collect(maps.Keys(c.woken))
	clear(c.woken)
	c.mu.Unlock()
	for _, key := range all {
		_, err := c.Reconcile(b.Context(), key)
		if err != nil && !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			b.Errorf("%s: %v", key, err)
		}
	}
	return len(all)
}

// TestX29: a collector whose cache stopped when the pod's address was on its way back. By now
// another pod of the name has it: the collector frees nothing.
func TestX29(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.5")
	b.Network("net", `,"default_ipv4_ippool":["a"]`)
	stop := b.start(nil)
	p := b.pod("p", "node1", networks("net"))
	b.readyAs("p", p)
	stop()
	b.Delete(p)
	b.withdraw("p")
	c, stop := b.collector()
	stop()
	b.start(nil)
	b.free()
	p = b.pod("p", "node1", networks("net"))
	b.readyAs("p", p)
	former := &v1alpha1.IPAddress{}
	if err := b.C.Get(b.Context(), client.ObjectKey{Name: "10.1.0.5"}, former); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if n := c.round(b); n != 1 {
			t.Fatalf("the collector looks at %d pods, want 1", n)
		}
	}
	b.readyAs("p", p)
	now := &v1alpha1.IPAddress{}
	if err := b.C.Get(b.Context(), client.ObjectKey{Name: "10.1.0.5"}, now); err != nil {
		t.Fatal(err)
	}
	if now.ResourceVersion != former.ResourceVersion {
		t.Errorf("the address is %v, was %v", now.Spec, former.Spec)
	}
}

// TestReport1Workloads scales a StatefulSet from 3 to 0 and back, again and again, while a Deployment's
// pod waits for an address and the collector makes its rounds. No two sandboxes have one
// address, which the machines look after; in the end four of five pods run, as there are four
// addresses.
func TestReport1Workloads(t *testing.T) {
	const rounds = 15
	workloads(t)
	b := newBench(t)
	b.Node("node1")
	b.pool("a", "10.1.0.0/16", "10.1.0.1-10.1.0.4")
	b.Network("net", `,"default_ipv4_ippool":["a"]`)
	b.start(nil)
	c, _ := b.collector()
	m := b.machines()
	b.workload("ReplicaSet", "first", 1, networks("net"))
	demo := b.workload("StatefulSet", "demo", 3, networks("net"))
	b.running("first", 1, `net1 10\.1\.0\.\d/16`)
	b.running("demo", 3, `net1 10\.1\.0\.\d/16`)
	b.workload("Deployment", "late", 1, networks("net"))
	began := time.Now()
	for i := range rounds {
		b.patch(demo, `{"spec":{"replicas":0}}`)
		time.Sleep(time.Duration(i%5) * 10 * time.Millisecond)
		c.round(b)
		b.patch(demo, `{"spec":{"replicas":3}}`)
		if i%5 == 0 {
			b.fill(4, "first", "demo", "late")
		}
		time.Sleep(time.Duration(i%3) * 30 * time.Millisecond)
	}
	b.fill(4, "first", "demo", "late")
	b.taken(4)
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Logf("%d rounds in %s, %d sandboxes", rounds, time.Since(began).Round(10*time.Millisecond), m.started)
}

// fill waits until n of n+1 pods run.
func (b *bench) fill(n int, apps ...string) {
	b.Helper()
	b.Eventually("the pods", func() error {
		var all, run int
		for _, app := range apps {
			for _, p := range b.podsOf(app) {
				all++
				if p.Status.Phase == corev1.PodRunning {
					run++
				}
			}
		}
		if all != n+1 || run != n {
			return fmt.Errorf("%d of %d pods run, want %d of %d", run, all, n, n+1)
		}
		return nil
	})
}
