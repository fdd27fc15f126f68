// SPDX-License-Identifier: Apache-2.0

package networks_test

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/networks"
	"github.com/multihome/multihome/pkg/netconf"
)

// ids are the acceptance tests of the systems that do this today that an example meets.
var ids = map[string]string{
	"seed-macvlan": "M00001", "seed-ipvlan": "M00002", "seed-sriov": "M00003", "vlan": "M00038 M00033",
	"custom": "M00004", "custom-file": "M00019", "default-type": "M00004", "seed-bond-vlan": "M00006",
	"annotations": "M00010 M00012 M00017", "sriov-all": "M00021 M00034", "coordinator-all": "M00022 M00023 M00024 M00026 X6",
	"vlan-bond": "M00009", "vlan-auto": "M00039", "disabled": "X4",
	"seed-bond": "X9", "seed-sriov-rdma": "X9", "seed-sriov-rates": "X9",
}

// TestExamples applies every example of pkg/netconf, among them those of the project's
// documents as they stand there: the NetworkAttachmentDefinition is that of the golden file.
func TestExamples(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	files, err := filepath.Glob("../../pkg/netconf/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	for _, file := range files {
		example := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(strings.TrimSpace(example+" "+ids[example]), func(t *testing.T) {
			b := &bench{t, b.WithWatch, b.ns}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			golden := txtar.Parse(text).Files
			o := &unstructured.Unstructured{}
			if err := yaml.UnmarshalStrict(golden[0].Data, &o.Object); err != nil {
				t.Fatal(err)
			}
			o.SetNamespace(b.ns)
			o.SetName(example) // some examples share a name
			if err := b.Create(t.Context(), o, client.FieldValidation("Strict")); err != nil {
				t.Fatal(err)
			}
			var want string
			for _, f := range golden {
				if f.Name == "config" {
					want = strings.TrimSuffix(string(f.Data), "\n")
				}
			}
			_, name, _ := strings.Cut(golden[1].Name, "/") // -- namespace/name --
			var metadata map[string]string
			if err := yaml.Unmarshal(golden[1].Data, &metadata); err != nil {
				t.Fatal(err)
			}
			if was := goldenName(t, golden[0].Data); name == was {
				name = o.GetName()
				want = strings.ReplaceAll(want, `"name":"`+was+`"`, `"name":"`+name+`"`)
			}
			b.eventually(name, func() error {
				n, err := b.nad(name)
				if err != nil {
					return err
				}
				if n.Spec.Config != want {
					t.Errorf("config:\n%s\nwant\n%s", n.Spec.Config, want)
				}
				if !maps.Equal(n.Annotations, metadata) {
					t.Errorf("annotations: %v, want %v", n.Annotations, metadata)
				}
				owner := metav1.OwnerReference{
					APIVersion: netconf.APIVersion, Kind: netconf.Kind, Name: o.GetName(), UID: o.GetUID(),
					Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
				}
				if len(n.OwnerReferences) != 1 || n.OwnerReferences[0].String() != owner.String() {
					t.Errorf("owners: %v", n.OwnerReferences)
				}
				return nil
			})
			b.says(&v2beta1.SpiderMultusConfig{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: o.GetName()}}, v2beta1.Written)
		})
	}
}

func goldenName(t *testing.T, object []byte) string {
	t.Helper()
	var o struct {
		Metadata struct{ Name string }
	}
	if err := yaml.Unmarshal(object, &o); err != nil {
		t.Fatal(err)
	}
	return o.Metadata.Name
}

// TestCases has a story each; the ids are those of the acceptance tests that it meets.
func TestCases(t *testing.T) {
	for _, tt := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"M00007 M00008 X1, restored", restored},
		{"X2, no writes", noWrites},
		{"M00011 M00020 X3, two want one", twoWantOne},
		{"M00014, taken over", takenOver},
		{"M00014, of others", ofOthers},
		{"M00010 M00025 X7, renamed", renamed},
		{"M00005 M00015, got a fault", gotFault},
		{"orphaned", orphaned},
		{"terminating", terminating},
		{"refused", refused},
		{"X5, another type is applied", retyped},
		{"macvlans and ipvlans on one link", oneLink},
	} {
		t.Run(tt.name, tt.run)
	}
}

