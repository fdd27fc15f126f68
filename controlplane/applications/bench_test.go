// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestMain runs the controllers of Kubernetes that make pods.
func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	var cmd *exec.Cmd
	if kubeconfig := os.Getenv("KUBECONFIG"); kubeconfig != "" {
		cmd = exec.Command("kube-controller-manager", "--kubeconfig="+kubeconfig, "--leader-elect=false", "--secure-port=0",
			"--kube-api-qps=1000", "--kube-api-burst=2000",
			"--controllers=deployment-controller,replicaset-controller,statefulset-controller,daemonset-controller,job-controller,cronjob-controller")
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	status := m.Run()
	if cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	os.Exit(status)
}

// bench is a bench with the controllers that give addresses and pools, and with nodes (see
// machines).
type bench struct{ *testcluster.Bench }

func newBench(t *testing.T) *bench { return &bench{testcluster.NewBench(t, workloads()...)} }

// newRunning returns a bench on which all runs, with one node, network lan and subnet s of
// 10.6.0.0/16, which has these addresses.
func newRunning(t *testing.T, ips string) *bench {
	t.Helper()
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", ips)
	b.start(nil)
	b.machines()
	return b
}

// start starts the controllers.
func (b *bench) start(wrap func(*rest.Config), change ...func(*applications.Options)) (stop func()) {
	b.Helper()
	cached := applications.ByObject()
	cached[&corev1.Pod{}] = cache.ByObject{Transform: addresses.StripPod}
	return b.Run(wrap, cached, func(ctx context.Context, mgr ctrl.Manager) error {
		for _, index := range []func(context.Context, ctrl.Manager) error{pools.Index, addresses.Index, applications.Index, identities.Index} {
			if err := index(ctx, mgr); err != nil {
				return err
			}
		}
		if err := pools.Add(mgr); err != nil {
			return err
		}
		if err := identities.Add(mgr); err != nil {
			return err
		}
		stock, err := addresses.Add(ctx, mgr, ipam.Settings{MultusNamespace: "kube-system"})
		if err != nil {
			return err
		}
		options := applications.Options{Number: ipam.Number{N: 1, More: true}}
		for _, f := range change {
			f(&options)
		}
		return applications.Add(mgr, stock, options)
	})
}

// subnet makes a SpiderSubnet.
func (b *bench) subnet(name, cidr string, ips ...string) *v2beta1.SpiderSubnet {
	b.Helper()
	s := &v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.SubnetSpec{Subnet: cidr, IPs: ips}}
	b.Create(s)
	return s
}

// subnets returns annotations for NICs net1, net2, ... of network lan, each with a subnet.
func subnets(names ...string) map[string]string {
	var entries, nets []string
	for i, name := range names {
		entries = append(entries, fmt.Sprintf(`{"interface":"net%d","ipv4":[%q]}`, i+1, name))
		nets = append(nets, "lan")
	}
	return map[string]string{ipam.SubnetsAnnotation: "[" + strings.Join(entries, ",") + "]", ipam.NetworksAnnotation: strings.Join(nets, ",")}
}

// with adds annotations, given as key, value, key, value.
func with(annotations map[string]string, more ...string) map[string]string {
	for i := 0; i < len(more); i += 2 {
		annotations[more[i]] = more[i+1]
	}
	return annotations
}

func template(name string, annotations map[string]string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": name}, Annotations: annotations},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "c", Image: "i"}}, TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false),
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}, // nobody says that the nodes are ready
		},
	}
}

func selector(name string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
}

func (b *bench) deployment(name string, replicas int, annotations map[string]string) *appsv1.Deployment {
	b.Helper()
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To(int32(replicas)), Selector: selector(name), Template: template(name, annotations)},
	}
	b.Create(d)
	return d
}

// change changes an object of the API server until that succeeds.
func change[T client.Object](b *bench, o T, f func(T)) {
	b.Helper()
	b.Eventually("changing "+o.GetName(), func() error {
		if err := b.C.Get(b.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		f(o)
		return b.C.Update(b.Context(), o)
	})
}

func (b *bench) scale(d *appsv1.Deployment, replicas int) {
	b.Helper()
	change(b, d, func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To(int32(replicas)) })
}

