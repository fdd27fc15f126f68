// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// binary is the controller, which TestMain builds.
var binary string

func TestMain(m *testing.M) { testcluster.WithBinary(m, &binary) }

// process is a running controller.
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

// start starts a controller, with its lease in a namespace.
func start(t *testing.T, namespace string, args ...string) *process {
	t.Helper()
	p := &process{}
	p.Cmd = exec.Command(binary, append([]string{"--namespace", namespace, "--metrics-address", "0", "--health-address", "0", "--webhook-port", "0"}, args...)...)
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
		if t.Failed() {
			t.Logf("%s", p.log.String())
		}
	})
	return p
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 6000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it doesn't come: " + what)
}

const leads = "Successfully acquired lease"

// TestLeaders has three controllers. The leader is killed, then the next one is asked to
// stop: each time another one leads, and a new network is made. The time until then is printed.
func TestLeaders(t *testing.T) {
	c := testcluster.Client(t)
	ns := testcluster.Namespace(t, c)
	all := []*process{start(t, ns), start(t, ns), start(t, ns)}
	leader := func() *process {
		for _, p := range all {
			if p.logged(leads) {
				return p
			}
		}
		return nil
	}
	for i, end := range []os.Signal{os.Kill, os.Interrupt, nil} {
		began := time.Now()
		eventually(t, "a leader", func() bool { return leader() != nil })
		config := &v2beta1.SpiderMultusConfig{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("net", i)},
			Spec:       netconf.Spec{CNIType: "macvlan", Macvlan: &netconf.Macvlan{Master: []string{"ens192"}}},
		}
		if err := c.Create(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the network", func() bool {
			return c.Get(t.Context(), client.ObjectKeyFromObject(config), &nad.NetworkAttachmentDefinition{}) == nil
		})
		t.Logf("leader %d: a network after %s", i+1, time.Since(began).Round(10*time.Millisecond))
		if end == nil {
			break
		}
		p := leader()
		if err := p.Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(); end == os.Interrupt && err != nil {
			t.Errorf("asked to stop, it ends with %v", err)
		}
		for k := range all {
			if all[k] == p {
				all = append(all[:k], all[k+1:]...)
				break
			}
		}
	}
}

// TestMetrics has two controllers. Both serve metrics at their ports; what all know of pools and
// claims, only the one that leads says.
func TestMetrics(t *testing.T) {
	c := testcluster.Client(t)
	ns := testcluster.Namespace(t, c)
	pool := &v2beta1.SpiderIPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "pool-" + ns},
		Spec:       ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "198.18.0.0/24", IPs: []string{"198.18.0.1-198.18.0.7"}}},
	}
	if err := c.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.Background(), pool) })
	served := func(address string) string {
		answer, err := http.Get("http://" + address + "/metrics") //nolint:gosec,noctx // the controller's own
		if err != nil {
			return ""
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body) // what is missing is asked for again
		return string(text)
	}
	addresses := map[*process]string{}
	for range 2 {
		address := "127.0.0.1:" + strconv.Itoa(freePort(t))
		addresses[start(t, ns, "--metrics-address", address)] = address
	}
	for _, address := range addresses {
		eventually(t, "metrics", func() bool { return strings.Contains(served(address), "process_cpu_seconds_total") })
	}
	leading := func() (n int) {
		for p, address := range addresses {
			says := strings.Contains(served(address), fmt.Sprintf("multihome_controller_pool_size{pool=%q} 7\n", pool.Name))
			if says && !p.logged(leads) {
				t.Fatal("a controller that doesn't lead reports a pool")
			}
			if says {
				n++
			}
		}
		return n
	}
	eventually(t, "the leader's pool", func() bool { return leading() == 1 })
	for p, address := range addresses {
		text, leads := served(address), p.logged(leads)
		if want := "leader_election_master_status{name=\"multihome-controller\"} 1\n"; strings.Contains(text, want) != leads {
			t.Errorf("leads: %v:\n%s", leads, text)
		}
		if strings.Contains(text, "multihome_controller_addresses{") != leads {
			t.Errorf("leads: %v:\n%s", leads, text)
		}
	}
}

