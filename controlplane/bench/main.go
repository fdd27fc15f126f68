// SPDX-License-Identifier: Apache-2.0

// bench measures multihome-controller on the API server of hack/with-apiserver: make
// bench-addresses. It prints a table, with the targets of the budget.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

const namespace = "bench"

func main() {
	binary := flag.String("controller", "bin/multihome-controller", "the `program` to measure")
	many := flag.Int("addresses", 100_000, "how `many` addresses, claims and pods the large cluster has; 0: it isn't measured")
	flag.Parse()
	if err := run(context.Background(), *binary, *many); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is a run.
type bench struct {
	client.WithWatch
	binary string
	dir    string
}

func run(ctx context.Context, binary string, many int) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return fmt.Errorf("KUBECONFIG: %w: run it by hack/with-apiserver", err)
	}
	config.QPS = -1
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v2beta1.AddToScheme, v1alpha1.AddToScheme, nad.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-addresses")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{c, binary, dir}
	if err := b.prepare(ctx); err != nil {
		return err
	}
	w := &writes{}
	kubeconfig, stop, err := w.count(config, dir)
	if err != nil {
		return err
	}
	defer stop()
	for _, measure := range []func(context.Context) error{
		b.atOnce,
		b.ofDeployment,
		func(ctx context.Context) error { return b.life(ctx, kubeconfig, w) },
		b.perSecond,
		b.failover,
	} {
		if err := measure(ctx); err != nil {
			return err
		}
	}
	if many == 0 {
		return nil
	}
	return b.large(ctx, many)
}

// row prints a row of the table.
func row(what, figure, target string, met bool) {
	result := "missed"
	if met {
		result = "met"
	}
	fmt.Printf("%-72s %12s   %-10s %s\n", what, figure, target, result)
}

// prepare makes the namespace, a node, pools, subnets and networks. Pool exact has as many addresses
// as the pods of atOnce need.
func (b *bench) prepare(ctx context.Context) error {
	pool := func(name, subnet string, ips string) client.Object {
		return &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: subnet, IPs: []string{ips}}}}
	}
	subnet := func(name, cidr string, ips string) client.Object {
		return &v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.SubnetSpec{Subnet: cidr, IPs: []string{ips}}}
	}
	network := func(name, pools string) client.Object {
		return &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: nad.Spec{
			Config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":%q,"plugins":[{"type":"macvlan","master":"eth0","ipam":{"type":"spiderpool"%s}}]}`, name, pools),
		}}
	}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}},
		pool("exact", "10.6.0.0/16", "10.6.1.0-10.6.8.207"), // 2,000
		pool("exact6", "fd00:6::/64", "fd00:6::1:0-fd00:6::1:7cf"),
		pool("large", "10.64.0.0/10", "10.64.1.0-10.80.0.0"),
		network("dual", `,"default_ipv4_ippool":["exact"],"default_ipv6_ippool":["exact6"]`),
		network("single", `,"default_ipv4_ippool":["large"]`),
		network("bare", ""),
		subnet("s1", "10.7.0.0/16", "10.7.1.0-10.7.4.255"), // 1,024
		subnet("s2", "10.8.0.0/16", "10.8.1.0-10.8.4.255"),
		subnet("s1-v6", "fd00:7::/64", "fd00:7::1:0-fd00:7::1:3ff"),
		subnet("s2-v6", "fd00:8::/64", "fd00:8::1:0-fd00:8::1:3ff"),
	} {
		if err := b.Create(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// start starts a controller, and returns when it leads. dir's log has what it says.
func (b *bench) start(ctx context.Context, kubeconfig string) (*exec.Cmd, string, error) {
	log := filepath.Join(b.dir, fmt.Sprint(time.Now().UnixNano(), ".log"))
	f, err := os.Create(log)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, b.binary, "--namespace", namespace, "--metrics-address", "0", "--health-address", "0", "--webhook-port", "0", "--kubeconfig", kubeconfig)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd, log, cmd.Start()
}

// own is the kubeconfig of hack/with-apiserver.
func own() string { return os.Getenv("KUBECONFIG") }

// leads waits until a controller leads.
func leads(log string) error {
	return until("a leader", func() (bool, error) {
		text, err := os.ReadFile(log)
		return strings.Contains(string(text), "successfully acquired lease") || strings.Contains(string(text), "Successfully acquired lease"), err
	})
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
}

func until(what string, f func() (bool, error)) error {
	for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if done, err := f(); done || err != nil {
			return err
		}
	}
	return fmt.Errorf("it doesn't come: %s", what)
}

