// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// FuzzHandler has any object, of each kind, created and updated: nothing panics, and what
// is refused has a reason.
func FuzzHandler(f *testing.F) {
	for _, s := range []string{
		`{"metadata": {"name": "a", "annotations": {"multus.spidernet.io/cr-name": "b"}}, "spec": {"cniType": "macvlan", "macvlan": {"master": ["ens192"], "vlanID": 5}}}`,
		`{"metadata": {"deletionTimestamp": "x"}}`, `{"metadata": {"deletionTimestamp": 5}}`, `{"metadata": [], "spec": 5}`, `[]`, `null`, ``, `{"spec": {"customCNI": "{}"}}`,
		`{"metadata": {"name": "a"}, "spec": {"subnet": "10.6.0.0/16", "ips": ["10.6.0.1-10.6.0.9"], "gateway": "10.6.0.1"}}`,
		`{"metadata": {"name": "default"}, "spec": {"hijackCIDR": ["0.0.0.0/0"], "policyRoutes": [{"dst": "x"}]}}`,
	} {
		f.Add([]byte(s), []byte(`{"spec": {}}`))
	}
	f.Fuzz(func(t *testing.T, now, former []byte) {
		for _, kind := range []string{netconf.Kind, netconf.CoordinatorKind, ipam.PoolKind, ipam.SubnetKind, ipam.ReservedKind, "Pod", ""} {
			for _, op := range []admissionv1.Operation{admissionv1.Create, admissionv1.Update} {
				r := (&handler{reader: broken{}}).Handle(t.Context(), admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
					Operation: op, Kind: metav1.GroupVersionKind{Kind: kind},
					Object: runtime.RawExtension{Raw: now}, OldObject: runtime.RawExtension{Raw: former},
				}})
				if !r.Allowed && r.Result.Message == "" {
					t.Errorf("%s %s: refused without a reason", op, kind)
				}
			}
		}
	})
}

// FuzzReview has any body of a request: the answer is a review in JSON, and no panic was
// caught on the way.
func FuzzReview(f *testing.F) {
	for _, s := range []string{
		`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1", "operation": "CREATE", "kind": {"kind": "SpiderMultusConfig"}, "object": {"spec": {}}}}`,
		`{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"operation": "UPDATE", "kind": {"kind": "SpiderCoordinator"}, "object": null, "oldObject": 5}}`,
		`{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}`, `{}`, ``, `[`, `{"request": 5}`,
	} {
		f.Add([]byte(s))
	}
	server := &admission.Webhook{Handler: &handler{reader: broken{}}}
	f.Fuzz(func(t *testing.T, body []byte) {
		request := httptest.NewRequest(http.MethodPost, Path, strings.NewReader(string(body)))
		request.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		var review admissionv1.AdmissionReview
		if err := json.Unmarshal(answer.Body.Bytes(), &review); err != nil || review.Response == nil {
			t.Fatalf("%s: %v", answer.Body, err)
		}
		if r := review.Response.Result; r != nil && strings.Contains(r.Message, "panic") && !strings.Contains(string(body), "panic") {
			t.Error(r.Message)
		}
	})
}
