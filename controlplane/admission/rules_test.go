// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// warned reports whether one of the API server's warnings ends with a text: what is before
// names the policy.
func warned(warnings []string, text string) bool {
	return slices.ContainsFunc(warnings, func(w string) bool { return strings.HasSuffix(w, text) })
}

// TestRules gives every object of the faults.yaml to the API server, with
// definitions and policies alone; to the webhook; and to what the condition is made of.
func TestRules(t *testing.T) {
	c := newCluster(t)
	c.policies(t)
	h := &handler{reader: c}
	for _, r := range rows(t) {
		t.Run(r.Case, func(t *testing.T) {
			o, former, refused, warnings := r.try(t, c)
			for _, want := range r.API {
				if !strings.Contains(refused, want) {
					t.Errorf("the API server doesn't say %q: %s", want, refused)
				}
			}
			for _, want := range r.Advice {
				if !warned(warnings, ": "+want) {
					t.Errorf("the API server doesn't warn %q: %q", want, warnings)
				}
			}
			if len(r.API) == 0 && refused != "" {
				t.Errorf("the API server refuses it: %s", refused)
			}
			bad := false
			of := admissionv1.Create
			if former != nil {
				of = admissionv1.Update
			}
			response := h.Handle(t.Context(), review(t, of, o, former))
			said := condition(t, o)
			for _, want := range r.Faults {
				if path, warning, ok := strings.Cut(want, ": warning: "); ok {
					if !slices.ContainsFunc(response.Warnings, func(w string) bool { return strings.HasPrefix(w, path+": "+warning) }) {
						t.Errorf("the webhook doesn't warn %q: %q", want, response.Warnings)
					}
					continue
				}
				bad = true
				if response.Allowed || !strings.Contains(response.Result.Message, want) {
					t.Errorf("the webhook doesn't say %q: %+v", want, response.Result)
				}
				if former == nil && !strings.Contains(said, want) {
					t.Errorf("the condition doesn't say %q: %s", want, said)
				}
			}
			if response.Allowed == bad {
				t.Errorf("allowed: %t by the webhook: %+v", response.Allowed, response.Result)
			}
			if bad && refused == "" && r.Only == "" {
				t.Error("neither definition nor policies refuse it, and nothing says why")
			}
			if r.Only != "" && (!bad || refused != "") {
				t.Errorf("it is no case for the webhook alone: %s", refused)
			}
		})
	}
}

// condition returns what the condition Ready says of an object: the reconciler has what
// the API server stores. Values of another type aren't stored, and have no condition.
func condition(t testing.TB, o *unstructured.Unstructured) string {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	switch kind := o.GetKind(); kind {
	case ipam.PoolKind, ipam.SubnetKind, ipam.ReservedKind:
		return joined(ipam.Lint(kind, text))
	case netconf.CoordinatorKind:
		_, faults := netconf.DecodeCoordinator(text)
		return joined(faults)
	}
	var smc v2beta1.SpiderMultusConfig
	if json.Unmarshal(text, &smc) != nil {
		_, faults := netconf.Decode(text)
		return joined(faults)
	}
	if smc.Spec.CNIType == "" {
		smc.Spec.CNIType = "custom" // the default of the definition
	}
	return joined(smc.Network().Validate())
}

func joined(faults []netconf.Fault) string {
	var out []string
	for _, f := range faults {
		out = append(out, f.String())
	}
	return strings.Join(out, "; ")
}

// review is what the API server asks the webhook.
func review(t testing.TB, of admissionv1.Operation, o, former *unstructured.Unstructured) admission.Request {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	r := admissionv1.AdmissionRequest{
		UID: "1", Operation: of, Namespace: o.GetNamespace(), Name: o.GetName(),
		Kind: metav1.GroupVersionKind{Group: netconf.Group, Version: "v2beta1", Kind: o.GetKind()}, Object: runtime.RawExtension{Raw: text},
	}
	if former != nil {
		if r.OldObject.Raw, err = json.Marshal(former); err != nil {
			t.Fatal(err)
		}
	}
	return admission.Request{AdmissionRequest: r}
}