// each calls f for 0 to n-1, 32 at a time, and returns the first error.
func each(n int, f func(i int) error) error {
	var all sync.WaitGroup
	var mu sync.Mutex
	var first error
	next := make(chan int)
	for range 32 {
		all.Go(func() {
			for i := range next {
				if err := f(i); err != nil {
					mu.Lock()
					first = cmp.Or(first, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	return first
}

func pod(name, node, networks string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": networks}},
		Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}},
			TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
	}
}

// follow calls f for each claim that becomes Ready, until the context ends.
func (b *bench) follow(ctx context.Context, f func(name string)) error {
	w, err := b.Watch(ctx, &v2beta1.SpiderEndpointList{}, client.InNamespace(namespace))
	if err != nil {
		return err
	}
	go func() {
		defer w.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case e, ok := <-w.ResultChan():
				if !ok {
					return
				}
				if c, isClaim := e.Object.(*v2beta1.SpiderEndpoint); isClaim && c.Status.Phase == v2beta1.Allocated {
					f(c.Name)
				}
			}
		}
	}()
	return nil
}

// clear deletes all pods and withdraws, until no address is left.
func (b *bench) clear(ctx context.Context) error {
	if err := b.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)); err != nil {
		return err
	}
	return until("no addresses", func() (bool, error) {
		var claims v2beta1.SpiderEndpointList
		if err := b.List(ctx, &claims, client.InNamespace(namespace)); err != nil {
			return false, err
		}
		err := each(len(claims.Items), func(i int) error {
			c := &claims.Items[i]
			if c.Status.Withdrawn != nil {
				return nil
			}
			c.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot"}
			if err := b.Status().Update(ctx, c); !apierrors.IsConflict(err) {
				return client.IgnoreNotFound(err)
			}
			return nil
		})
		var held v1alpha1.IPAddressList
		if err := cmp.Or(err, b.List(ctx, &held)); err != nil {
			return false, err
		}
		return len(claims.Items)+len(held.Items) == 0, nil
	})
}

// atOnce binds 1,000 pods of 2 dual stack NICs at once, with addresses of pools that people made.
func (b *bench) atOnce(ctx context.Context) error {
	const pods = 1000
	return b.binds(ctx, pods, "1,000 pods, 2 NICs, dual stack", 20*time.Second,
		func(name string) *corev1.Pod { return pod(name, "", "dual,dual") },
		func() error { return nil })
}

// ofDeployment binds 1,000 pods at once as well, of a Deployment that is scaled to as many at the
// same time: its pools in four subnets have an address each before, and one more than there are pods in the end.
func (b *bench) ofDeployment(ctx context.Context) error {
	const pods = 1000
	labels := map[string]string{"app": "many"}
	selector := &metav1.LabelSelector{MatchLabels: labels}
	template := corev1.PodTemplateSpec{ObjectMeta: pod("", "", "bare,bare").ObjectMeta, Spec: pod("", "", "").Spec}
	template.Labels = labels
	template.Annotations[ipam.SubnetsAnnotation] = `[{"interface":"net1","ipv4":["s1"],"ipv6":["s1-v6"]},{"interface":"net2","ipv4":["s2"],"ipv6":["s2-v6"]}]`
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "many"}, Spec: appsv1.DeploymentSpec{Replicas: ptr.To[int32](0), Selector: selector, Template: template}}
	if err := b.Create(ctx, d); err != nil {
		return err
	}
	set := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "many-1", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(d, appsv1.SchemeGroupVersion.WithKind("Deployment"))}},
		Spec:       appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](pods), Selector: selector, Template: template},
	}
	if err := b.Create(ctx, set); err != nil {
		return err
	}
	return b.binds(ctx, pods, "1,000 pods from auto pools, 2 NICs, dual stack", 40*time.Second,
		func(name string) *corev1.Pod {
			p := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: template.Spec}
			p.Namespace, p.Name = namespace, name
			p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
			return p
		},
		func() error {
			d.Spec.Replicas = ptr.To[int32](pods)
			return b.Update(ctx, d)
		}, d, set)
}

