// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/netconf"
)

// cluster is a client, and a namespace in which policies and webhook are in force.
type cluster struct {
	client.WithWatch
	namespace string

	mu       sync.Mutex
	warnings []string
}

// HandleWarningHeaderWithContext collects what the API server warns of.
func (c *cluster) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.warnings = append(c.warnings, text)
}

// try does something, and returns what the API server says: an error, and warnings.
func (c *cluster) try(do func() error) (refused string, warnings []string) {
	c.mu.Lock()
	c.warnings = nil
	c.mu.Unlock()
	if err := do(); err != nil {
		refused = err.Error()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return refused, slices.Clone(c.warnings)
}

// dryRun says what the API server says of an object.
func (c *cluster) dryRun(o client.Object) (refused string, warnings []string) {
	return c.try(func() error { return c.Create(context.Background(), o, client.DryRunAll) })
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{}
	config := testcluster.Config(t)
	config.WarningHandlerWithContext = c
	var err error
	if c.WithWatch, err = client.NewWithWatch(config, client.Options{Scheme: testcluster.Scheme(t)}); err != nil {
		t.Fatal(err)
	}
	c.namespace = testcluster.Namespace(t, c)
	return c
}

// documents reads the objects of a file of YAML.
func documents(t testing.TB, text []byte) []map[string]any {
	t.Helper()
	var out []map[string]any
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var o map[string]any
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		if o != nil {
			out = append(out, o)
		}
	}
}

// deployed reads objects of deploy/admission.
func deployed(t testing.TB, file string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/admission", file))
	if err != nil {
		t.Fatal(err)
	}
	return documents(t, text)
}

func convert(t testing.TB, o map[string]any, into any) {
	t.Helper()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(o, into, true); err != nil {
		t.Fatal(err)
	}
}

// until waits for what has to come.
func until(t testing.TB, what string, there func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !there(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}

// make creates an object for the time of the test.
func (c *cluster) make(t testing.TB, o client.Object) {
	t.Helper()
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(c.Delete(context.Background(), o)); err != nil {
			t.Error(err)
		}
	})
}

// selector is the test's namespace alone.
func (c *cluster) selector() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": c.namespace}}
}

// label selects objects in no namespace, which the test marks.
func (c *cluster) label() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"test": c.namespace}}
}

// policies puts deploy/admission/policies.yaml in force, in the test's namespace, and for
// objects in no namespace with the test's label.
func (c *cluster) policies(t testing.TB) {
	t.Helper()
	matched := map[string]*admissionregistrationv1.MatchResources{} // by policy
	for _, o := range deployed(t, "policies.yaml") {
		if o["kind"] == "ValidatingAdmissionPolicy" {
			p := &admissionregistrationv1.ValidatingAdmissionPolicy{}
			convert(t, o, p)
			p.Name += "-" + c.namespace
			c.make(t, p)
			matched[p.Name] = &admissionregistrationv1.MatchResources{NamespaceSelector: c.selector()}
			if *p.Spec.MatchConstraints.ResourceRules[0].Scope == admissionregistrationv1.ClusterScope {
				matched[p.Name] = &admissionregistrationv1.MatchResources{ObjectSelector: c.label()}
			}
			continue
		}
		b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		convert(t, o, b)
		b.Name += "-" + c.namespace
		b.Spec.PolicyName += "-" + c.namespace
		b.Spec.MatchResources = matched[b.Spec.PolicyName]
		c.make(t, b)
	}
	until(t, "policies in force", func() bool {
		refused, _ := c.dryRun(c.network("a", map[string]string{netconf.VersionAnnotation: "x"}, nil))
		_, warned := c.dryRun(c.network("a", nil, map[string]any{"cniType": "custom", "coordinator": map[string]any{}}))
		return refused != "" && len(warned) > 0
	})
}

// network returns a SpiderMultusConfig in the test's namespace.
func (c *cluster) network(name string, annotations map[string]string, spec map[string]any) *unstructured.Unstructured {
	o := c.object(map[string]any{"metadata": map[string]any{"name": name}, "spec": spec})
	o.SetAnnotations(annotations)
	return o
}

// object completes an object: a SpiderMultusConfig is in the test's namespace, and one of
// another kind, which is in none, has the label that the test's webhook selects by.
func (c *cluster) object(o map[string]any) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(o)}
	u.SetAPIVersion(netconf.APIVersion)
	if u.GetKind() != "" && u.GetKind() != netconf.Kind {
		u.SetLabels(map[string]string{"test": c.namespace})
		return u
	}
	u.SetKind(netconf.Kind)
	u.SetNamespace(c.namespace)
	return u
}

