// SPDX-License-Identifier: Apache-2.0

package nodedefaults_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/defaults"
	"github.com/multihome/multihome/controlplane/nodedefaults"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/netconf"
	"github.com/multihome/multihome/pkg/nodeconf"
)

// world is an API server, the controller's part that finds the cluster's CIDRs, and a node.
type world struct {
	*testing.T
	client.Client
	node   *nodedefaults.Node
	subnet atomic.Pointer[netip.Prefix] // of the node; nil: it can't be read
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctrl.SetLogger(logr.Discard())
	c, err := client.New(testcluster.Config(t), client.Options{Scheme: testcluster.Scheme(t)})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, Client: c}
	w.at("10.6.168.123/16")
	w.node = &nodedefaults.Node{Path: filepath.Join(t.TempDir(), "multihome", "coordinator.json"), Subnets: func() ([]netip.Prefix, error) {
		if p := w.subnet.Load(); p != nil {
			return []netip.Prefix{*p}, nil
		}
		return nil, errors.New("interrupted")
	}}
	return w
}

// at gives the node an address.
func (w *world) at(prefix string) {
	p := netip.MustParsePrefix(prefix)
	w.subnet.Store(&p)
}

// start runs a manager until the test ends, or stop is called.
func (w *world) start(add ...func(ctrl.Manager) error) (stop func()) {
	w.Helper()
	mgr, err := ctrl.NewManager(testcluster.Config(w.T), ctrl.Options{
		Scheme: w.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err != nil {
		w.Fatal(err)
	}
	for _, a := range add {
		if err := a(mgr); err != nil {
			w.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.Error(err)
		}
	}
	w.Cleanup(stop)
	return stop
}

func (w *world) create(o client.Object) {
	w.Helper()
	if err := w.Create(w.Context(), o); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = w.Delete(context.Background(), o) })
}

func (w *world) edit(change func(*netconf.ClusterCoordinator)) {
	w.Helper()
	var c v2beta1.SpiderCoordinator
	if err := w.Get(w.Context(), client.ObjectKey{Name: nodedefaults.Name}, &c); err != nil {
		w.Fatal(err)
	}
	before := c.DeepCopy()
	change(&c.Spec)
	if err := w.Patch(w.Context(), &c, client.MergeFrom(before)); err != nil {
		w.Fatal(err)
	}
}

// file returns the node's file without spaces, "" if there is none.
func (w *world) file() string {
	text, _ := os.ReadFile(w.node.Path)
	return strings.NewReplacer(" ", "", "\n", "").Replace(string(text))
}

func (w *world) eventually(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s doesn't come; the file is %s; %s", what, w.file(), w.node.Refusal())
		}
	}
}

func (w *world) wants(what, file string) {
	w.Helper()
	w.eventually(what, func() bool { return w.file() == file })
}

// stays lets the node look at the object several times, and wants the file as it is.
func (w *world) stays(what, file string) {
	w.Helper()
	for range 3 {
		if _, err := w.node.Reconcile(w.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: nodedefaults.Name}}); err != nil {
			w.Fatal(err)
		}
	}
	if got := w.file(); got != file {
		w.Errorf("%s: the file is %s, want %s", what, got, file)
	}
}