// restored takes away what a NetworkAttachmentDefinition should have (M00007): it comes
// back, and what others wrote there stays (X1).
func restored(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	c := b.config("net", "ens192")
	c.Annotations = map[string]string{"team": "a", "former": "b"}
	b.create(c)
	n := b.has("net", c)
	b.says(c, v2beta1.Written)

	other := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "owner"}}
	b.create(other)
	b.change(n, func() {
		n.Labels = map[string]string{"foreign": "label"}
		n.Annotations["foreign"] = "annotation"
		n.OwnerReferences = append(n.OwnerReferences, metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: other.Name, UID: other.UID})
	})
	foreign := func(n *nad.NetworkAttachmentDefinition) error {
		if n.Labels["foreign"] != "label" || n.Annotations["foreign"] != "annotation" ||
			!slices.ContainsFunc(n.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == other.UID }) {
			return fmt.Errorf("what others wrote is gone: %v", n.ObjectMeta)
		}
		return nil
	}
	for _, tt := range []struct {
		name  string
		spoil func()
	}{
		{"config edited", func() { n.Spec.Config = "{}" }},
		{"config removed", func() { n.Spec.Config = "" }},
		{"annotation edited", func() { n.Annotations["team"] = "z" }},
		{"annotation removed", func() { delete(n.Annotations, "team") }},
		{"owner removed", func() {
			n.OwnerReferences = slices.DeleteFunc(n.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == c.UID })
		}},
		{"owner no controller", func() {
			for i := range n.OwnerReferences {
				n.OwnerReferences[i].Controller = nil
			}
		}},
		{"owner and config", func() {
			n.Spec.Config = "{}"
			n.OwnerReferences = slices.DeleteFunc(n.OwnerReferences, func(r metav1.OwnerReference) bool { return r.UID == c.UID })
		}},
	} {
		b.change(n, tt.spoil)
		b.eventually(tt.name, func() error {
			now := b.has("net", c)
			if now.Annotations["team"] != "a" {
				return errNotYet
			}
			if _, ok := now.Annotations[networks.FormerConfig]; ok && tt.name != "owner and config" {
				t.Errorf("%s: it was ours, and has a former configuration: %v", tt.name, now.Annotations)
			}
			if now.UID != n.UID {
				t.Errorf("%s: it is another one", tt.name)
			}
			return foreign(now)
		})
	}

	b.change(c, func() { delete(c.Annotations, "former"); c.Annotations["new"] = "c" })
	b.eventually("annotations changed", func() error {
		now := b.has("net", c)
		if _, there := now.Annotations["former"]; there || now.Annotations["new"] != "c" {
			return errNotYet
		}
		return foreign(now)
	})

	b.delete(n)
	b.eventually("deleted", func() error {
		if now := b.has("net", c); now.UID == n.UID {
			return errNotYet
		}
		return nil
	})
	b.delete(c) // M00008
	b.eventually("its config deleted", func() error {
		if _, err := b.nad("net"); !apierrors.IsNotFound(err) {
			return errNotYet
		}
		return nil
	})
}

// noWrites: where nothing changes, nothing is written: over resyncs (X2), and when
// another controller starts. The control is an edit, which is written.
func noWrites(t *testing.T) {
	b := newBench(t)
	w := &wire{}
	stop := b.start(w)
	plain := b.config("plain", "ens192") // without annotations
	b.create(plain)
	faulty := b.config("faulty", "ens192")
	faulty.Spec.ChainCNIJSONData = []string{"{"}
	b.create(faulty)
	loser := b.wanting("loser", "plain", "ens224")
	b.says(plain, v2beta1.Written)
	b.create(loser)
	b.says(faulty, v2beta1.Invalid)
	b.says(loser, v2beta1.Conflict)
	b.quiet(w)
	stop()

	again := &wire{}
	b.start(again)
	b.quiet(again)
	if n := again.writes.Load(); n > 0 {
		t.Errorf("%d writes by another controller", n)
	}
	b.change(plain, func() { plain.Spec.Macvlan.Master = []string{"ens256"} })
	b.has("plain", plain)
	if again.writes.Load() == 0 {
		t.Error("the edit was written, and not counted")
	}
}