// binds makes pods, as the API server takes its time for that, and then measures how long it takes to
// bind them all until the last claim is Ready. begin is called when the time begins. In the end it deletes the
// pods, and whoever has them.
func (b *bench) binds(ctx context.Context, pods int, what string, target time.Duration, newPod func(name string) *corev1.Pod, begin func() error, owners ...client.Object) error {
	following, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, log, err := b.start(ctx, own())
	if err != nil {
		return err
	}
	defer stop(cmd)
	if err := leads(log); err != nil {
		return err
	}
	if err := each(pods, func(i int) error { return b.Create(ctx, newPod(fmt.Sprint("p", i))) }); err != nil {
		return err
	}
	var ready sync.Map
	var n atomic.Int64
	if err := b.follow(following, func(name string) {
		if _, before := ready.LoadOrStore(name, true); !before {
			n.Add(1)
		}
	}); err != nil {
		return err
	}
	began := time.Now()
	if err := begin(); err != nil {
		return err
	}
	err = each(pods, func(i int) error {
		p := pod(fmt.Sprint("p", i), "", "")
		return b.SubResource("binding").Create(ctx, p, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node1"}})
	})
	if err != nil {
		return err
	}
	bound := time.Since(began)
	if err := until(what, func() (bool, error) { return n.Load() == int64(pods), nil }); err != nil {
		return err
	}
	took := time.Since(began)
	row(fmt.Sprintf("%s: first binding to last Ready (bound in %.1f s)", what, bound.Seconds()), fmt.Sprintf("%.1f s", took.Seconds()), fmt.Sprintf("≤ %.0f s", target.Seconds()), took <= target)
	for _, o := range owners {
		if err := client.IgnoreNotFound(b.Delete(ctx, o)); err != nil { // Kubernetes deletes what its owner had
			return err
		}
	}
	return b.clear(ctx)
}

// life counts the writes of a pod's life.
func (b *bench) life(ctx context.Context, kubeconfig string, w *writes) error {
	cmd, log, err := b.start(ctx, kubeconfig)
	if err != nil {
		return err
	}
	defer stop(cmd)
	if err := leads(log); err != nil {
		return err
	}
	const pods = 20
	w.reset()
	for i := range pods {
		name := fmt.Sprint("p", i)
		if err := b.Create(ctx, pod(name, "node1", "single,single")); err != nil {
			return err
		}
		err := until(name, func() (bool, error) {
			c := &v2beta1.SpiderEndpoint{}
			err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, c)
			return c.Status.Phase == v2beta1.Allocated, client.IgnoreNotFound(err)
		})
		if err != nil {
			return err
		}
	}
	if err := b.clear(ctx); err != nil {
		return err
	}
	n, most := w.get()
	each := float64(n)/pods + 1 // the agent's withdrawal
	row("writes of a pod's life, 2 NICs, IPv4, with the agent's withdrawal", fmt.Sprintf("%.1f", each), "≤ 8", each <= 8)
	row("the largest of them", fmt.Sprintf("%d bytes", most), "≤ 2 KB", most <= 2048)
	return nil
}

// perSecond makes 20 bound pods a second, for 30 s.
func (b *bench) perSecond(ctx context.Context) error {
	const rate, pods = 20, 600
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd, log, err := b.start(ctx, own())
	if err != nil {
		return err
	}
	defer stop(cmd)
	if err := leads(log); err != nil {
		return err
	}
	var mu sync.Mutex
	made := map[string]time.Time{}
	took := map[string]time.Duration{}
	if err := b.follow(ctx, func(name string) {
		now := time.Now()
		mu.Lock()
		defer mu.Unlock()
		if _, before := took[name]; !before && !made[name].IsZero() {
			took[name] = now.Sub(made[name])
		}
	}); err != nil {
		return err
	}
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for i := range pods {
		<-tick.C
		name := fmt.Sprint("p", i)
		mu.Lock()
		made[name] = time.Now()
		mu.Unlock()
		if err := b.Create(ctx, pod(name, "node1", "single,single")); err != nil {
			return err
		}
	}
	err = until("the last pods", func() (bool, error) { mu.Lock(); defer mu.Unlock(); return len(took) == pods, nil })
	if err != nil {
		return err
	}
	mu.Lock()
	var all []time.Duration
	for _, d := range took {
		all = append(all, d)
	}
	mu.Unlock()
	slices.Sort(all)
	p99 := all[len(all)*99/100]
	row(fmt.Sprintf("20 pods/s, bound to Ready, p99 (median %d ms)", all[len(all)/2].Milliseconds()), fmt.Sprintf("%d ms", p99.Milliseconds()), "≤ 500 ms", p99 <= 500*time.Millisecond)
	return b.clear(ctx)
}