// TestRoles runs a controller with the rights that deploy/ gives it: it makes, mends and
// deletes networks, looks after pools, gives pods addresses and takes them back, keeps the
// webhook's certificate. Nothing is forbidden to it, and it has no right that it doesn't use.
func TestRoles(t *testing.T) {
	testcluster.Install(t)
	kubectl := func(args ...string) string { return testcluster.Kubectl(t, args...) }
	path := testcluster.Kubeconfig(t, "multihome-controller", "--namespace", "kube-system")
	c := testcluster.Client(t)
	ns := testcluster.Namespace(t, c)
	p := start(t, "kube-system", "--kubeconfig", path, "--webhook-port", strconv.Itoa(freePort(t)))
	network := &v2beta1.SpiderMultusConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "net"},
		Spec:       netconf.Spec{CNIType: "macvlan", Macvlan: &netconf.Macvlan{Master: []string{"ens192"}}},
	}
	if err := c.Create(t.Context(), network); err != nil {
		t.Fatal(err)
	}
	coordinator := &v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if err := c.Create(t.Context(), coordinator); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), coordinator); err != nil {
			t.Error(err)
		}
	})
	attachment := &nad.NetworkAttachmentDefinition{}
	there := func() bool { return c.Get(t.Context(), client.ObjectKeyFromObject(network), attachment) == nil }
	eventually(t, "the network", there)
	uid := attachment.UID
	if err := c.Delete(t.Context(), attachment); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the network again", func() bool { return there() && attachment.UID != uid })
	eventually(t, "its condition", func() bool {
		return c.Get(t.Context(), client.ObjectKeyFromObject(network), network) == nil && network.Status.NetworkAttachmentDefinition == "net"
	})
	eventually(t, "the SpiderCoordinator's status", func() bool {
		o := &v2beta1.SpiderCoordinator{}
		return c.Get(t.Context(), client.ObjectKey{Name: "default"}, o) == nil && len(o.Status.ServiceCIDR) > 0
	})
	eventually(t, "the webhook's authority", func() bool {
		return kubectl("get", "validatingwebhookconfiguration", "multihome", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}") != ""
	})
	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec": {"macvlan": {"master": ["ens224"]}}}`))
	if err := c.Patch(t.Context(), network, patch); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edit", func() bool { return there() && strings.Contains(attachment.Spec.Config, "ens224") })

	pool := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{
		Subnet: "10.6.0.0/16", IPs: []string{"10.6.1.1-10.6.1.9"}, Network: ns,
	}}}
	subnet := &v2beta1.SpiderSubnet{ObjectMeta: pool.ObjectMeta, Spec: pool.Spec.SubnetSpec}
	reserved := &v2beta1.SpiderReservedIP{ObjectMeta: pool.ObjectMeta}
	address := &v1alpha1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "10.6.1.1." + ns},
		Spec:       v1alpha1.IPAddressSpec{Address: "10.6.1.1", Network: ns, Pool: ns, State: v1alpha1.Reserved},
	}
	for _, o := range []client.Object{pool, subnet, reserved} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the policy that refuses an IPAddress of an administrator", func() bool {
		err := c.Create(t.Context(), address.DeepCopy(), client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), "want it to be written by multihome-controller alone")
	})
	as := impersonate(t, "multihome-controller", "")
	if err := as.Create(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	finalizers := func(n int) func() bool {
		return func() bool {
			return c.Get(t.Context(), client.ObjectKeyFromObject(pool), pool) == nil && len(pool.Finalizers) == n && len(pool.Status.Conditions) > 0
		}
	}
	eventually(t, "a pool in use", finalizers(1))
	if err := as.Delete(t.Context(), address); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a pool that isn't in use", finalizers(0))
	for _, o := range []client.Object{pool, subnet, reserved} {
		if err := c.Delete(t.Context(), o); err != nil {
			t.Error(err)
		}
	}

	// Another name: the former network is deleted. The policies refuse that.
	kubectl("delete", "validatingadmissionpolicybinding", "multihome-annotations")
	rename := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"`+netconf.NameAnnotation+`": "moved"}}}`))
	eventually(t, "the name", func() bool { return c.Patch(t.Context(), network, rename) == nil })
	eventually(t, "the network of the former name gone", func() bool { return !there() })
	eventually(t, "the network of the new name", func() bool {
		return c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "moved"}, attachment) == nil
	})
	staticPods(t, c, ns)
	addressesOfPods(t, c, ns)
	poolsOfApplications(t, c, ns)
	if p.logged("forbidden") || p.logged("Forbidden") {
		t.Error("something is forbidden to it")
	}
	if got, want := testcluster.Unused(t, "multihome-controller"), []string{
		"delete /secrets",                         // of one that can't be changed
		"delete multihome.io/nodespools",          // of a Node that is deleted, every ten minutes
		"get /namespaces",                         // of one that the cache lacks
		"get kubevirt.io/virtualmachineinstances", // not in this cluster
		"get kubevirt.io/virtualmachines",
		"list cilium.io/ciliumpodippools", // nor this
		"list crd.projectcalico.org/ippools",
		"patch /events", // of an event that comes again
		"patch events.k8s.io/events",
		"update /secrets",                                               // of a certificate that ends soon
		"update spiderpool.spidernet.io/spidermultusconfigs/finalizers", // of OwnerReferencesPermissionEnforcement, which is off here
	}; !slices.Equal(got, want) {
		t.Errorf("rights that it doesn't use:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
}

// poolsOfApplications makes an application of each kind that the controller reads, and has it get
// its pool, which goes with it.
func poolsOfApplications(t *testing.T, c client.Client, ns string) {
	subnet := &v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: ipam.SubnetSpec{Subnet: "10.7.0.0/16", IPs: []string{"10.7.1.1-10.7.1.99"}, Network: ns}}
	meta := metav1.ObjectMeta{Namespace: ns, Name: "app"}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "app"}}
	pods := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: selector.MatchLabels, Annotations: map[string]string{ipam.SubnetsAnnotation: `[{"interface": "net1", "ipv4": ["` + ns + `"]}]`}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}, RestartPolicy: corev1.RestartPolicyAlways},
	}
	once := *pods.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	all := []client.Object{
		&appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: pods}},
		&appsv1.ReplicaSet{ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: pods}},
		&appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: pods}},
		&appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: pods}},
		&batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Template: once}},
		&batchv1.CronJob{ObjectMeta: meta, Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}}}},
	}
	pools := func(want int) func() bool {
		return func() bool {
			var list v2beta1.SpiderIPPoolList
			if err := c.List(t.Context(), &list, client.MatchingLabels{"ipam.spidernet.io/owner-application-namespace": ns}); err != nil {
				t.Fatal(err)
			}
			return len(list.Items) == want && !slices.ContainsFunc(list.Items, func(p v2beta1.SpiderIPPool) bool { return len(p.Spec.IPs) == 0 })
		}
	}
	for _, o := range append([]client.Object{subnet}, all...) {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the pools of the applications", pools(len(all)))
	// What is kept for an ordinal that the StatefulSet no longer has is freed, by the policy of its subnet:
	// it's deleted, or if the pool takes it first, it stays there.
	set := all[2]
	var ofSet v2beta1.SpiderIPPoolList
	if err := c.List(t.Context(), &ofSet, client.MatchingLabels{"ipam.spidernet.io/owner-application-uid": string(set.GetUID())}); err != nil || len(ofSet.Items) != 1 {
		t.Fatalf("%d pools of the StatefulSet: %v", len(ofSet.Items), err)
	}
	kept := &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.7.1.90." + ns}, Spec: v1alpha1.IPAddressSpec{
		Address: "10.7.1.90", Network: ns, Pool: ofSet.Items[0].Name, State: v1alpha1.Reserved,
		Identity: &v1alpha1.Owner{Group: "apps", Kind: "StatefulSet", Namespace: ns, Name: "app", UID: string(set.GetUID()), Ordinal: ptr.To[int32](5)},
	}}
	if err := impersonate(t, "multihome-controller", "").Create(t.Context(), kept); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address of a former ordinal free", func() bool {
		now := &v1alpha1.IPAddress{}
		err := c.Get(t.Context(), client.ObjectKeyFromObject(kept), now)
		return apierrors.IsNotFound(err) || err == nil && now.Spec.Identity == nil
	})
	for _, o := range append(all, subnet) {
		if err := c.Delete(t.Context(), o, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "no pools of applications", pools(0))
}

// TestUpgrade has the definitions and objects of the version before addresses, of commit
// 04d7061, and then installs this one as docs/install.md says: the objects stay as they are,
// and can be changed, and so do the networks that were made of them.
func TestUpgrade(t *testing.T) {
	added := []string{
		"ipaddresses.multihome.io", "nodespools.multihome.io", "spiderendpoints.spiderpool.spidernet.io",
		"spiderippools.spiderpool.spidernet.io", "spiderreservedips.spiderpool.spidernet.io", "spidersubnets.spiderpool.spidernet.io",
	}
	testcluster.Kubectl(t, append([]string{"delete", "crd", "--ignore-not-found", "--timeout=60s"}, added...)...)
	t.Cleanup(func() {
		testcluster.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", "../../../deploy/crds")
		testcluster.Kubectl(t, "wait", "--for=condition=Established", "--timeout=300s", "crd", "--all")
	})
	testcluster.Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", "testdata/former-crds.yaml")
	c := testcluster.Client(t)
	ns := testcluster.Namespace(t, c)
	config := &v2beta1.SpiderMultusConfig{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "net"},
		Spec: netconf.Spec{CNIType: "macvlan", Macvlan: &netconf.Macvlan{
			Master: []string{"ens192"}, IPPools: &netconf.IPPools{IPv4: []string{"lan"}, IPv6: []string{"lan6"}},
		}},
	}
	coordinator := &v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for _, o := range []client.Object{config, coordinator} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(c.Delete(context.Background(), coordinator)); err != nil {
			t.Error(err)
		}
	})
	spec := config.Spec

	testcluster.Install(t)
	testcluster.Kubectl(t, append([]string{"wait", "--for=condition=Established", "--timeout=60s", "crd"}, added...)...)
	start(t, "kube-system", "--kubeconfig", testcluster.Kubeconfig(t, "multihome-controller", "--namespace", "kube-system"))
	eventually(t, "the network", func() bool {
		return c.Get(t.Context(), client.ObjectKeyFromObject(config), config) == nil && config.Status.NetworkAttachmentDefinition == "net"
	})
	if !reflect.DeepEqual(config.Spec, spec) {
		t.Errorf("%+v, want %+v", config.Spec, spec)
	}
	for _, o := range []client.Object{config, coordinator} {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"labels": {"upgraded": "yes"}}}`))
		if err := c.Patch(t.Context(), o, patch); err != nil {
			t.Error(err)
		}
	}
	// Pods can name the pools now.
	pool := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.1.1"}}}}
	if err := c.Create(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pool", func() bool {
		return c.Get(t.Context(), client.ObjectKeyFromObject(pool), pool) == nil && len(pool.Status.Conditions) > 0
	})
	if err := c.Delete(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
}