// twoWantOne creates two configs for one name in the same instant, in both orders, with
// two controllers (M00011, M00020, M00025, X3): one has it, and the other says so; it stays
// so; and when the first is gone, the other has it.
func twoWantOne(t *testing.T) {
	for _, first := range []string{"net", "other"} {
		t.Run(first, func(t *testing.T) {
			b := newBench(t)
			wires := []*wire{{}, {}}
			b.start(wires[0])
			b.start(wires[1])
			configs := []*v2beta1.SpiderMultusConfig{b.config("net", "ens192"), b.wanting("other", "net", "ens224"), b.wanting("third", "net", "ens256")}
			if first == "other" {
				slices.Reverse(configs)
			}
			for _, c := range configs {
				b.create(c)
			}
			b.quiet(wires...)
			for len(configs) > 0 {
				n, err := b.nad("net")
				if err != nil {
					t.Fatal(err)
				}
				owner := metav1.GetControllerOf(n)
				i := slices.IndexFunc(configs, func(c *v2beta1.SpiderMultusConfig) bool { return c.UID == owner.UID })
				if i < 0 {
					t.Fatalf("of %v", owner)
				}
				b.has("net", configs[i])
				for k, c := range configs {
					if k == i {
						b.says(c, v2beta1.Written)
					} else if m := b.says(c, v2beta1.Conflict); !strings.Contains(m, configs[i].Name) {
						t.Errorf("%s: %s", c.Name, m)
					}
				}
				winner := configs[i]
				configs = slices.Delete(configs, i, i+1)
				b.delete(winner)
				b.eventually("the next one", func() error {
					n, err := b.nad("net")
					if len(configs) == 0 && apierrors.IsNotFound(err) {
						return nil
					}
					if err != nil || metav1.GetControllerOf(n).UID == winner.UID {
						return errNotYet
					}
					return nil
				})
			}
		})
	}
}

// takenOver: a NetworkAttachmentDefinition without an owner is taken over (M00014), its
// former configuration is kept, once, and comes back when the config takes another name.
func takenOver(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	n := &nad.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "net", Annotations: map[string]string{"mine": "1"}},
		Spec:       nad.Spec{Config: `{"type":  "macvlan"}`},
	}
	b.create(n)
	c := b.config("net", "ens192")
	c.Annotations = map[string]string{"ours": "1"}
	b.create(c)
	got := b.has("net", c)
	if got.Annotations[networks.FormerConfig] != n.Spec.Config || got.Annotations["mine"] != "1" || got.UID != n.UID {
		t.Errorf("taken over: %v", got)
	}
	b.change(c, func() { c.Spec.Macvlan.Master = []string{"ens224"} })
	if got := b.has("net", c); got.Annotations[networks.FormerConfig] != n.Spec.Config {
		t.Errorf("after an edit: %v", got.Annotations)
	}
	b.change(c, func() { c.Annotations[netconf.NameAnnotation] = "elsewhere" })
	b.has("elsewhere", c)
	b.eventually("given back", func() error {
		now, err := b.nad("net")
		if err != nil {
			return err
		}
		if now.Spec.Config != n.Spec.Config || len(now.OwnerReferences) > 0 || !maps.Equal(now.Annotations, n.Annotations) {
			return fmt.Errorf("%v %s", now.ObjectMeta, now.Spec.Config)
		}
		return nil
	})
}

// ofOthers: what a controller of another kind has is left alone.
func ofOthers(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "owner"}}
	b.create(owner)
	n := &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "net", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID, Controller: ptr.To(true)},
	}}, Spec: nad.Spec{Config: "{}"}}
	b.create(n)
	c := b.config("net", "ens192")
	b.create(c)
	if m := b.says(c, v2beta1.Conflict); !strings.Contains(m, "ConfigMap owner") {
		t.Error(m)
	}
	if now, err := b.nad("net"); err != nil || now.ResourceVersion != n.ResourceVersion {
		t.Errorf("it was written: %v %v", now, err)
	}
	b.delete(owner) // and the garbage collector takes what it had
	b.has("net", c)
	b.says(c, v2beta1.Written)
}

// renamed: cr-name added, changed and removed (M00010, X7): the NetworkAttachmentDefinition
// of the former name goes.
func renamed(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	c := b.config("net", "ens192")
	b.create(c)
	b.has("net", c)
	former := "net"
	for _, name := range []string{"a", "b", ""} {
		b.change(c, func() {
			c.Annotations = map[string]string{netconf.NameAnnotation: name}
			if name == "" {
				c.Annotations = nil
			}
		})
		want := networks.NameOf(c)
		b.has(want, c)
		b.says(c, v2beta1.Written)
		b.eventually(former+" gone", func() error {
			if _, err := b.nad(former); !apierrors.IsNotFound(err) {
				return errNotYet
			}
			return nil
		})
		former = want
	}
	// A name with a fault: what was there stays.
	was, err := b.nad("net")
	if err != nil {
		t.Fatal(err)
	}
	b.change(c, func() { c.Annotations = map[string]string{netconf.NameAnnotation: "no.label"} })
	b.says(c, v2beta1.Invalid)
	if now, err := b.nad("net"); err != nil || now.ResourceVersion != was.ResourceVersion {
		t.Errorf("it was written: %v %v", now, err)
	}
}