// literals finds the texts in a messageExpression.
var literals = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`)

func fragments(message, expression string) []string {
	if expression == "" {
		return []string{message}
	}
	var out []string
	for _, m := range literals.FindAllStringSubmatch(expression, -1) {
		if text := strings.ReplaceAll(m[1], `\'`, `'`); len(text) > 12 && strings.Contains(text, " ") {
			out = append(out, text)
		}
	}
	return out
}

// TestEveryRuleHasACase looks for the message of each CEL rule of the definitions and of
// each policy in the cases of TestRules.
func TestEveryRuleHasACase(t *testing.T) {
	var said []string
	for _, r := range rows(t) {
		said = append(append(said, r.API...), r.Advice...)
	}
	for _, w := range writers {
		said = append(said, w.refused)
	}
	text := strings.Join(append(said, renamed), "\n")
	count := 0
	check := func(where, message, expression string) {
		count++
		parts := fragments(message, expression)
		if len(parts) == 0 {
			t.Errorf("%s: a rule without words", where)
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s: no case has %q", where, part)
			}
		}
	}
	var walk func(path string, s apiextensionsv1.JSONSchemaProps)
	walk = func(path string, s apiextensionsv1.JSONSchemaProps) {
		for _, v := range s.XValidations {
			check(path, v.Message, v.MessageExpression)
		}
		for name, p := range s.Properties {
			walk(path+"."+name, p)
		}
		if s.Items != nil {
			walk(path+"[]", *s.Items.Schema)
		}
	}
	for _, plural := range []string{"spidermultusconfigs", "spidercoordinators", "spidersubnets", "spiderippools", "spiderreservedips"} {
		walk("spec", schema(t, plural))
	}
	for _, o := range deployed(t, "policies.yaml") {
		if o["kind"] != "ValidatingAdmissionPolicy" {
			continue
		}
		var p admissionregistrationv1.ValidatingAdmissionPolicy
		convert(t, o, &p)
		for _, v := range p.Spec.Validations {
			check(p.Name, v.Message, v.MessageExpression)
		}
	}
	if count < 80 {
		t.Errorf("%d rules", count)
	}
}

// TestVersions compares what netconf and the policy allow.
func TestVersions(t *testing.T) {
	c := newCluster(t)
	c.policies(t)
	for _, v := range netconf.Versions {
		if refused, _ := c.dryRun(c.network("net", map[string]string{netconf.VersionAnnotation: v}, map[string]any{"cniType": "custom"})); refused != "" {
			t.Errorf("%s: %s", v, refused)
		}
	}
	refused, _ := c.dryRun(c.network("net", map[string]string{netconf.VersionAnnotation: "0.2.0"}, map[string]any{"cniType": "custom"}))
	if want := `"0.2.0": want one of ` + strings.Join(netconf.Versions, ", "); !strings.Contains(refused, want) || strings.Contains(refused, want+",") {
		t.Errorf("%s: want %s", refused, want)
	}
}

// renamed is what a rename is refused with.
const renamed = `metadata.annotations[multus.spidernet.io/cr-name]: the network would be called "b": want "a", for pods use it under this name; make another SpiderMultusConfig for another name`

// TestX7Renames changes the name of a network in each way.
func TestX7Renames(t *testing.T) {
	c := newCluster(t)
	custom := map[string]any{"cniType": "custom"}
	// An object of before the policies: its name is none, so it can be mended.
	dotted := c.network("old", map[string]string{netconf.NameAnnotation: "A.b"}, custom)
	c.make(t, dotted)
	c.policies(t)
	for _, tt := range []struct {
		name        string
		from, to    map[string]string
		object      string
		refusedWith string
	}{
		{"added", nil, map[string]string{netconf.NameAnnotation: "b"}, "a", renamed},
		{"changed", map[string]string{netconf.NameAnnotation: "a"}, map[string]string{netconf.NameAnnotation: "b"}, "c", renamed},
		{"removed", map[string]string{netconf.NameAnnotation: "a"}, nil, "b", renamed},
		{"added as it is", nil, map[string]string{netconf.NameAnnotation: "d"}, "d", ""},
		{"another annotation", map[string]string{netconf.NameAnnotation: "g"}, map[string]string{netconf.NameAnnotation: "g", "x": "y"}, "e", ""},
	} {
		t.Run("X7, M00010, cr-name "+tt.name, func(t *testing.T) {
			o := c.network(tt.object, tt.from, custom)
			c.make(t, o)
			o.SetAnnotations(tt.to)
			refused, _ := c.try(func() error { return c.Update(t.Context(), o) })
			if (refused == "") != (tt.refusedWith == "") || !strings.Contains(refused, tt.refusedWith) {
				t.Errorf("%q: want %q", refused, tt.refusedWith)
			}
		})
	}
	dotted.SetAnnotations(map[string]string{netconf.NameAnnotation: "good"})
	if err := c.Update(t.Context(), dotted); err != nil {
		t.Errorf("a name that was never one can't be mended: %v", err)
	}
}

// TestNobodyIsStuck has objects that became invalid: what doesn't change spec and
// annotations goes through, and so does everything of an object that is being deleted.
func TestNobodyIsStuck(t *testing.T) {
	c := newCluster(t)
	// Created before there were policies and a webhook.
	o := c.network("net", map[string]string{netconf.VersionAnnotation: "9"}, map[string]any{"cniType": "custom", "customCNI": "{"})
	o.SetFinalizers([]string{"test.example/a", "test.example/b"})
	c.make(t, o)
	c.all(t)

	bad := o.DeepCopy()
	bad.SetAnnotations(map[string]string{netconf.VersionAnnotation: "8"})
	if refused, _ := c.try(func() error { return c.Update(t.Context(), bad, client.DryRunAll) }); !strings.Contains(refused, "8") {
		t.Errorf("a change isn't checked: %q", refused)
	}
	o.SetLabels(map[string]string{"a": "b"})
	o.SetFinalizers([]string{"test.example/b"})
	if err := c.Update(t.Context(), o); err != nil {
		t.Errorf("labels and finalizers: %v", err)
	}
	if err := c.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	o.SetAnnotations(map[string]string{netconf.VersionAnnotation: "7"})
	o.SetFinalizers(nil)
	if err := c.Update(t.Context(), o); err != nil {
		t.Errorf("an object that is being deleted: %v", err)
	}
}

// TestX5Apply changes the type of a network by kubectl apply, twice.
func TestX5Apply(t *testing.T) {
	c := newCluster(t)
	c.all(t)
	for _, kind := range []string{"macvlan", "ipvlan", "macvlan"} {
		spec := c.apply(t, c.network("net", nil, map[string]any{"cniType": kind, kind: map[string]any{"master": []any{"ens192"}}}))
		if len(spec) != 2 || spec[kind] == nil {
			t.Errorf("%s: %v", kind, spec)
		}
	}
}

// TestServerSideApply takes the last key from a network's coordinator by kubectl apply
// --server-side, which leaves null there.
func TestServerSideApply(t *testing.T) {
	c := newCluster(t)
	c.all(t)
	for _, x := range []struct{ coordinator, want any }{
		{map[string]any{"mode": "overlay"}, map[string]any{"mode": "overlay"}},
		{map[string]any{}, nil},
	} {
		spec := c.apply(t, c.network("net", nil, map[string]any{
			"cniType": "macvlan", "macvlan": map[string]any{"master": []any{"ens192"}}, "coordinator": x.coordinator,
		}), "--server-side")
		if got, is := spec["coordinator"]; !is || !reflect.DeepEqual(got, x.want) {
			t.Errorf("coordinator %v becomes %v (%t), want %v", x.coordinator, got, is, x.want)
		}
	}
}

// apply runs kubectl apply for an object, and returns the spec that it has then.
func (c *cluster) apply(t *testing.T, o *unstructured.Unstructured, flags ...string) map[string]any {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	kubectl := exec.Command("kubectl", append([]string{"apply", "-f", "-"}, flags...)...)
	kubectl.Stdin = bytes.NewReader(text)
	if out, err := kubectl.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	spec, _, _ := unstructured.NestedMap(o.Object, "spec")
	return spec
}

// TestExamples gives the objects of pkg/netconf/testdata to an API server with everything
// in force: those of the project's documents word for word. X9's get a warning.
func TestExamples(t *testing.T) {
	c := newCluster(t)
	c.all(t)
	files, err := filepath.Glob("../../pkg/netconf/testdata/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	odd := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			object, _, _ := strings.Cut(strings.TrimPrefix(string(text), "-- object --\n"), "\n-- ")
			o := c.object(documents(t, []byte(object))[0])
			refused, warnings := c.dryRun(o)
			if refused != "" {
				t.Error(refused)
			}
			block := "spec.macvlan: taken as the block ipvlan, for cniType is ipvlan: write spec.ipvlan"
			_, has, _ := unstructured.NestedMap(o.Object, "spec", "macvlan")
			kind, _, _ := unstructured.NestedString(o.Object, "spec", "cniType")
			if want := has && kind == "ipvlan"; warned(warnings, block) != want {
				t.Errorf("X9: warned of the block macvlan: %t: %q", !want, warnings)
			} else if want {
				odd++
			}
		})
	}
	if odd == 0 {
		t.Error("no example has the block macvlan for ipvlan")
	}
	files, err = filepath.Glob("../../examples/*/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range documents(t, text) {
			if d["apiVersion"] != netconf.APIVersion {
				continue
			}
			if refused, warnings := c.dryRun(c.object(d)); refused != "" || len(warnings) > 0 {
				t.Errorf("%s: %s%q", file, refused, warnings)
			}
		}
	}
}

// served waits until the webhook refuses what only it can see.
func (c *cluster) served(t testing.TB) {
	t.Helper()
	until(t, "the webhook in force", func() bool {
		refused, _ := c.dryRun(c.network("probe", nil, map[string]any{"cniType": "custom", "customCNI": "{"}))
		return strings.Contains(refused, "admission webhook")
	})
}

// TestWebhook gives the cases that only the webhook sees to the API server, with a webhook
// and without. Without, the objects are taken, and refused what else refuses them.
func TestWebhook(t *testing.T) {
	c := newCluster(t)
	r := c.all(t)
	for _, row := range rows(t) {
		if row.Only == "" {
			continue
		}
		t.Run(row.Case, func(t *testing.T) {
			_, _, refused, _ := row.try(t, c)
			for _, want := range row.Faults {
				if !strings.Contains(refused, "admission webhook") || !strings.Contains(refused, want) {
					t.Errorf("%q: want %q", refused, want)
				}
			}
		})
	}
	t.Run("V, a SpiderCoordinator with one destination both ways", func(t *testing.T) {
		refused, _ := c.dryRun(c.object(map[string]any{"kind": netconf.CoordinatorKind, "metadata": map[string]any{"name": "default"}, "spec": map[string]any{
			"serviceCIDR": []any{"10.96.0.0/16"}, "policyRoutes": []any{map[string]any{"dst": "10.96.0.0/16", "gw": "10.6.0.1"}},
		}}))
		if !strings.Contains(refused, "spec: policyRoutes: dst 10.96.0.0/16: it is in serviceCIDR too") {
			t.Error(refused)
		}
	})
	t.Run("the webhook is down", func(t *testing.T) {
		r.stop()
		for _, row := range rows(t) {
			_, _, refused, _ := row.try(t, c)
			if (refused == "") != (len(row.API) == 0) || strings.Contains(refused, "webhook") {
				t.Errorf("%s: %s", row.Case, refused)
			}
		}
	})
}

// TestNamesOfOthers wants one NetworkAttachmentDefinition by two objects, in three ways.
func TestNamesOfOthers(t *testing.T) {
	c := newCluster(t)
	r := c.serve(t, nil)
	c.webhook(t, r.address)
	c.served(t)
	custom := map[string]any{"cniType": "custom"}
	byName := &v2beta1.SpiderMultusConfig{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "a"}, Spec: netconf.Spec{CNIType: "custom"}}
	c.make(t, byName)
	byName.Status.NetworkAttachmentDefinition = "a"
	if err := c.Status().Update(t.Context(), byName); err != nil {
		t.Fatal(err)
	}
	c.make(t, c.network("other", map[string]string{netconf.NameAnnotation: "b"}, custom))
	for _, tt := range []struct {
		name string
		o    *unstructured.Unstructured
		want string
	}{
		{"M00011, the cr-name is another's name", c.network("x", map[string]string{netconf.NameAnnotation: "a"}, custom),
			`metadata.annotations[multus.spidernet.io/cr-name]: "a": the net-attach-def %s/a already exists and is managed by SpiderMultusConfig %[1]s/a`},
		{"M00020, the cr-name is another's cr-name", c.network("x", map[string]string{netconf.NameAnnotation: "b"}, custom),
			`metadata.annotations[multus.spidernet.io/cr-name]: "b": the net-attach-def %s/b is wanted by SpiderMultusConfig %[1]s/other: want another name, by the annotation multus.spidernet.io/cr-name`},
		{"M00020, the name is another's cr-name", c.network("b", nil, custom), `metadata.name: "b": the net-attach-def %s/b is wanted by SpiderMultusConfig %[1]s/other`},
		{"a name of its own", c.network("c", nil, custom), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := ""
			if tt.want != "" {
				want = fmt.Sprintf(tt.want, c.namespace)
			}
			// The webhook has the others from a cache.
			until(t, want, func() bool {
				refused, _ := c.dryRun(tt.o)
				return (refused == "") == (want == "") && strings.Contains(refused, want)
			})
		})
	}
	t.Run("another one has ipvlans on the link", func(t *testing.T) {
		c.make(t, c.network("ipvlan", nil, map[string]any{"cniType": "ipvlan", "ipvlan": map[string]any{"master": []any{"shared1"}}}))
		h := &handler{reader: c}
		o := c.network("macvlan", nil, map[string]any{"cniType": "macvlan", "macvlan": map[string]any{"master": []any{"shared1"}}})
		o.SetNamespace("elsewhere")
		response := h.Handle(t.Context(), review(t, admissionv1.Create, o, nil))
		if !response.Allowed || len(response.Warnings) != 1 || !strings.HasPrefix(response.Warnings[0], "spec.macvlan.master: shared1: SpiderMultusConfig "+c.namespace+"/ipvlan has ipvlans on it") {
			t.Errorf("%+v", response)
		}
	})
	t.Run("another one has a bond of the name", func(t *testing.T) {
		bond := func(name string, mode int64) *unstructured.Unstructured {
			return c.network(name, nil, map[string]any{"cniType": "macvlan", "macvlan": map[string]any{"master": []any{"port1", "port2"}, "bond": map[string]any{"name": "ours", "mode": mode}}})
		}
		c.make(t, bond("bond", 1))
		response := (&handler{reader: c}).Handle(t.Context(), review(t, admissionv1.Create, bond("other", 4), nil))
		if !response.Allowed || len(response.Warnings) != 1 || !strings.HasPrefix(response.Warnings[0], "spec.macvlan.bond.mode: ours: SpiderMultusConfig "+c.namespace+"/bond has it with mode 1") {
			t.Errorf("%+v", response)
		}
	})
	t.Run("the others can't be read", func(t *testing.T) {
		h := &handler{reader: broken{c}}
		response := h.Handle(t.Context(), review(t, admissionv1.Create, c.network("b", nil, custom), nil))
		if !response.Allowed || len(response.Warnings) != 1 || !strings.Contains(response.Warnings[0], "metadata.name: not checked whether another SpiderMultusConfig has it: no answer") {
			t.Errorf("%+v", response)
		}
	})
	t.Run("the other is being deleted", func(t *testing.T) {
		o := c.network("leaving", nil, custom)
		o.SetFinalizers([]string{"test.example/a"})
		c.make(t, o)
		if err := c.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		h := &handler{reader: c}
		next := c.network("x", map[string]string{netconf.NameAnnotation: "leaving"}, custom)
		if response := h.Handle(t.Context(), review(t, admissionv1.Create, next, nil)); !response.Allowed {
			t.Errorf("%+v", response.Result)
		}
		if err := c.Patch(t.Context(), o, client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"finalizers": null}}`))); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("an update of one of two", func(t *testing.T) {
		h := &handler{reader: c}
		o := c.network("b", nil, custom)
		next := c.network("b", map[string]string{"x": "y"}, custom)
		if response := h.Handle(t.Context(), review(t, admissionv1.Update, next, o)); !response.Allowed {
			t.Errorf("%+v", response.Result)
		}
	})
}

