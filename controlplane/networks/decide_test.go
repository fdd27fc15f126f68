// SPDX-License-Identifier: Apache-2.0

package networks

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/netconf"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// config returns a config that wants the name net. Its UID is its name.
func config(name string, age time.Duration, change ...func(*v2beta1.SpiderMultusConfig)) v2beta1.SpiderMultusConfig {
	c := v2beta1.SpiderMultusConfig{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(start.Add(-age)),
			Annotations: map[string]string{netconf.NameAnnotation: "net"},
		},
		Spec: netconf.Spec{CNIType: "macvlan", Macvlan: &netconf.Macvlan{Master: []string{"ens192"}}},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func faulty(c *v2beta1.SpiderMultusConfig)   { c.Spec.Macvlan.Master = nil }
func deleting(c *v2beta1.SpiderMultusConfig) { c.DeletionTimestamp = ptr.To(metav1.NewTime(start)) }
func elsewhere(c *v2beta1.SpiderMultusConfig) {
	c.Annotations = map[string]string{netconf.NameAnnotation: "elsewhere"}
}

// of returns the NetworkAttachmentDefinition net as it was made for a config.
func of(c v2beta1.SpiderMultusConfig, change ...func(*nad.NetworkAttachmentDefinition)) *nad.NetworkAttachmentDefinition {
	n := desired(nil, &c)
	n.UID, n.ResourceVersion = "nad", "1"
	owned(n)
	for _, f := range change {
		f(n)
	}
	return n
}

// owned writes into managedFields that all of it is the controller's.
func owned(n *nad.NetworkAttachmentDefinition) {
	annotations := map[string]any{}
	for key := range n.Annotations {
		annotations["f:"+key] = map[string]any{}
	}
	raw, err := json.Marshal(map[string]any{
		"f:metadata": map[string]any{"f:annotations": annotations}, "f:spec": map[string]any{"f:config": map[string]any{}},
	})
	if err != nil {
		panic(err)
	}
	n.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: Manager, FieldsV1: &metav1.FieldsV1{Raw: raw}}}
}

func unowned(n *nad.NetworkAttachmentDefinition) { n.OwnerReferences = nil }

// foreign makes it one that the controller never wrote.
func foreign(n *nad.NetworkAttachmentDefinition) {
	n.OwnerReferences, n.ManagedFields, n.Annotations, n.Spec.Config = nil, nil, nil, `{"type":"ptp"}`
}