// gotFault: a config that gets a fault keeps the NetworkAttachmentDefinition that it had,
// and says what is wrong.
func gotFault(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	c := b.config("net", "ens192")
	b.create(c)
	n := b.has("net", c)
	b.change(c, func() { c.Spec.ChainCNIJSONData = []string{`{"type": ""}`} })
	if m := b.says(c, v2beta1.Invalid); !strings.Contains(m, "spec.chainCNIJsonData[0].type") {
		t.Error(m)
	}
	if now, err := b.nad("net"); err != nil || now.ResourceVersion != n.ResourceVersion {
		t.Errorf("it was written: %v %v", now, err)
	}
	b.change(c, func() { c.Spec.ChainCNIJSONData = []string{`{"type": "tuning"}`} })
	b.has("net", c)
	b.says(c, v2beta1.Written)
}

// orphaned: `kubectl delete --cascade=orphan` leaves the NetworkAttachmentDefinition as
// it is; and the next config of the name takes it again, as it is.
func orphaned(t *testing.T) {
	b := newBench(t)
	w := &wire{}
	b.start(w)
	c := b.config("net", "ens192")
	b.create(c)
	n := b.has("net", c)
	b.says(c, v2beta1.Written)
	b.delete(c, client.PropagationPolicy(metav1.DeletePropagationOrphan))
	b.eventually("orphaned", func() error {
		if now, err := b.nad("net"); err != nil || len(now.OwnerReferences) > 0 {
			return errNotYet
		}
		return nil
	})
	b.quiet(w)
	if now, err := b.nad("net"); err != nil || now.UID != n.UID || now.Spec.Config != n.Spec.Config || len(now.OwnerReferences) > 0 {
		t.Errorf("orphaned, it became %v %v", now, err)
	}
	next := b.config("net", "ens192")
	b.create(next)
	now := b.has("net", next)
	if _, ok := now.Annotations[networks.FormerConfig]; ok || now.UID != n.UID {
		t.Errorf("taken again: %v", now)
	}
}

// terminating: a NetworkAttachmentDefinition that is being deleted is waited for, and so
// is a config that is being deleted; a namespace that is being deleted ends.
func terminating(t *testing.T) {
	b := newBench(t)
	w := &wire{}
	b.start(w)
	c := b.config("net", "ens192")
	b.create(c)
	n := b.has("net", c)
	b.change(n, func() { n.Finalizers = []string{"example.com/hold"} })
	b.delete(n)
	b.says(c, v2beta1.Waiting)
	b.quiet(w)
	b.change(n, func() { n.Finalizers = nil })
	b.eventually("made again", func() error {
		if now := b.has("net", c); now.UID == n.UID {
			return errNotYet
		}
		return nil
	})
	b.says(c, v2beta1.Written)

	// In the foreground the config waits for what it has.
	next := b.wanting("next", "net", "ens224")
	b.create(next)
	b.says(next, v2beta1.Conflict)
	n = b.has("net", c)
	b.change(n, func() { n.Finalizers = []string{"example.com/hold"} })
	b.delete(c, client.PropagationPolicy(metav1.DeletePropagationForeground))
	b.says(next, v2beta1.Waiting)
	b.change(n, func() { n.Finalizers = nil })
	b.has("net", next)

	b.delete(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: b.ns}})
	b.eventually("the namespace gone", func() error {
		if err := b.Get(t.Context(), client.ObjectKey{Name: b.ns}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
			return errNotYet
		}
		return nil
	})
}

// oneLink has macvlans and ipvlans on one link, as the project's documents forbid: both say so, until one
// of them has another link.
func oneLink(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	c := b.config("net", "shared0")
	b.create(c)
	b.says(c, v2beta1.Written)
	other := b.config("other", "shared0")
	other.Spec = netconf.Spec{CNIType: "ipvlan", IPvlan: &netconf.Macvlan{Master: []string{"shared0"}}}
	b.create(other)
	unadvised := func(c *v2beta1.SpiderMultusConfig, want string) {
		t.Helper()
		b.eventually(c.Name+" says "+want, func() error {
			if err := b.Get(t.Context(), client.ObjectKeyFromObject(c), c); err != nil {
				return err
			}
			got := ""
			if now := meta.FindStatusCondition(c.Status.Conditions, v2beta1.Unadvised); now != nil {
				got = now.Message
			}
			if got != want {
				return fmt.Errorf("it says %q", got)
			}
			return nil
		})
	}
	unadvised(c, "spec.macvlan.master: shared0: SpiderMultusConfig "+b.ns+"/other has ipvlans on it, and no node can have both on one link: want ipvlan for both, or a vlanID for one of them")
	unadvised(other, "spec.ipvlan.master: shared0: SpiderMultusConfig "+b.ns+"/net has macvlans on it, and no node can have both on one link: want macvlan for both, or a vlanID for one of them")
	b.says(other, v2beta1.Written)
	b.change(other, func() { other.Spec.IPvlan.VLANID = ptr.To(100) })
	unadvised(c, "")
	unadvised(other, "")
}