// pools waits until there are pools, and their IPAddresses, as described: NAME RANGES of each.
// In a name, UID stands for the last group of the UID of the application.
func (b *bench) pools(app client.Object, want ...string) {
	b.Helper()
	uid := string(app.GetUID())
	slices.Sort(want)
	b.Eventually("pools", func() error {
		var pools v2beta1.SpiderIPPoolList
		var all v1alpha1.IPAddressList
		for _, list := range []client.ObjectList{&pools, &all} {
			if err := b.C.List(b.Context(), list); err != nil {
				return err
			}
		}
		var got []string
		for _, p := range pools.Items {
			var texts []string
			for _, a := range all.Items {
				if a.Spec.Pool == p.Name {
					texts = append(texts, a.Spec.Address)
				}
			}
			if has := ipam.Text(ipam.Addresses(texts)); !slices.Equal(has, p.Spec.IPs) {
				return fmt.Errorf("pool %s shows %v, and has %v", p.Name, p.Spec.IPs, has)
			}
			if p.Status.TotalIPCount == nil || int(*p.Status.TotalIPCount) != len(texts) {
				return fmt.Errorf("pool %s: %d addresses, status %+v", p.Name, len(texts), p.Status)
			}
			got = append(got, strings.TrimSpace(strings.ReplaceAll(p.Name, uid[strings.LastIndex(uid, "-")+1:], "UID")+" "+strings.Join(p.Spec.IPs, ",")))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// size waits until the pool whose name begins so has so many addresses, and shows them.
func (b *bench) size(prefix string, want int64) {
	b.Helper()
	b.Eventually("size of pool "+prefix, func() error {
		var pools v2beta1.SpiderIPPoolList
		if err := b.C.List(b.Context(), &pools); err != nil {
			return err
		}
		for _, p := range pools.Items {
			if !strings.HasPrefix(p.Name, prefix+"-") {
				continue
			}
			var all v1alpha1.IPAddressList
			if err := b.C.List(b.Context(), &all, client.MatchingFields{v1alpha1.ByPool: p.Name}); err != nil {
				return err
			}
			if int64(len(all.Items)) != want || p.Status.TotalIPCount == nil || *p.Status.TotalIPCount != want {
				return fmt.Errorf("%d addresses, status %+v, want %d", len(all.Items), p.Status, want)
			}
			return nil
		}
		return errors.New("there is none")
	})
}

// pod makes a bare pod.
func (b *bench) pod(name string, annotations map[string]string) *corev1.Pod {
	b.Helper()
	t := template(name, annotations)
	t.Namespace, t.Name = b.NS, name
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	b.Create(p)
	return p
}

// counts waits until a subnet says how many of its addresses are in pools.
func (b *bench) counts(subnet string, want int64) {
	b.Helper()
	b.Eventually("subnet "+subnet, func() error {
		s := &v2beta1.SpiderSubnet{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Name: subnet}, s); err != nil {
			return err
		}
		if s.Status.AllocatedIPCount == nil || *s.Status.AllocatedIPCount != want {
			return fmt.Errorf("status %+v, want %d", s.Status, want)
		}
		return nil
	})
}

// running waits until so many pods of a name run, and returns their addresses.
func (b *bench) running(app string, n int) map[string]string {
	b.Helper()
	var out map[string]string
	b.Eventually(fmt.Sprintf("%d pods of %s", n, app), func() error {
		out = map[string]string{}
		var pods corev1.PodList
		if err := b.C.List(b.Context(), &pods, client.InNamespace(b.NS), client.MatchingLabels{"app": app}); err != nil {
			return err
		}
		for _, p := range pods.Items {
			c := &v2beta1.SpiderEndpoint{}
			err := b.C.Get(b.Context(), client.ObjectKeyFromObject(&p), c)
			if err == nil && p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp.IsZero() && c.Spec.PodUID == string(p.UID) && c.Status.Phase == v2beta1.Allocated {
				var parts []string
				for _, nic := range c.Status.Current.IPs {
					parts = append(parts, strings.TrimSpace(nic.IPv4+" "+nic.IPv6))
				}
				out[p.Name] = strings.Join(parts, ", ")
			}
		}
		if len(out) != n || len(pods.Items) != n {
			return fmt.Errorf("%d of %d run: %v", len(out), len(pods.Items), out)
		}
		return nil
	})
	return out
}

// says waits until an event about an object has a reason and a part of a message.
func (b *bench) says(o client.Object, reason, part string) {
	b.Helper()
	b.Eventually("event "+reason, func() error {
		var events corev1.EventList
		if err := b.C.List(b.Context(), &events, client.InNamespace(b.NS)); err != nil {
			return err
		}
		var all []string
		for _, e := range events.Items {
			if e.InvolvedObject.Name == o.GetName() {
				all = append(all, e.Reason+": "+e.Message)
			}
		}
		if !slices.ContainsFunc(all, func(s string) bool { return strings.HasPrefix(s, reason+": ") && strings.Contains(s, part) }) {
			return fmt.Errorf("events %q, want %s: %s", all, reason, part)
		}
		return nil
	})
}

// waits waits until a claim says why it has no addresses.
func (b *bench) waits(pod, want string) {
	b.Helper()
	b.Eventually("pod "+pod, func() error {
		c := &v2beta1.SpiderEndpoint{}
		if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: pod}, c); err != nil {
			return err
		}
		for _, cond := range c.Status.Conditions {
			if cond.Status == metav1.ConditionFalse && strings.Contains(cond.Message, want) {
				return nil
			}
		}
		return fmt.Errorf("phase %q, %v, want %s", c.Status.Phase, c.Status.Conditions, want)
	})
}

// machines stand for the scheduler and the node: they bind pods, say that they run when their
// claim is Ready, and withdraw when they are gone. They fail the test when two pods have one
// address at a time.
func (b *bench) machines() {
	ctx, cancel := context.WithCancel(b.Context())
	owner := map[string]string{} // the pod's UID, by address
	var done sync.WaitGroup
	done.Go(func() {
		for ctx.Err() == nil {
			if err := b.round(ctx, owner); err != nil && ctx.Err() == nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				b.Error(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	b.Cleanup(func() { cancel(); done.Wait() })
}

// round reads the claims before the pods: a pod that isn't there any more won't be again.
func (b *bench) round(ctx context.Context, owner map[string]string) error {
	var claims v2beta1.SpiderEndpointList
	var pods corev1.PodList
	for _, list := range []client.ObjectList{&claims, &pods} {
		if err := b.C.List(ctx, list, client.InNamespace(b.NS)); err != nil {
			return err
		}
	}
	alive := map[string]bool{}
	of := map[string]*v2beta1.SpiderEndpoint{}
	for i := range claims.Items {
		of[claims.Items[i].Spec.PodUID] = &claims.Items[i]
	}
	for i := range pods.Items {
		alive[string(pods.Items[i].UID)] = addresses.Alive(&pods.Items[i])
	}
	for a, uid := range owner {
		if !alive[uid] {
			delete(owner, a)
		}
	}
	var writes errgroup.Group
	writes.SetLimit(16)
	for i := range pods.Items {
		p := &pods.Items[i]
		uid := string(p.UID)
		switch claim := of[uid]; {
		case p.Spec.NodeName == "":
			node := "node1"
			if a := p.Spec.Affinity; a != nil && a.NodeAffinity != nil { // as the DaemonSet controller writes it
				node = a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchFields[0].Values[0]
			}
			writes.Go(func() error {
				return b.C.SubResource("binding").Create(ctx, p, &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: node}})
			})
		case alive[uid] && p.Status.Phase != corev1.PodRunning && claim != nil && claim.Status.Phase == v2beta1.Allocated && claim.Status.Withdrawn == nil:
			for name := range addresses.Named(claim) {
				if former := owner[name]; former != "" && former != uid {
					b.Errorf("pod %s of UID %s gets %s, which UID %s has", p.Name, uid, name, former)
				}
				owner[name] = uid
			}
			p.Status.Phase = corev1.PodRunning
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			writes.Go(func() error { return b.C.Status().Update(ctx, p) })
		}
	}
	for uid, claim := range of {
		if alive[uid] || claim.Status.Withdrawn != nil {
			continue
		}
		claim.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: claim.Spec.MachineID}
		writes.Go(func() error { return b.C.Status().Update(ctx, claim) })
	}
	return writes.Wait()
}