// TestDecide has each state of one name, and what is done and said.
func TestDecide(t *testing.T) {
	a, b := config("a", time.Hour), config("b", time.Minute)
	same := config("0", time.Hour)
	moved := config("a", time.Hour, elsewhere)
	movedFaulty := config("a", time.Hour, elsewhere, faulty)
	going := config("a", time.Hour, deleting)
	other := func(n *nad.NetworkAttachmentDefinition) {
		n.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "d", UID: "d", Controller: ptr.To(true)}}
	}
	for _, tt := range []struct {
		name    string
		nad     *nad.NetworkAttachmentDefinition
		owner   *v2beta1.SpiderMultusConfig
		configs []v2beta1.SpiderMultusConfig
		write   Write
		holder  string
		reasons string // of a, b, ... in the order of configs
	}{
		{"nothing", nil, nil, nil, Nothing, "", ""},
		{"wanted by one", nil, nil, list(a), Create, "a", "Written"},
		{"wanted by two, the older", nil, nil, list(b, a), Create, "a", "Conflict Written"},
		{"wanted by two of one age, the lower UID", nil, nil, list(a, same), Create, "0", "Conflict Written"},
		{"wanted by a faulty one", nil, nil, list(config("a", 0, faulty)), Nothing, "", "Invalid"},
		{"wanted by an older, faulty one", nil, nil, list(config("a", time.Hour, faulty), b), Create, "b", "Invalid Written"},
		{"wanted by one that is being deleted", nil, nil, list(going), Nothing, "", ""},
		{"as it should be", of(a), &a, list(a), Nothing, "a", "Written"},
		{"kept by the younger, who has it", of(b), &b, list(a, b), Nothing, "b", "Conflict Written"},
		{"edited", of(a, func(n *nad.NetworkAttachmentDefinition) { n.Spec.Config = "{}" }), &a, list(a), Update, "a", "Written"},
		{"another spelling of the same", of(a, func(n *nad.NetworkAttachmentDefinition) { n.Spec.Config += " " }), &a, list(a), Nothing, "a", "Written"},
		{"its owner removed", of(a, unowned), nil, list(a), Update, "a", "Written"},
		{"of nobody", of(a, foreign), nil, list(a), Update, "a", "Written"},
		{"of nobody, and not wanted", of(a, foreign), nil, nil, Nothing, "", ""},
		{"of another kind", of(a, other), nil, list(a, b), Nothing, "", "Conflict Conflict"},
		{"its owner gone", of(b), nil, list(a), Update, "a", "Written"},
		{"its owner gone, and not wanted", of(a), nil, nil, Nothing, "", ""},
		{"its owner made anew", of(config("former", 0)), nil, list(a), Update, "a", "Written"},
		{"its owner is being deleted", of(a), &going, list(going, b), Nothing, "", "Conflict"},
		{"its owner wants another name", of(a), &moved, nil, Delete, "", ""},
		{"its owner wants another name, another config this one", of(a), &moved, list(b), Update, "b", "Written"},
		{"its owner wants another name, a faulty config this one", of(a), &moved, list(config("b", 0, faulty)), Delete, "", "Invalid"},
		{"its owner wants another name, by a fault", of(a), &movedFaulty, list(b), Nothing, "", "Conflict"},
		{"its owner wants another name, and took it over", of(a, func(n *nad.NetworkAttachmentDefinition) { n.Annotations[FormerConfig] = "x" }), &moved, nil, Update, "", ""},
		{"its owner got a fault", of(a), ptr.To(config("a", time.Hour, faulty)), list(config("a", time.Hour, faulty), b), Nothing, "", "Invalid Conflict"},
		{"being deleted", of(a, func(n *nad.NetworkAttachmentDefinition) { n.DeletionTimestamp = ptr.To(metav1.NewTime(start)) }), &a, list(a, b), Nothing, "", "Waiting Waiting"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := Observed{Key: types.NamespacedName{Namespace: "ns", Name: "net"}, NAD: tt.nad, Configs: tt.configs, Owner: tt.owner}
			d := Decide(o)
			var holder string
			var all []string
			for _, v := range d.Verdicts {
				all = append(all, v.Reason)
				if v.Reason == v2beta1.Written {
					holder = v.Config.Name
				}
			}
			if reasons := strings.Join(all, " "); d.Write != tt.write || holder != tt.holder || reasons != tt.reasons {
				t.Errorf("write %d, holder %q, reasons %s: want %d, %q, %s", d.Write, holder, reasons, tt.write, tt.holder, tt.reasons)
			}
			if tt.name == "of nobody" && d.NAD.Annotations[FormerConfig] != tt.nad.Spec.Config {
				t.Errorf("the former configuration is lost: %v", d.NAD.Annotations)
			}
		})
	}
}

func list(c ...v2beta1.SpiderMultusConfig) []v2beta1.SpiderMultusConfig { return c }

// TestBytes: what a user wrote whole is compared byte by byte.
func TestBytes(t *testing.T) {
	c := config("a", 0, func(c *v2beta1.SpiderMultusConfig) { c.Spec = netconf.Spec{CustomCNI: `{"type": "ptp"}`} })
	n := of(c, func(n *nad.NetworkAttachmentDefinition) { n.Spec.Config = `{"type":"ptp"}` })
	if d := Decide(Observed{NAD: n, Owner: &c, Configs: list(c)}); d.Write != Update || d.NAD.Spec.Config != c.Spec.CustomCNI {
		t.Errorf("%d %v", d.Write, d.NAD)
	}
}

// FuzzDecide has any state of one name, and users and a garbage collector that change it
// while decisions are carried out. What others wrote stays; and when they stop, the
// decisions end: with one owner, as its config says.
func FuzzDecide(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add([]byte{0, 0, 9, 10, 3, 11, 2, 7})
	f.Add([]byte{1, 4, 4, 12, 5, 5, 13, 8})
	f.Fuzz(func(t *testing.T, steps []byte) {
		w := world{configs: map[string]*v2beta1.SpiderMultusConfig{}}
		for i, s := range steps {
			if i > 200 {
				break
			}
			w.step(t, s)
			w.check(t)
		}
		for range 10 {
			if w.decide(t) == Nothing && !w.collect() {
				break
			}
			w.check(t)
		}
		if write := w.decide(t); write != Nothing {
			t.Fatalf("it doesn't end: %d", write)
		}
		w.check(t)
		wanted := false
		for _, c := range w.configs {
			wanted = wanted || NameOf(c) == "net" && len(faults(c)) == 0 && c.DeletionTimestamp == nil
		}
		if !wanted {
			return
		}
		if w.nad == nil {
			t.Fatal("it is wanted, and not there")
		}
		owner := controllerOf(w.nad)
		if owner == nil {
			t.Fatal("it is wanted, and nobody's")
		}
		if holder := w.config(owner.UID); holder != nil && isConfig(owner) && len(faults(holder)) == 0 && holder.DeletionTimestamp == nil &&
			!sameJSON(w.nad.Spec.Config, holder.Network().Render().Config) {
			t.Errorf("it isn't as its config says: %s", w.nad.Spec.Config)
		}
	})
}

