// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/nodehealth"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// Accounts that write. What is behind @ is the node in the token.
const (
	controller   = "system:serviceaccount:kube-system:multihome-controller"
	agent        = "system:serviceaccount:kube-system:multihome-agent@a"
	neighbour    = "system:serviceaccount:kube-system:multihome-agent@b"
	tokenless    = "system:serviceaccount:kube-system:multihome-agent"
	collector    = "system:serviceaccount:kube-system:generic-garbage-collector"
	namespaces   = "system:serviceaccount:kube-system:namespace-controller"
	withoutNames = "system:kube-controller-manager" // without --use-service-account-credentials
	admin        = "admin"
)

// as returns a client of another account, which has all rights.
func (c *cluster) as(t testing.TB, account string) client.Client {
	t.Helper()
	name, node, named := strings.Cut(account, "@")
	config := testcluster.Config(t)
	config.Impersonate = rest.ImpersonationConfig{UserName: name, Groups: []string{"system:masters"}}
	if named {
		config.Impersonate.Extra = map[string][]string{"authentication.kubernetes.io/node-name": {node}}
	}
	out, err := client.New(config, client.Options{Scheme: testcluster.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A write to an IPAddress, a claim, a NodeSpool or a Node: who does it, and with which words it is
// refused, "" if it isn't. The claim, the NodeSpool and the Node are of node a.
type writer struct {
	account, write, refused string
}

const (
	noAddress   = "want it to be written by multihome-controller alone; an address is free again when its pod is gone"
	noClaim     = "want it to be written by multihome-controller alone; it goes with its pod"
	noStatus    = "want it to be written by multihome-controller, or by the agent of node a"
	noWithdrawn = "status.withdrawn of SpiderEndpoint web: want it to be written by the agent of node a alone"
	noMore      = "status of SpiderEndpoint web: want the agent of node a to change withdrawn and MACs alone"
	noSpool     = "want it to be made, without spec, by the agent of the node of its name, and to be changed by multihome-controller alone"
	noPool      = ": want it to be written by multihome-controller alone; an application gets a pool by annotation ipam.spidernet.io/subnets of its pods"
	noNode      = ": want an agent to write about its own node alone"
	noMoreOfIt  = "Node a: want the agent of the node to change its condition MultihomeReady alone"
	noWord      = "want it to be written by the agent of the node of its name"
)

var writers = []writer{
	{controller, "address create", ""}, {controller, "address update", ""}, {controller, "address delete", ""},
	{admin, "address create", ": written by admin: " + noAddress}, {admin, "address update", noAddress}, {admin, "address delete", noAddress},
	{agent, "address create", noAddress}, {agent, "address update", noAddress}, {agent, "address delete", noAddress},
	{collector, "address delete", noAddress},
	{admin, "quarantine end", ""}, {admin, "quarantine end held", noAddress}, {admin, "quarantine change", noAddress}, {controller, "quarantine end held", ""},

	{controller, "claim create", ""}, {controller, "claim update", ""}, {controller, "claim delete", ""},
	{admin, "claim create", ": written by admin: " + noClaim}, {admin, "claim update", "SpiderEndpoint web: written by admin: " + noClaim}, {admin, "claim delete", noClaim},
	{agent, "claim create", noClaim}, {agent, "claim update", noClaim}, {agent, "claim delete", noClaim},
	{collector, "claim delete", ""}, {namespaces, "claim delete", ""}, {withoutNames, "claim delete", ""},
	{collector, "claim finalizers", ""}, {collector, "claim update", noClaim}, {collector, "claim create", noClaim},

	{controller, "claim phase", ""}, {controller, "claim withdraw", noWithdrawn}, {controller, "claim unwithdraw", ""}, {controller, "claim keeps withdrawn", ""},
	{agent, "claim withdraw", ""}, {agent, "claim mac", ""}, {agent, "claim phase", noMore}, {agent, "claim address", noMore}, {agent, "claim nic", noMore}, {agent, "claim no address", noMore},
	{neighbour, "claim withdraw", ", whose token is of node b: " + noStatus}, {neighbour, "claim mac", noStatus},
	{tokenless, "claim withdraw", ", whose token names no node: " + noStatus},
	{admin, "claim withdraw", noStatus}, {admin, "claim phase", "status of SpiderEndpoint web: written by admin, whose token names no node: " + noStatus},

	{controller, "spool create", ""}, {controller, "spool ask", ""}, {controller, "spool delete", ""},
	{agent, "spool create", ""}, {agent, "spool create asking", noSpool}, {agent, "spool ask", noSpool}, {agent, "spool delete", noSpool}, {agent, "spool labels", noSpool},
	{neighbour, "spool create", ", whose token is of node b: " + noSpool}, {tokenless, "spool create", ", whose token names no node: " + noSpool}, {admin, "spool create", noSpool},
	{admin, "spool ask", noSpool}, {collector, "spool delete", ""}, {collector, "spool labels", ""}, {withoutNames, "spool delete", ""},
	{controller, "pool create", ""}, {admin, "pool create", noPool}, {controller, "pool ips", ""}, {admin, "pool disable", ""},
	{admin, "pool ips", "spec of SpiderIPPool auto: written by admin: it is the pool of an application, and shows what that has: want another annotation ipam.spidernet.io/ippool-ip-number of the application's pods"}, {admin, "pool of nobody", "metadata.annotations[multihome.io/auto-pool] of SpiderIPPool auto: written by admin" + noPool},

	{agent, "node condition", ""}, {agent, "node condition again", ""}, {neighbour, "node condition", "Node a: written by " + tokenless + ", whose token is of node b" + noNode},
	{tokenless, "node condition", ", whose token names no node" + noNode}, {neighbour, "node delete", noNode},
	{agent, "node Ready", noMoreOfIt}, {agent, "node without Ready", noMoreOfIt}, {agent, "node capacity", noMoreOfIt}, {agent, "node addresses", noMoreOfIt},
	{agent, "node labels", noMoreOfIt}, {agent, "node taints", noMoreOfIt}, {agent, "node delete", noMoreOfIt},
	{admin, "node Ready", ""}, {admin, "node condition", ""}, {admin, "node labels", ""},

	{agent, "spool word", ""}, {controller, "spool word", noWord}, {neighbour, "spool word", ", whose token is of node b: " + noWord},
	{tokenless, "spool word", ", whose token names no node: " + noWord}, {admin, "spool word", "status of NodeSpool a: written by admin, whose token names no node: " + noWord},
}

// TestWriters does each write on the API server, as a dry run, with the policies alone.
func TestWriters(t *testing.T) {
	c := newCluster(t)
	marked := map[string]string{"test": c.namespace}
	address := &v1alpha1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Name: "10.6.0.1." + c.namespace, Labels: marked},
		Spec:       v1alpha1.IPAddressSpec{Address: "10.6.0.1", Pool: "p", State: v1alpha1.Reserved},
	}
	claim := &v2beta1.SpiderEndpoint{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "web", Labels: marked, Finalizers: []string{"test.example/a"}},
		Spec:       v2beta1.SpiderEndpointSpec{PodUID: "u", NodeName: "a", Since: metav1.Now()},
	}
	status := v2beta1.SpiderEndpointStatus{
		Phase: v2beta1.Pending, Current: &v2beta1.PodCurrent{UID: "u", Node: "a", IPs: []v2beta1.NICAddresses{
			{Interface: "eth0", IPv4: "10.6.0.1/16", VLAN: ptr.To(0)}, {Interface: "net1", IPv6: "fd00::1/64"},
		}},
	}
	confined := address.DeepCopy()
	confined.Name, confined.Spec.State = "10.6.0.2."+c.namespace, v1alpha1.Quarantined
	held := confined.DeepCopy()
	held.Name, held.Spec.Holders = "10.6.0.3."+c.namespace, []v1alpha1.Holder{{Namespace: c.namespace, Pod: "web", PodUID: "u", Interface: "eth0", Node: "a"}}
	gone := claim.DeepCopy()
	gone.Name = "gone"
	spool := &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: marked}}
	auto := &v2beta1.SpiderIPPool{
		ObjectMeta: metav1.ObjectMeta{Name: "auto", Labels: marked, Annotations: map[string]string{ipam.AutoAnnotation: "{}"}},
		Spec:       ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.1"}}},
	}
	own := c.as(t, controller)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: marked}}
	for _, o := range []client.Object{address, confined, held, claim, gone, spool, auto, node} {
		if err := own.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := own.Delete(context.Background(), o); err != nil {
				t.Error(err)
			}
		})
	}
	claim.Status = status
	gone.Status = status
	gone.Status.Withdrawn = &v2beta1.Withdrawn{BootID: "b", MachineID: "m"}
	for _, o := range []client.Object{claim, gone} {
		if err := own.Status().Update(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := own.Patch(context.Background(), o, client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`))); err != nil {
				t.Error(err)
			}
		})
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := own.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	newNode := "new-" + c.namespace
	c.policies(t)
	until(t, "the policies of writers in force", func() bool {
		for _, o := range []client.Object{address, claim, spool} {
			if err := c.Delete(t.Context(), o.DeepCopyObject().(client.Object), client.DryRunAll); !apierrors.IsForbidden(err) {
				return false
			}
		}
		return true
	})
	for _, w := range writers {
		t.Run(w.account+" "+w.write, func(t *testing.T) {
			as, ctx := c.as(t, w.account), t.Context()
			a, e, g, s, p, n := address.DeepCopy(), claim.DeepCopy(), gone.DeepCopy(), spool.DeepCopy(), auto.DeepCopy(), node.DeepCopy()
			fresh := func(o client.Object) client.Object {
				o.SetName("new-" + c.namespace)
				o.SetResourceVersion("")
				o.SetUID("")
				return o
			}
			var err error
			switch w.write {
			case "address create":
				err = as.Create(ctx, fresh(a), client.DryRunAll)
			case "address update":
				a.Spec.State = v1alpha1.Quarantined
				err = as.Update(ctx, a, client.DryRunAll)
			case "address delete":
				err = as.Delete(ctx, a, client.DryRunAll)
			case "quarantine end":
				err = as.Delete(ctx, confined.DeepCopy(), client.DryRunAll)
			case "quarantine end held":
				err = as.Delete(ctx, held.DeepCopy(), client.DryRunAll)
			case "quarantine change":
				q := confined.DeepCopy()
				q.Spec.State = v1alpha1.Reserved
				err = as.Update(ctx, q, client.DryRunAll)
			case "pool create":
				err = as.Create(ctx, fresh(p), client.DryRunAll)
			case "pool ips":
				p.Spec.IPs = []string{"10.6.0.1-10.6.0.2"}
				err = as.Update(ctx, p, client.DryRunAll)
			case "pool disable":
				p.Spec.Disable = ptr.To(true)
				err = as.Update(ctx, p, client.DryRunAll)
			case "pool of nobody":
				p.Annotations = nil
				err = as.Update(ctx, p, client.DryRunAll)
			case "node condition", "node condition again":
				condition := corev1.NodeCondition{Type: nodehealth.Type, Status: corev1.ConditionFalse, Reason: "Drift", Message: w.write}
				if w.write == "node condition again" {
					condition.Status = corev1.ConditionTrue
				}
				var patch []byte
				if patch, err = nodehealth.Patch(n, condition, metav1.Now()); err == nil {
					err = as.Status().Patch(ctx, n, client.RawPatch(types.StrategicMergePatchType, patch), client.DryRunAll)
				}
			case "node Ready":
				n.Status.Conditions[0].Status = corev1.ConditionFalse
				err = as.Status().Update(ctx, n, client.DryRunAll)
			case "node without Ready":
				n.Status.Conditions = nil
				err = as.Status().Update(ctx, n, client.DryRunAll)
			case "node capacity":
				n.Status.Capacity = corev1.ResourceList{"example.com/nic": resource.MustParse("1")}
				err = as.Status().Update(ctx, n, client.DryRunAll)
			case "node addresses":
				n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.6.0.1"}}
				err = as.Status().Update(ctx, n, client.DryRunAll)
			case "node labels":
				n.Labels["a"] = "b"
				err = as.Status().Update(ctx, n, client.DryRunAll)
			case "node taints":
				n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}
				err = as.Update(ctx, n, client.DryRunAll)
			case "node delete":
				err = as.Delete(ctx, n, client.DryRunAll)
			case "claim create":
				err = as.Create(ctx, fresh(e), client.DryRunAll)
			case "claim update":
				e.Spec.NodeName = "b"
				err = as.Update(ctx, e, client.DryRunAll)
			case "claim finalizers":
				e.Finalizers = nil
				err = as.Update(ctx, e, client.DryRunAll)
			case "claim delete":
				err = as.Delete(ctx, e, client.DryRunAll)
			case "claim phase":
				e.Status.Phase = v2beta1.Allocated
				err = as.Status().Update(ctx, e, client.DryRunAll)
			case "claim withdraw":
				e.Status.Withdrawn = gone.Status.Withdrawn
				err = as.Status().Update(ctx, e, client.DryRunAll)
			case "claim unwithdraw":
				g.Status.Withdrawn = nil
				err = as.Status().Update(ctx, g, client.DryRunAll)
			case "claim keeps withdrawn":
				g.Status.Phase = v2beta1.Releasing
				err = as.Status().Update(ctx, g, client.DryRunAll)
			case "claim mac":
				e.Status.Current.IPs[1].MAC = "02:00:00:00:00:01"
				err = as.Status().Update(ctx, e, client.DryRunAll)
			case "claim address":
				e.Status.Current.IPs[1].IPv6 = "fd00::2/64"
				err = as.Status().Update(ctx, e, client.DryRunAll)
			case "claim nic":
				e.Status.Current.IPs = append(e.Status.Current.IPs, v2beta1.NICAddresses{Interface: "net2"})
				err = as.Status().Update(ctx, e, client.DryRunAll)
			case "claim no address":
				e.Status.Current = nil
				err = as.Status().Update(ctx, e, client.DryRunAll)
			case "spool create", "spool create asking":
				n := &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: newNode, Labels: marked}}
				if w.write == "spool create asking" {
					n.Spec.Ask = []string{"u"}
				}
				account := w.account
				if account == agent { // a name that is there would be refused as such
					account = strings.TrimSuffix(agent, "a") + newNode
				}
				err = c.as(t, account).Create(ctx, n, client.DryRunAll)
			case "spool ask":
				s.Spec.Ask = []string{"u"}
				err = as.Update(ctx, s, client.DryRunAll)
			case "spool labels":
				s.Labels["a"] = "b"
				err = as.Update(ctx, s, client.DryRunAll)
			case "spool delete":
				err = as.Delete(ctx, s, client.DryRunAll)
			case "spool word":
				s.Status.BootID = "b"
				err = as.Status().Update(ctx, s, client.DryRunAll)
			default:
				t.Fatal("no such write")
			}
			switch {
			case w.refused == "" && err != nil:
				t.Error(err)
			case w.refused != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), w.refused)):
				t.Errorf("%v: want %q", err, w.refused)
			}
		})
	}
}

// TestNodeOfAToken has the token of a pod on a node, as a kubelet asks for it: the API server
// knows the node, and the policies compare it.
func TestNodeOfAToken(t *testing.T) {
	c := newCluster(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + c.namespace}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "agent"}}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "agent"},
		Spec:       corev1.PodSpec{ServiceAccountName: "agent", NodeName: node.Name, Containers: []corev1.Container{{Name: "a", Image: "a"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "agent-" + c.namespace},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: c.namespace, Name: "agent"}},
	}
	for _, o := range []client.Object{node, account, pod, binding} {
		c.make(t, o)
	}
	c.policies(t)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if err := c.SubResource("token").Create(t.Context(), account, request); err != nil {
		t.Fatal(err)
	}
	config := rest.AnonymousClientConfig(testcluster.Config(t))
	config.BearerToken = request.Status.Token
	as, err := client.New(config, client.Options{Scheme: testcluster.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	for name, refused := range map[string]bool{node.Name: false, "other-" + c.namespace: true} {
		until(t, name, func() bool {
			err := as.Create(t.Context(), &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"test": c.namespace}}}, client.DryRunAll)
			if err != nil && !apierrors.IsForbidden(err) {
				t.Fatal(err)
			}
			return (err != nil) == refused && (err == nil || strings.Contains(err.Error(), "whose token is of node "+node.Name))
		})
	}
}
