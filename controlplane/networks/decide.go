// SPDX-License-Identifier: Apache-2.0

package networks

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/netconf"
)

const (
	// Manager is the name of the controller in managedFields.
	Manager = "multihome-controller"

	// FormerConfig is the annotation that keeps the configuration that a
	// NetworkAttachmentDefinition had before a SpiderMultusConfig took it over.
	FormerConfig = "multihome.io/former-config"
)

// Observed is what is known about one name of a NetworkAttachmentDefinition.
type Observed struct {
	Key types.NamespacedName
	NAD *nad.NetworkAttachmentDefinition // nil: there is none
	// Configs want the name.
	Configs []v2beta1.SpiderMultusConfig
	// Owner is the SpiderMultusConfig that controls NAD, if it still exists; it may want
	// another name by now.
	Owner *v2beta1.SpiderMultusConfig
	// Beside are others on the links of Configs.
	Beside []v2beta1.SpiderMultusConfig
}

// Decision is what to do about one name.
type Decision struct {
	Write    Write
	NAD      *nad.NetworkAttachmentDefinition // what it is to be after Create and Update
	Verdicts []Verdict
}

// Write is a kind of write.
type Write int

// Writes to a NetworkAttachmentDefinition.
const (
	Nothing Write = iota
	Create
	Update
	Delete
)

// Verdict is what to say about a config.
type Verdict struct {
	Config   *v2beta1.SpiderMultusConfig
	Reason   string // of the condition Ready
	Message  string
	Has      bool // the NetworkAttachmentDefinition is the config's
	Warnings string
}

// Decide decides what becomes of a NetworkAttachmentDefinition. Who controls it keeps it;
// else the oldest config gets it, of equally old ones that with the lower UID. One that a
// controller of another kind has is left alone.
func Decide(o Observed) Decision {
	owner := controllerOf(o.NAD)
	holder, taken := o.holder(owner)
	var d Decision
	switch {
	case o.NAD != nil && !o.NAD.DeletionTimestamp.IsZero():
		d.Verdicts = o.verdicts(nil, v2beta1.Waiting, fmt.Sprintf("NetworkAttachmentDefinition %s is being deleted, and is made again when it is gone", o.Key))
	case taken != "":
		d.Verdicts = o.verdicts(nil, v2beta1.Conflict, taken)
	case holder == nil && owner != nil && o.Owner != nil: // it wants another name by now
		d.Write, d.NAD, d.Verdicts = Delete, o.NAD, o.verdicts(nil, "", "")
		if _, ok := o.NAD.Annotations[FormerConfig]; ok {
			d.Write, d.NAD = Update, givenBack(o.NAD)
		}
	case holder == nil: // nobody wants it; the garbage collector takes what has lost its owner
		d.Verdicts = o.verdicts(nil, "", "")
	default:
		d.Verdicts = o.verdicts(holder, v2beta1.Conflict, fmt.Sprintf(
			"NetworkAttachmentDefinition %s is of SpiderMultusConfig %s: choose another name by the annotation %s", o.Key, holder.Name, netconf.NameAnnotation))
		if len(faults(holder)) > 0 {
			d.NAD = o.NAD
			break
		}
		d.NAD = desired(o.NAD, holder)
		switch {
		case o.NAD == nil:
			d.Write = Create
		case !reflect.DeepEqual(o.NAD, d.NAD):
			d.Write = Update
		}
	}
	return d
}

// holder returns the config that the NetworkAttachmentDefinition is to be of, nil if it is
// nobody's, and why nobody can have it now.
func (o Observed) holder(owner *metav1.OwnerReference) (config *v2beta1.SpiderMultusConfig, taken string) {
	switch {
	case owner != nil && !isConfig(owner):
		return nil, fmt.Sprintf("NetworkAttachmentDefinition %s is controlled by %s %s of %s: choose another name by the annotation %s",
			o.Key, owner.Kind, owner.Name, owner.APIVersion, netconf.NameAnnotation)
	case o.Owner != nil && !o.Owner.DeletionTimestamp.IsZero():
		return nil, fmt.Sprintf("NetworkAttachmentDefinition %s is of SpiderMultusConfig %s, which is being deleted", o.Key, o.Owner.Name)
	case o.Owner != nil && len(faults(o.Owner)) > 0: // it keeps what it had before it got a fault, perhaps in its name
		return o.Owner, ""
	}
	configs := slices.Clone(o.Configs)
	slices.SortFunc(configs, func(a, b v2beta1.SpiderMultusConfig) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(string(a.UID), string(b.UID)))
	})
	for i := range configs {
		if owner != nil && configs[i].UID == owner.UID {
			return &configs[i], ""
		}
	}
	for i := range configs {
		if configs[i].DeletionTimestamp.IsZero() && len(faults(&configs[i])) == 0 {
			return &configs[i], ""
		}
	}
	return nil, ""
}