// failover kills the leader of two, and makes a pod.
func (b *bench) failover(ctx context.Context) error {
	first, log, err := b.start(ctx, own())
	if err != nil {
		return err
	}
	if err := leads(log); err != nil {
		return err
	}
	second, _, err := b.start(ctx, own())
	if err != nil {
		return err
	}
	defer stop(second)
	time.Sleep(3 * time.Second) // it has filled its cache
	began := time.Now()
	_ = first.Process.Kill()
	_ = first.Wait()
	if err := b.Create(ctx, pod("p", "node1", "single")); err != nil {
		return err
	}
	err = until("the pod", func() (bool, error) {
		c := &v2beta1.SpiderEndpoint{}
		err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "p"}, c)
		return c.Status.Phase == v2beta1.Allocated, client.IgnoreNotFound(err)
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	row("failover: the leader killed until a pod is Ready (lease 8 s, retried every second)", fmt.Sprintf("%.1f s", took.Seconds()), "≤ 10 s", took <= 10*time.Second)
	return b.clear(ctx)
}

// large measures a controller in a cluster of many addresses, claims and pods.
func (b *bench) large(ctx context.Context, many int) error {
	err := each(many, func(i int) error {
		p := pod(fmt.Sprint("large", i), "node1", "single")
		if err := b.Create(ctx, p); err != nil {
			return err
		}
		addr := fmt.Sprintf("10.%d.%d.%d", 64+(i+256)>>16, (i+256)>>8&255, (i+256)&255)
		c := &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: p.Name}, Spec: v2beta1.SpiderEndpointSpec{
			PodUID: string(p.UID), NodeName: "node1", Since: p.CreationTimestamp,
			NICs: []v2beta1.EndpointNIC{{Interface: "net1", NAD: namespace + "/single", Network: "single", IPv4Pools: []string{"large"}}},
		}}
		if err := b.Create(ctx, c); err != nil {
			return err
		}
		c.Status.Phase = v2beta1.Allocated
		c.Status.Current = &v2beta1.PodCurrent{UID: c.Spec.PodUID, Node: "node1", IPs: []v2beta1.NICAddresses{{Interface: "net1", IPv4: addr + "/10", IPv4Pool: "large"}}}
		if err := b.Status().Update(ctx, c); err != nil {
			return err
		}
		return b.Create(ctx, &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: addr}, Spec: v1alpha1.IPAddressSpec{
			Address: addr, Pool: "large", State: v1alpha1.Allocated,
			Holders: []v1alpha1.Holder{{Namespace: namespace, Pod: p.Name, PodUID: c.Spec.PodUID, Interface: "net1", Node: "node1"}},
		}})
	})
	if err != nil {
		return err
	}
	began := time.Now()
	cmd, log, err := b.start(ctx, own())
	if err != nil {
		return err
	}
	defer stop(cmd)
	if err := leads(log); err != nil {
		return err
	}
	if err := b.Create(ctx, pod("new", "node1", "single")); err != nil {
		return err
	}
	err = until("a pod", func() (bool, error) {
		c := &v2beta1.SpiderEndpoint{}
		err := b.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "new"}, c)
		return c.Status.Phase == v2beta1.Allocated, client.IgnoreNotFound(err)
	})
	if err != nil {
		return err
	}
	took := time.Since(began)
	row(fmt.Sprintf("%d addresses, claims and pods: start until a pod is Ready", many), fmt.Sprintf("%.1f s", took.Seconds()), "≤ 30 s", took <= 30*time.Second)
	time.Sleep(10 * time.Second) // it looks at each
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		return err
	}
	for _, key := range []string{"VmRSS", "VmHWM"} {
		var kb int
		for line := range strings.Lines(string(status)) {
			if rest, ok := strings.CutPrefix(line, key+":"); ok {
				if _, err := fmt.Sscan(rest, &kb); err != nil {
					return err
				}
			}
		}
		row("its memory, "+key, fmt.Sprintf("%d MB", kb>>10), "≤ 700 MB", kb>>10 <= 700)
	}
	return nil
}

// writes counts what is written on a way to the API server, but for leases and events.
type writes struct {
	mu      sync.Mutex
	n, most int
}

func (w *writes) reset() { w.mu.Lock(); defer w.mu.Unlock(); w.n, w.most = 0, 0 }

func (w *writes) get() (n, most int) { w.mu.Lock(); defer w.mu.Unlock(); return w.n, w.most }

// count serves such a way, and returns a kubeconfig for it.
func (w *writes) count(config *rest.Config, dir string) (kubeconfig string, stop func(), err error) {
	transport, err := rest.TransportFor(config)
	if err != nil {
		return "", nil, err
	}
	return proxy(config.Host, transport, dir, func(r *http.Request) error {
		counted := strings.Contains(r.URL.Path, "/spiderendpoints") || strings.Contains(r.URL.Path, "/ipaddresses") || strings.Contains(r.URL.Path, "/nodespools")
		if r.Method == http.MethodGet || !counted {
			return nil
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.n++
		w.most = max(w.most, len(body))
		return nil
	})
}