// broken is a reader that gives no answer.
type broken struct{ client.Reader }

func (broken) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return fmt.Errorf("no answer")
}

// TestHandlerBounds has what no API server sends.
func TestHandlerBounds(t *testing.T) {
	h := &handler{reader: broken{}}
	o := &unstructured.Unstructured{Object: map[string]any{"kind": netconf.Kind, "metadata": map[string]any{"name": "a"}}}
	big := review(t, admissionv1.Create, o, nil)
	big.Object.Raw = []byte(`{"spec": "` + strings.Repeat("a", maxObject) + `"}`)
	if r := h.Handle(t.Context(), big); r.Allowed || r.Result.Code != http.StatusUnprocessableEntity || !strings.Contains(r.Result.Message, "want at most 2097152") {
		t.Errorf("%+v", r.Result)
	}
	text := review(t, admissionv1.Create, o, nil)
	text.Object.Raw = []byte("{")
	if r := h.Handle(t.Context(), text); r.Allowed || !strings.Contains(r.Result.Message, "object: not a JSON object") {
		t.Errorf("%+v", r.Result)
	}
	for _, r := range []admission.Request{review(t, admissionv1.Delete, o, nil), review(t, admissionv1.Connect, o, nil)} {
		if r := h.Handle(t.Context(), r); !r.Allowed {
			t.Errorf("%+v", r.Result)
		}
	}
}