// verdicts returns what is said about each config: about the holder that it has the
// NetworkAttachmentDefinition, about another one its faults, or the reason that is given.
func (o Observed) verdicts(holder *v2beta1.SpiderMultusConfig, reason, message string) []Verdict {
	var out []Verdict
	for i := range o.Configs {
		c := &o.Configs[i]
		if !c.DeletionTimestamp.IsZero() {
			continue
		}
		v := Verdict{Config: c, Reason: reason, Message: message, Has: holder != nil && c.UID == holder.UID, Warnings: o.warnings(c)}
		if v.Has {
			v.Reason, v.Message = v2beta1.Written, fmt.Sprintf("NetworkAttachmentDefinition %s is as the spec says", o.Key)
		}
		if wrong := faults(c); len(wrong) > 0 {
			v.Reason, v.Message = v2beta1.Invalid, strings.Join(wrong, "; ")
		}
		out = append(out, v)
	}
	return out
}

// desired returns the NetworkAttachmentDefinition of a config: ours in every field that
// this package decides about, and as it is in all others.
func desired(now *nad.NetworkAttachmentDefinition, c *v2beta1.SpiderMultusConfig) *nad.NetworkAttachmentDefinition {
	want := c.Network().Render()
	delete(want.Annotations, FormerConfig)
	out := &nad.NetworkAttachmentDefinition{}
	if now == nil {
		out.Namespace, out.Name, out.Annotations = want.Namespace, want.Name, want.Annotations
	} else {
		out = now.DeepCopy()
		annotations := maps.Clone(out.Annotations)
		if annotations == nil {
			annotations = map[string]string{}
		}
		own := ownFields(now)
		for key := range own.annotations {
			if key != FormerConfig {
				delete(annotations, key)
			}
		}
		maps.Copy(annotations, want.Annotations)
		if _, kept := annotations[FormerConfig]; !kept && controllerOf(now) == nil && !own.config && now.Spec.Config != want.Config {
			annotations[FormerConfig] = now.Spec.Config
		}
		if len(annotations) > 0 || out.Annotations != nil {
			out.Annotations = annotations
		}
	}
	if now == nil || now.Spec.Config != want.Config && (isCustom(c) || !sameJSON(now.Spec.Config, want.Config)) {
		out.Spec.Config = want.Config
	}
	out.OwnerReferences = withOwner(out.OwnerReferences, c)
	return out
}

// withOwner returns the owner references with the config as the controller. It replaces
// another config; owners of other kinds stay.
func withOwner(refs []metav1.OwnerReference, c *v2beta1.SpiderMultusConfig) []metav1.OwnerReference {
	own := metav1.OwnerReference{
		APIVersion: v2beta1.GroupVersion.String(), Kind: netconf.Kind, Name: c.Name, UID: c.UID,
		Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
	}
	var out []metav1.OwnerReference
	for _, r := range refs {
		switch former := isConfig(&r) && ptr.Deref(r.Controller, false); {
		case r.UID != c.UID && !former:
			out = append(out, r)
		case own.UID != "": // where the former one was
			out = append(out, own)
			own.UID = ""
		}
	}
	if own.UID != "" {
		out = append(out, own)
	}
	return out
}