// TestThousand has a thousand networks, and prints how long twenty more take, and twenty
// that are deleted and come back; a controller that starts writes nothing.
func TestThousand(t *testing.T) {
	b := newBench(t)
	stop := b.start(&wire{})
	const many, samples = 1000, 20
	var configs []*v2beta1.SpiderMultusConfig
	for i := range many + samples {
		configs = append(configs, b.config(fmt.Sprintf("net-%d", i), "ens192"))
	}
	began := time.Now()
	inParallel(configs[:many], b.create)
	for _, c := range configs[:many] {
		b.says(c, v2beta1.Written)
	}
	t.Logf("%d at once: all are ready %s after the first", many, time.Since(began).Round(time.Millisecond))

	var applied, restored []time.Duration
	for _, c := range configs[many:] {
		began := time.Now()
		b.create(c)
		b.fast(func() bool { _, err := b.nad(c.Name); return err == nil })
		applied = append(applied, time.Since(began))
	}
	for _, c := range configs[:samples] {
		n, err := b.nad(c.Name)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		b.delete(n)
		b.fast(func() bool { now, err := b.nad(c.Name); return err == nil && now.UID != n.UID })
		restored = append(restored, time.Since(began))
	}
	for what, d := range map[string][]time.Duration{"applied until it is there": applied, "deleted until it is back": restored} {
		slices.Sort(d)
		t.Logf("%s: median %s, p99 %s of %d", what, d[len(d)/2].Round(time.Millisecond), d[len(d)*99/100].Round(time.Millisecond), len(d))
	}
	for _, c := range configs {
		b.says(c, v2beta1.Written)
	}
	stop()
	again := &wire{}
	b.start(again)
	b.quiet(again)
	if n := again.writes.Load(); n > 0 {
		t.Errorf("a controller that started wrote %d times", n)
	}
}

// refused: what the API server says to a write is in the condition: that the namespace is
// being deleted, which is the end, or that the object isn't allowed, which is tried again.
func refused(t *testing.T) {
	b := newBench(t)
	w := &wire{}
	var answer func() *http.Response
	w.disturb = func(req *http.Request, _ int64, do func() (*http.Response, error)) (*http.Response, error) {
		if req.Method == http.MethodPost && answer != nil {
			return answer(), nil
		}
		return do()
	}
	answer = func() *http.Response {
		return refusal(metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Details: &metav1.StatusDetails{
			Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}},
		}})
	}
	stop := b.start(w)
	c := b.config("net", "ens192")
	b.create(c)
	b.says(c, v2beta1.Terminated)
	stop()
	answer = func() *http.Response {
		return refusal(metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "quota is used up"})
	}
	stop = b.start(w)
	if m := b.says(c, v2beta1.Refused); !strings.Contains(m, "quota is used up") {
		t.Error(m)
	}
	stop()
	b.start(&wire{})
	b.has("net", c)
	b.says(c, v2beta1.Written)
}

// retyped: kubectl apply of another cniType, with another block, is taken.
func retyped(t *testing.T) {
	b := newBench(t)
	b.start(&wire{})
	apply := func(spec string) *v2beta1.SpiderMultusConfig {
		t.Helper()
		kubectl := exec.Command("kubectl", "apply", "-n", b.ns, "-f", "-")
		kubectl.Stdin = strings.NewReader("apiVersion: spiderpool.spidernet.io/v2beta1\nkind: SpiderMultusConfig\nmetadata: {name: net}\nspec: " + spec)
		if out, err := kubectl.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		c := &v2beta1.SpiderMultusConfig{}
		if err := b.Get(t.Context(), client.ObjectKey{Namespace: b.ns, Name: "net"}, c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	b.has("net", apply("{cniType: macvlan, macvlan: {master: [ens192]}}"))
	b.has("net", apply("{cniType: ipvlan, ipvlan: {master: [ens224]}}"))
	c := apply("{customCNI: '{\"type\": \"ptp\"}'}")
	if n := b.has("net", c); n.Spec.Config != `{"type": "ptp"}` {
		t.Error(n.Spec.Config)
	}
}