// world is what the API server has, in FuzzDecide.
type world struct {
	nad     *nad.NetworkAttachmentDefinition
	configs map[string]*v2beta1.SpiderMultusConfig
	made    int
}

func (w *world) config(uid types.UID) *v2beta1.SpiderMultusConfig {
	for _, c := range w.configs {
		if c.UID == uid {
			return c
		}
	}
	return nil
}

// step does what a user, the garbage collector or the controller does.
func (w *world) step(t *testing.T, s byte) {
	name := string("abc"[s>>4%3])
	c := w.configs[name]
	switch s & 15 {
	case 0, 1:
		if c == nil {
			w.made++
			made := config(name, time.Duration(w.made)*time.Second)
			made.UID = types.UID(fmt.Sprint(name, w.made))
			w.configs[name] = &made
		}
	case 2:
		delete(w.configs, name)
	case 3:
		if c != nil {
			c.Spec.Macvlan.Master = []string{fmt.Sprintf("ens%d", s)}
		}
	case 4:
		if c != nil {
			elsewhere(c)
		}
	case 5:
		if c != nil {
			c.Annotations = map[string]string{netconf.NameAnnotation: "net", "of": name}
		}
	case 6:
		if c != nil {
			faulty(c)
		}
	case 7:
		w.nad = nil
	case 8:
		if w.nad == nil {
			w.nad = &nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "net", Annotations: map[string]string{"foreign": "a"}}}
		}
	case 9:
		if w.nad != nil {
			w.nad.Spec.Config = fmt.Sprintf(`{"n":%d}`, s)
		}
	case 10:
		if w.nad != nil {
			w.nad.OwnerReferences = append(slices.Clone(w.nad.OwnerReferences), metav1.OwnerReference{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: types.UID(fmt.Sprint("x", s))})
		}
	case 11:
		if w.nad != nil {
			unowned(w.nad)
		}
	case 12:
		if c != nil {
			deleting(c)
		}
	case 13:
		w.collect()
	default:
		w.decide(t)
	}
}

// collect does what the garbage collector does. It reports whether that was anything.
func (w *world) collect() bool {
	for name, c := range w.configs {
		if c.DeletionTimestamp != nil {
			delete(w.configs, name)
			return true
		}
	}
	if w.nad == nil || len(w.nad.OwnerReferences) == 0 {
		return false
	}
	for _, r := range w.nad.OwnerReferences {
		if !isConfig(&r) || w.config(r.UID) != nil {
			return false
		}
	}
	w.nad = nil
	return true
}

// decide carries out a decision.
func (w *world) decide(t *testing.T) Write {
	t.Helper()
	o := Observed{Key: types.NamespacedName{Namespace: "ns", Name: "net"}, NAD: w.nad}
	for _, c := range w.configs {
		if NameOf(c) == "net" {
			o.Configs = append(o.Configs, *c)
		}
	}
	if owner := controllerOf(w.nad); owner != nil && isConfig(owner) {
		o.Owner = w.config(owner.UID)
	}
	d := Decide(o)
	switch d.Write {
	case Create, Update:
		if w.nad != nil {
			othersStay(t, w.nad, d.NAD)
		}
		w.nad = d.NAD.DeepCopy()
		foreign := w.nad.Annotations["foreign"]
		delete(w.nad.Annotations, "foreign") // others wrote it: not in our managedFields
		owned(w.nad)
		if foreign != "" {
			w.nad.Annotations["foreign"] = foreign
		}
	case Delete:
		w.nad = nil
	}
	return d.Write
}

// othersStay holds that an update leaves what isn't the controller's.
func othersStay(t *testing.T, before, after *nad.NetworkAttachmentDefinition) {
	t.Helper()
	if before.Annotations["foreign"] != after.Annotations["foreign"] {
		t.Errorf("the annotation of others is gone: %v", after.Annotations)
	}
	for _, r := range before.OwnerReferences {
		if !isConfig(&r) && !slices.Contains(after.OwnerReferences, r) {
			t.Errorf("the owner %v is gone: %v", r, after.OwnerReferences)
		}
	}
}

// check holds what is true at every moment.
func (w *world) check(t *testing.T) {
	t.Helper()
	if w.nad == nil {
		return
	}
	controllers := 0
	for _, r := range w.nad.OwnerReferences {
		if ptr.Deref(r.Controller, false) {
			controllers++
		}
	}
	if controllers > 1 {
		t.Errorf("%d controllers: the API server refuses it", controllers)
	}
}