// TestNode takes a list from the objects of a cluster to the file of a node, and back to it
// from whatever happens there.
func TestNode(t *testing.T) {
	w := newWorld(t)
	var kubernetes networkingv1.ServiceCIDR
	if err := w.Get(t.Context(), client.ObjectKey{Name: "kubernetes"}, &kubernetes); err != nil {
		t.Fatal(err)
	}
	list := func(more ...string) string {
		all := slices.Concat(kubernetes.Spec.CIDRs, more)
		slices.SortFunc(all, func(a, b string) int { return netip.MustParsePrefix(a).Compare(netip.MustParsePrefix(b)) })
		return `"serviceCIDR":["` + strings.Join(all, `","`) + `"]}`
	}
	w.start(w.node.Add)

	t.Log("without the object, or before somebody looked for the CIDRs, the file stays")
	if err := nodeconf.Write(w.node.Path, nil); err != nil {
		t.Fatal(err)
	}
	const admins = `{"serviceCIDR":["192.0.2.0/24"]}`
	if err := os.WriteFile(w.node.Path, []byte(admins), 0o644); err != nil {
		t.Fatal(err)
	}
	w.stays("no object", admins)
	w.create(&v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: nodedefaults.Name}, Spec: netconf.ClusterCoordinator{OverlayPodCIDR: []string{"10.244.0.0/16"}}})
	w.stays("no status", admins)

	t.Log("the controller finds them")
	stop := w.start(defaults.Add)
	const pods = `"overlayPodCIDR":["10.244.0.0/16"],`
	w.wants("the first list", "{"+pods+list())

	t.Log("a second ServiceCIDR reaches the status, and the file")
	second := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "nodedefaults-second"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"172.30.0.0/16"}}}
	w.create(second)
	w.wants("the second ServiceCIDR", "{"+pods+list("172.30.0.0/16"))
	if err := w.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	w.wants("the end of it", "{"+pods+list())

	t.Log("settings of the spec")
	w.edit(func(s *netconf.ClusterCoordinator) { s.Mend, s.TxQueueLen = new(false), new(1000) })
	now := `{"mend":false,` + pods + strings.TrimSuffix(list(), "}") + `,"txQueueLen":1000}`
	w.wants("settings", now)

	t.Log("somebody changes the file, damages it, deletes it, and its directory")
	for _, text := range []string{admins, `{"serviceCIDR`, "{}"} {
		if err := os.WriteFile(w.node.Path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		w.wants("the file after "+text, now)
	}
	if err := os.Chmod(w.node.Path, 0o666); err != nil {
		t.Fatal(err)
	}
	w.eventually("the mode", func() bool { info, err := os.Stat(w.node.Path); return err == nil && info.Mode() == 0o644 })
	for _, path := range []string{w.node.Path, filepath.Dir(w.node.Path)} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		w.wants("the file after the end of "+path, now)
	}
	if err := os.WriteFile(w.node.Path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	w.wants("the file in a new directory", now)

	t.Log("what a node must not have, it doesn't get")
	w.edit(func(s *netconf.ClusterCoordinator) { s.HijackCIDR = []string{"10.6.7.0/24"} })
	w.eventually("the refusal", func() bool {
		return strings.Contains(w.node.Refusal(), "hijackCIDR: 10.6.7.0/24: it overlaps 10.6.168.123/16")
	})
	w.stays("refused", now)
	w.at("10.7.168.123/16")
	w.edit(func(s *netconf.ClusterCoordinator) { s.TxQueueLen = nil })
	now = `{"hijackCIDR":["10.6.7.0/24"],"mend":false,` + pods + list()
	w.wants("the defaults of a node elsewhere", now)
	if why := w.node.Refusal(); why != "" {
		t.Errorf("refused: %s", why)
	}

	t.Log("an error is not an answer")
	w.subnet.Store(nil)
	w.edit(func(s *netconf.ClusterCoordinator) { s.HijackCIDR = nil })
	if _, err := w.node.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: nodedefaults.Name}}); err == nil || w.file() != now {
		t.Errorf("%v, %s", err, w.file())
	}
	w.at("10.6.168.123/16")
	now = `{"mend":false,` + pods + list()
	w.wants("the file after an error", now)

	t.Log("the object goes, the file stays")
	stop()
	if err := w.Delete(t.Context(), &v2beta1.SpiderCoordinator{ObjectMeta: metav1.ObjectMeta{Name: nodedefaults.Name}}); err != nil {
		t.Fatal(err)
	}
	w.stays("the object is gone", now)
}

// TestDown has an API server that can't be reached: the file stays.
func TestDown(t *testing.T) {
	w := newWorld(t)
	c := testcluster.Config(t)
	c.Host = "https://127.0.0.1:1"
	mgr, err := ctrl.NewManager(c, ctrl.Options{Scheme: w.Scheme(), Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: new(true)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.node.Add(mgr); err != nil {
		t.Fatal(err)
	}
	if err := nodeconf.Write(w.node.Path, nil); err != nil {
		t.Fatal(err)
	}
	before := w.file()
	if _, err := w.node.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: nodedefaults.Name}}); err == nil || w.file() != before {
		t.Errorf("%v, the file is %s", err, w.file())
	}
}