// givenBack returns a NetworkAttachmentDefinition as it was before it was taken over.
func givenBack(now *nad.NetworkAttachmentDefinition) *nad.NetworkAttachmentDefinition {
	out := now.DeepCopy()
	out.Spec.Config = now.Annotations[FormerConfig]
	for key := range ownFields(now).annotations {
		delete(out.Annotations, key)
	}
	delete(out.Annotations, FormerConfig)
	out.OwnerReferences = slices.DeleteFunc(out.OwnerReferences, func(r metav1.OwnerReference) bool { return isConfig(&r) })
	return out
}

// fields are those of a NetworkAttachmentDefinition that the controller wrote last, and
// nobody else.
type fields struct {
	annotations map[string]bool
	config      bool
}

// ownFields reads managedFields, whose format is FieldsV1 (k8s.io/apimachinery,
// pkg/apis/meta/v1: "f:<name>" is a field). An annotation that somebody else wrote too isn't
// ours alone.
func ownFields(n *nad.NetworkAttachmentDefinition) fields {
	out, others := fields{annotations: map[string]bool{}}, map[string]bool{}
	for _, entry := range n.ManagedFields {
		if entry.FieldsV1 == nil {
			continue
		}
		var tree struct {
			Metadata struct {
				Annotations map[string]json.RawMessage `json:"f:annotations"`
			} `json:"f:metadata"`
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if json.Unmarshal(entry.FieldsV1.GetRawBytes(), &tree) != nil {
			continue
		}
		into := others
		if entry.Manager == Manager {
			into = out.annotations
			out.config = out.config || tree.Spec["f:config"] != nil
		}
		for key := range tree.Metadata.Annotations {
			if key, ok := strings.CutPrefix(key, "f:"); ok {
				into[key] = true
			}
		}
	}
	maps.DeleteFunc(out.annotations, func(key string, _ bool) bool { return others[key] })
	return out
}

func controllerOf(n *nad.NetworkAttachmentDefinition) *metav1.OwnerReference {
	if n == nil {
		return nil
	}
	return metav1.GetControllerOf(n)
}

// isConfig reports whether an owner is a SpiderMultusConfig, of whichever version.
func isConfig(r *metav1.OwnerReference) bool {
	group, _, _ := strings.Cut(r.APIVersion, "/")
	return group == netconf.Group && r.Kind == netconf.Kind
}

func isCustom(c *v2beta1.SpiderMultusConfig) bool {
	return c.Spec.CNIType == "" || c.Spec.CNIType == "custom"
}

// sameJSON reports whether two texts are the same JSON, so that another spelling of it in a
// later version writes nothing.
func sameJSON(a, b string) bool {
	var values [2]any
	for i, text := range []string{a, b} {
		d := json.NewDecoder(bytes.NewReader([]byte(text)))
		d.UseNumber()
		if d.Decode(&values[i]) != nil || d.More() {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// faults returns what is wrong with a config, a line for each fault.
func faults(c *v2beta1.SpiderMultusConfig) []string { return said(c, false) }

// warnings returns what is not as it may be meant.
func (o Observed) warnings(c *v2beta1.SpiderMultusConfig) string {
	out := said(c, true)
	for i := range o.Beside {
		if other := &o.Beside[i]; other.DeletionTimestamp.IsZero() {
			for _, f := range c.Network().Beside(other.Network()) {
				out = append(out, f.Path+": "+f.Message)
			}
		}
	}
	return strings.Join(out, "; ")
}

func said(c *v2beta1.SpiderMultusConfig, warning bool) []string {
	var out []string
	for _, f := range c.Network().Validate() {
		if f.Warning == warning {
			out = append(out, f.Path+": "+f.Message)
		}
	}
	return out
}

// onLink returns the link on which a config puts macvlans or ipvlans, as the index has it: with the
// type, or with the other one, which can't be beside it. It is "" without such a link.
func onLink(c *v2beta1.SpiderMultusConfig, other bool) string {
	link, kind := c.Network().Parent()
	if link == "" {
		return ""
	}
	if other {
		kind = map[string]string{"macvlan": "ipvlan", "ipvlan": "macvlan"}[kind]
	}
	return kind + " on " + link
}

// NameOf returns the name of the NetworkAttachmentDefinition that a config wants.
func NameOf(c *v2beta1.SpiderMultusConfig) string {
	return cmp.Or(c.Annotations[netconf.NameAnnotation], c.Name)
}
