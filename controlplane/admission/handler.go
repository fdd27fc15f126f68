// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/networks"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

const (
	maxObject   = 2 << 20     // bytes; etcd takes 1.5 MiB
	lookUpLimit = time.Second // for what needs the cluster; the API server waits for 3
)

// handler answers reviews of the kinds that people write.
type handler struct{ reader client.Reader }

// object is what decides whether an object is checked.
type object struct {
	Metadata struct {
		DeletionTimestamp *string
		Annotations       map[string]string
	}
	Spec any
}

// Handle refuses an object with faults, and names all of them. It allows one that is being
// deleted, and an update that changes neither spec nor annotations: a finalizer can be
// removed from any object.
func (h *handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	if req.Operation != admissionv1.Create && req.Operation != admissionv1.Update {
		return admission.Allowed("")
	}
	raw := req.Object.Raw
	if len(raw) > maxObject {
		return answer([]netconf.Fault{{Path: "object", Message: fmt.Sprintf("%d bytes: want at most %d", len(raw), maxObject)}})
	}
	var now, former object
	readable := json.Unmarshal(raw, &now) == nil // where it isn't, Decode says why
	if readable && now.Metadata.DeletionTimestamp != nil {
		return admission.Allowed("")
	}
	update := req.Operation == admissionv1.Update && json.Unmarshal(req.OldObject.Raw, &former) == nil
	if update && readable && reflect.DeepEqual(now.Spec, former.Spec) && sameAnnotations(now, former) {
		return admission.Allowed("")
	}
	var was []byte
	if update {
		was = req.OldObject.Raw
	}
	switch req.Kind.Kind {
	case netconf.Kind:
		c, faults := netconf.Decode(raw)
		faults = append(faults, c.Validate()...)
		c.Namespace = req.Namespace
		renamed := !update || name(c.Name, c.Annotations) != name(c.Name, former.Metadata.Annotations)
		return answer(append(faults, h.others(ctx, c, renamed)...))
	case netconf.CoordinatorKind:
		_, faults := netconf.DecodeCoordinator(raw)
		return answer(faults)
	case ipam.PoolKind:
		return answer(h.pool(ctx, raw, was))
	case ipam.SubnetKind:
		return answer(h.subnet(ctx, raw, was))
	case ipam.ReservedKind:
		return answer(reserved(raw, was))
	}
	return admission.Allowed("")
}

func sameAnnotations(a, b object) bool {
	return len(a.Metadata.Annotations) == 0 && len(b.Metadata.Annotations) == 0 ||
		reflect.DeepEqual(a.Metadata.Annotations, b.Metadata.Annotations)
}

// name returns the name of the NetworkAttachmentDefinition.
func name(object string, annotations map[string]string) string {
	return networks.NameOf(&v2beta1.SpiderMultusConfig{ObjectMeta: metav1.ObjectMeta{Name: object, Annotations: annotations}})
}

// others says what other SpiderMultusConfigs have to do with one: which has, or wants, the same
// NetworkAttachmentDefinition, if it is named now, and which can't be on one node with it. It only
// helps: who gets the name is the reconciler's decision, so an object is allowed where the others
// can't be read.
func (h *handler) others(ctx context.Context, c netconf.Config, renamed bool) (faults []netconf.Fault) {
	path := "metadata.name"
	if c.Annotations[netconf.NameAnnotation] != "" {
		path = "metadata.annotations[" + netconf.NameAnnotation + "]"
	}
	ctx, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	var others v2beta1.SpiderMultusConfigList
	if err := h.reader.List(ctx, &others); err != nil {
		return []netconf.Fault{unchecked(path, "another SpiderMultusConfig has it", err)}
	}
	for i := range others.Items {
		o := &others.Items[i]
		if o.Namespace == c.Namespace && o.Name == c.Name || o.DeletionTimestamp != nil {
			continue
		}
		faults = append(faults, c.Beside(o.Network())...)
		if renamed && o.Namespace == c.Namespace {
			faults = append(faults, rival(path, c, o)...)
		}
	}
	return faults
}

// rival refuses the name of a NetworkAttachmentDefinition that another SpiderMultusConfig has, or wants.
func rival(path string, c netconf.Config, o *v2beta1.SpiderMultusConfig) []netconf.Fault {
	wanted := name(c.Name, c.Annotations)
	if networks.NameOf(o) != wanted {
		return nil
	}
	whose := "is wanted by"
	if o.Status.NetworkAttachmentDefinition == wanted {
		whose = "already exists and is managed by"
	}
	return []netconf.Fault{{Path: path, Message: fmt.Sprintf("%q: the net-attach-def %s/%s %s SpiderMultusConfig %s/%s: want another name, by the annotation %s",
		wanted, c.Namespace, wanted, whose, c.Namespace, o.Name, netconf.NameAnnotation)}}
}

// answer refuses an object that has faults, and passes warnings on.
func answer(faults []netconf.Fault) admission.Response {
	var refused, warnings []string
	for _, f := range faults {
		if f.Warning {
			warnings = append(warnings, f.Path+": "+f.Message)
		} else {
			refused = append(refused, f.String())
		}
	}
	response := admission.Allowed("")
	if len(refused) > 0 {
		response = admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &metav1.Status{
			Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: strings.Join(refused, "; "),
		}}}
	}
	return response.WithWarnings(warnings...)
}