// TestConfiguration holds what keeps the webhook from harming anybody: it is sent objects
// of this project alone, and isn't waited for.
func TestConfiguration(t *testing.T) {
	objects := deployed(t, "webhook.yaml")
	var service corev1.Service
	convert(t, objects[0], &service)
	var v admissionregistrationv1.ValidatingWebhookConfiguration
	convert(t, objects[1], &v)
	if v.Name != Config || service.Name != Secret || service.Spec.Ports[0].TargetPort.IntValue() != webhook.DefaultPort {
		t.Errorf("%s, %s, %v", v.Name, service.Name, service.Spec.Ports)
	}
	scopes := map[string]admissionregistrationv1.ScopeType{
		"spidermultusconfigs": admissionregistrationv1.NamespacedScope, "spidercoordinators": admissionregistrationv1.ClusterScope,
		"spidersubnets": admissionregistrationv1.ClusterScope, "spiderippools": admissionregistrationv1.ClusterScope, "spiderreservedips": admissionregistrationv1.ClusterScope,
	}
	for _, w := range v.Webhooks {
		s := w.ClientConfig.Service
		if s == nil || s.Name != service.Name || s.Namespace != service.Namespace || *s.Path != Path || w.ClientConfig.CABundle != nil {
			t.Errorf("%s: %+v", w.Name, w.ClientConfig)
		}
		if *w.FailurePolicy != admissionregistrationv1.Ignore || *w.MatchPolicy != admissionregistrationv1.Exact ||
			*w.SideEffects != admissionregistrationv1.SideEffectClassNone || time.Duration(*w.TimeoutSeconds)*time.Second <= lookUpLimit {
			t.Errorf("%s: %+v", w.Name, w)
		}
		for _, r := range w.Rules {
			if !slices.Equal(r.APIGroups, []string{netconf.Group}) || len(r.Resources) != 1 || scopes[r.Resources[0]] != *r.Scope {
				t.Errorf("%s: %+v", w.Name, r)
			}
			delete(scopes, r.Resources[0])
		}
	}
	if len(scopes) > 0 {
		t.Errorf("nothing checks %v", scopes)
	}
}