// replica is a manager with the webhook.
type replica struct {
	address string
	stop    context.CancelFunc
}

// webhook creates the configuration of deploy/admission/webhook.yaml for the test's
// objects, with the URL of a replica. A name of the API server's Service would need a
// network of pods.
func (c *cluster) webhook(t testing.TB, address string) *admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	v := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	convert(t, deployed(t, "webhook.yaml")[1], v)
	v.Name += "-" + c.namespace
	for i := range v.Webhooks {
		w := &v.Webhooks[i]
		url := "https://" + address + *w.ClientConfig.Service.Path
		w.ClientConfig.URL, w.ClientConfig.Service = &url, nil
		if *w.Rules[0].Scope == admissionregistrationv1.ClusterScope {
			w.ObjectSelector = c.label()
		} else {
			w.NamespaceSelector = c.selector()
		}
	}
	c.make(t, v)
	return v
}

// freePort returns a port of 127.0.0.1 that nobody listens on.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// all puts everything in force: the policies, and the webhook, which a replica serves.
func (c *cluster) all(t testing.TB) *replica {
	t.Helper()
	c.policies(t)
	r := c.serve(t, nil)
	c.webhook(t, r.address)
	c.served(t)
	return r
}

// serve runs a replica until the test ends, or until it is stopped.
func (c *cluster) serve(t testing.TB, change func(*ctrl.Options, *Options)) *replica {
	t.Helper()
	o := Options{Namespace: c.namespace, Service: "multihome-webhook", Port: freePort(t), config: Config + "-" + c.namespace, host: "127.0.0.1"}
	m := ctrl.Options{Scheme: testcluster.Scheme(t), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0"}
	if change != nil {
		change(&m, &o)
	}
	mgr, err := ctrl.NewManager(testcluster.Config(t), m)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(pools.Index(t.Context(), mgr), Add(mgr, o)); err != nil {
		t.Fatal(err)
	}
	return c.start(t, mgr, o)
}

func (c *cluster) start(t testing.TB, mgr manager.Manager, o Options) *replica {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("manager: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return &replica{address: fmt.Sprintf("127.0.0.1:%d", o.Port), stop: stop}
}

// row is a case of testdata/faults.yaml of pkg/netconf or pkg/ipam.
type row struct {
	Case, Kind     string
	Metadata, Spec map[string]any
	Was            map[string]any // the former spec: the case is a change
	Faults         []string       // what webhook and condition say
	API            []string       // what the API server says by schema, CEL and policies
	Advice         []string       // what it warns of
	Only           string         // why it says nothing
}

func rows(t testing.TB) []row {
	t.Helper()
	var out []row
	for _, pkg := range []string{"netconf", "ipam"} {
		text, err := os.ReadFile("../../pkg/" + pkg + "/testdata/faults.yaml")
		if err != nil {
			t.Fatal(err)
		}
		var list []row
		if err := yaml.UnmarshalStrict(text, &list); err != nil {
			t.Fatal(err)
		}
		out = append(out, list...)
	}
	return out
}

// try gives the object of a row to the API server, which stores nothing but what is to be
// changed. It returns that too.
func (r row) try(t testing.TB, c *cluster) (o, former *unstructured.Unstructured, refused string, warnings []string) {
	t.Helper()
	o = r.object(c)
	if r.Was == nil {
		refused, warnings = c.dryRun(o)
		return o, nil, refused, warnings
	}
	was := r
	was.Spec = r.Was
	former = was.object(c)
	former.SetGenerateName("test-")
	former.SetName("")
	c.make(t, former)
	o.SetName(former.GetName())
	o.SetResourceVersion(former.GetResourceVersion())
	refused, warnings = c.try(func() error { return c.Update(context.Background(), o, client.DryRunAll) })
	return o, former, refused, warnings
}

// object returns the object of a row.
func (r row) object(c *cluster) *unstructured.Unstructured {
	metadata := map[string]any{"name": "net"}
	for k, v := range r.Metadata {
		metadata[k] = v
	}
	text, err := json.Marshal(map[string]any{"kind": r.Kind, "metadata": metadata, "spec": r.Spec})
	if err != nil {
		panic(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(strings.Replace(string(text), `"kind":""`, `"kind":"SpiderMultusConfig"`, 1)), u); err != nil {
		panic(err)
	}
	return c.object(u.Object)
}