// impersonate returns a client that speaks as a ServiceAccount of kube-system, with a token
// of a node if one is named, and that may do all that the policies allow to it.
func impersonate(t *testing.T, account, node string) client.Client {
	t.Helper()
	own := testcluster.Config(t)
	own.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:kube-system:" + account, Groups: []string{"system:masters"}}
	if node != "" {
		own.Impersonate.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
	}
	as, err := client.New(own, client.Options{Scheme: testcluster.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return as
}

// addressesOfPods has pods get the only address of a pool, one after the other, and speaks
// for the agent of their node.
func addressesOfPods(t *testing.T, c client.Client, ns string) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	pool := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{
		Subnet: "10.6.0.0/16", IPs: []string{"10.6.2.1"}, Network: ns,
	}}}
	lan := &nad.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "lan"},
		Spec:       nad.Spec{Config: `{"cniVersion":"1.0.0","name":"lan","plugins":[{"type":"macvlan","master":"eth0","ipam":{"type":"spiderpool","default_ipv4_ippool":["` + ns + `"]}}]}`},
	}
	for _, o := range []client.Object{node, pool, lan} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := c.Delete(context.Background(), node); err != nil {
			t.Error(err)
		}
	})
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "lan"}},
			Spec: corev1.PodSpec{
				NodeName: ns, AutomountServiceAccountToken: ptr.To(false), TerminationGracePeriodSeconds: ptr.To[int64](0),
				Containers: []corev1.Container{{Name: "c", Image: "i"}},
			},
		}
		if err := c.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	claim := func(name string) *v2beta1.SpiderEndpoint {
		e := &v2beta1.SpiderEndpoint{}
		if err := client.IgnoreNotFound(c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, e)); err != nil {
			t.Fatal(err)
		}
		return e
	}
	machine := func(id string) {
		node.Status.NodeInfo.MachineID = id
		if err := c.Status().Update(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	machine("former")
	first := pod("first")
	eventually(t, "the address", func() bool {
		return claim("first").Status.Phase == v2beta1.Allocated && claim("first").Spec.MachineID == "former"
	})
	machine("machine")
	eventually(t, "the other machine", func() bool { return claim("first").Spec.MachineID == "machine" })
	second := pod("second")
	eventually(t, "an event of the pod", func() bool {
		return strings.Contains(testcluster.Kubectl(t, "get", "events", "--namespace", ns, "--field-selector", "involvedObject.name=second"), "1 of 1")
	})
	if err := c.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	agent := impersonate(t, "multihome-agent", ns)
	eventually(t, "the agent's word", func() bool {
		e := claim("first")
		e.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot", MachineID: "machine"}
		return agent.Status().Update(t.Context(), e) == nil
	})
	eventually(t, "the address for the second pod", func() bool { return claim("second").Status.Phase == v2beta1.Allocated })

	// A claim is gone: the node is asked.
	if err := c.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	cluster := testcluster.Config(t)
	cluster.Impersonate = rest.ImpersonationConfig{UserName: "system:kube-controller-manager", Groups: []string{"system:masters"}}
	as, err := client.New(cluster, client.Options{Scheme: testcluster.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := as.Delete(t.Context(), claim("second")); err != nil {
		t.Fatal(err)
	}
	spool := &v1alpha1.NodeSpool{}
	eventually(t, "the question", func() bool {
		return c.Get(t.Context(), client.ObjectKeyFromObject(node), spool) == nil && len(spool.Spec.Ask) == 1
	})
	spool.Status = v1alpha1.NodeSpoolStatus{BootID: "boot", MachineID: "machine", Withdrawn: spool.Spec.Ask}
	if err := agent.Status().Update(t.Context(), spool); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no address, and no question", func() bool {
		return apierrors.IsNotFound(c.Get(t.Context(), client.ObjectKey{Name: "10.6.2.1." + ns}, &v1alpha1.IPAddress{})) &&
			c.Get(t.Context(), client.ObjectKeyFromObject(node), spool) == nil && len(spool.Spec.Ask) == 0
	})
	if err := c.Delete(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the pool", func() bool {
		return apierrors.IsNotFound(c.Get(t.Context(), client.ObjectKeyFromObject(pool), pool))
	})
}

