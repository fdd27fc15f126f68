// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/netconf"
)

// binary is the controller, which TestMain builds.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "multihome-controller")
	if err == nil {
		binary = filepath.Join(dir, "multihome-controller")
		var out []byte
		if out, err = exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
			err = fmt.Errorf("%w: %s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

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

// TestRoles runs a controller with the rights that deploy/ gives it: it makes, mends and
// deletes networks, keeps the webhook's certificate, and nothing is forbidden to it.
func TestRoles(t *testing.T) {
	kubectl := func(args ...string) string {
		t.Helper()
		var errs bytes.Buffer
		cmd := exec.Command("kubectl", args...)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, errs.String())
		}
		return string(out)
	}
	const deploy = "../../../deploy/kustomize/controlplane"
	kubectl("apply", "--server-side", "--validate=strict", "--force-conflicts", "-k", deploy)
	t.Cleanup(func() {
		kubectl("delete", "--ignore-not-found", "-f", deploy+"/webhook.yaml", "-f", deploy+"/policies.yaml", "-f", deploy+"/roles.yaml", "-f", deploy+"/controller.yaml")
	})
	token := strings.TrimSpace(kubectl("create", "token", "multihome-controller", "--namespace", "kube-system"))
	kubeconfig := kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json")
	var config map[string]any
	if err := json.Unmarshal([]byte(kubeconfig), &config); err != nil {
		t.Fatal(err)
	}
	config["users"].([]any)[0].(map[string]any)["user"] = map[string]any{"token": token}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
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
	if err := c.Create(t.Context(), &v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		t.Fatal(err)
	}
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

	// Another name: the former network is deleted. The policies refuse that.
	kubectl("delete", "validatingadmissionpolicybinding", "multihome-annotations")
	rename := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"annotations": {"`+netconf.NameAnnotation+`": "moved"}}}`))
	eventually(t, "the name", func() bool { return c.Patch(t.Context(), network, rename) == nil })
	eventually(t, "the network of the former name gone", func() bool { return !there() })
	eventually(t, "the network of the new name", func() bool {
		return c.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: "moved"}, attachment) == nil
	})
	if p.logged("forbidden") || p.logged("Forbidden") {
		t.Error("something is forbidden to it")
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
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
		for _, name := range []string{"spidermultusconfigs.spiderpool.spidernet.io", "spidercoordinators.spiderpool.spidernet.io", "network-attachment-definitions.k8s.cni.cncf.io"} {
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