// staticPods has a StaticPod made, mended and deleted.
func staticPods(t *testing.T, c client.Client, ns string) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: ns + "-static"}}
	vlan := &staticmacvlan.VLANSubnet{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: ipam.VLANSubnetSpec{Master: "eth0", CIDR: "192.168.77.0/24"}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "static", Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "static", "vlan": ns}},
		Spec: corev1.PodSpec{
			NodeName: node.Name, AutomountServiceAccountToken: ptr.To(false), TerminationGracePeriodSeconds: ptr.To[int64](0),
			Containers: []corev1.Container{{Name: "c", Image: "i"}},
		},
	}
	for _, o := range []client.Object{
		node, vlan, pod,
		&nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "static"}, Spec: nad.Spec{Config: `{"name":"static","type":"static-macvlan-cni"}`}},
		&staticmacvlan.StaticPod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "stray"}},
	} {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	record := &staticmacvlan.StaticPod{}
	has := func(name, ip string) func() bool {
		return func() bool {
			err := c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: name}, record)
			if ip == "" {
				return apierrors.IsNotFound(err)
			}
			return err == nil && record.Spec.IP == ip
		}
	}
	eventually(t, "a StaticPod", has("static", "192.168.77.1/24"))
	record.Spec.IP = "edited"
	if err := c.Update(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the StaticPod as it was", has("static", "192.168.77.1/24"))
	eventually(t, "a StaticPod without a claim gone", has("stray", ""))
	eventually(t, "the VLANSubnet's conditions", func() bool {
		return c.Get(t.Context(), client.ObjectKeyFromObject(vlan), vlan) == nil && len(vlan.Status.Conditions) > 0
	})
	for _, o := range []client.Object{pod, node} { // nothing can run there any more
		if err := c.Delete(t.Context(), o, client.GracePeriodSeconds(0)); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "the StaticPod gone", has("static", ""))
	if err := c.Delete(t.Context(), vlan); err != nil {
		t.Error(err)
	}
}

// freePort returns a port of 127.0.0.1 that nobody has.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestRefuses: what is wrong is said in a sentence, and the controller ends.
func TestRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"an argument":  {[]string{"--namespace", "x", "y"}, `y\": want no arguments`},
		"no namespace": {nil, "--namespace: want the namespace of the lease"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary, tt.args...)
			cmd.Env = append(os.Environ(), "POD_NAMESPACE=")
			if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

// TestDefinitions: the controller ends where a kind is missing, or is of another
// installation.
func TestDefinitions(t *testing.T) {
	all := func(annotation string) map[string]*apiextensionsv1.CustomResourceDefinition {
		out := map[string]*apiextensionsv1.CustomResourceDefinition{}
		for _, name := range []string{
			"spidermultusconfigs.spiderpool.spidernet.io", "spidercoordinators.spiderpool.spidernet.io", "network-attachment-definitions.k8s.cni.cncf.io",
			"spidersubnets.spiderpool.spidernet.io", "spiderippools.spiderpool.spidernet.io", "spiderreservedips.spiderpool.spidernet.io",
			"spiderendpoints.spiderpool.spidernet.io", "ipaddresses.multihome.io", "nodespools.multihome.io",
			"vlansubnets.staticmacvlan.rancher.com", "staticpods.staticmacvlan.rancher.com",
		} {
			out[name] = &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{annotation: "1"}}}
		}
		return out
	}
	ours := all(v2beta1.CRDAnnotation)
	if err := checkDefinitions(t.Context(), definitions(ours)); err != nil {
		t.Error(err)
	}
	if err := checkDefinitions(t.Context(), definitions(all("other"))); err == nil || !strings.Contains(err.Error(), "it is of another installation") {
		t.Error(err)
	}
	for name := range ours {
		without := all(v2beta1.CRDAnnotation)
		delete(without, name)
		if err := checkDefinitions(t.Context(), definitions(without)); err == nil || !strings.Contains(err.Error(), name+" is not there") {
			t.Error(err)
		}
	}
}

// definitions returns a reader of these.
func definitions(all map[string]*apiextensionsv1.CustomResourceDefinition) client.Reader {
	scheme := runtime.NewScheme()
	_ = apiextensionsv1.AddToScheme(scheme) // it has no conflicts
	b := fake.NewClientBuilder().WithScheme(scheme)
	for _, d := range all {
		b = b.WithObjects(d)
	}
	return b.Build()
}
