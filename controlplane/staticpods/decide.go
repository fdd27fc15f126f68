// SPDX-License-Identifier: Apache-2.0

package staticpods

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

// Decide returns the next write for a name: an object to create, one to update, or one to
// delete; none of them if the record is as the claim says. claim and now may be nil.
func Decide(claim *v2beta1.SpiderEndpoint, now *staticmacvlan.StaticPod) (create, update, remove *staticmacvlan.StaticPod) {
	want := Record(claim)
	switch {
	case want == nil && now == nil:
	case want == nil:
		return nil, nil, now
	case now == nil:
		return want, nil, nil
	case now.Spec.PodID != want.Spec.PodID:
		return nil, nil, now // the next step makes the new pod's
	case now.Spec != want.Spec:
		next := now.DeepCopy()
		next.Spec = want.Spec
		return nil, next, nil
	}
	return nil, nil, nil
}

// Record returns the record of a claim, nil if the claim has no addresses of VLANSubnets.
func Record(claim *v2beta1.SpiderEndpoint) *staticmacvlan.StaticPod {
	if claim == nil || claim.Status.Current == nil {
		return nil
	}
	var vlans, ips, macs []string
	for _, want := range claim.Spec.NICs {
		if want.Static == nil {
			continue
		}
		for _, has := range claim.Status.Current.IPs {
			if has.Interface == want.Interface {
				vlans, ips, macs = append(vlans, want.Static.VLANSubnet), append(ips, has.IPv4+has.IPv6), append(macs, has.MAC)
			}
		}
	}
	if len(vlans) == 0 {
		return nil
	}
	mac := strings.Join(macs, ",")
	if strings.Trim(mac, ",") == "" {
		mac = ""
	}
	owner := metav1.NewControllerRef(claim, v2beta1.GroupVersion.WithKind("SpiderEndpoint"))
	owner.BlockOwnerDeletion = nil // it would need a right on the claim's finalizers
	return &staticmacvlan.StaticPod{
		ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: claim.Name, OwnerReferences: []metav1.OwnerReference{*owner}},
		Spec: staticmacvlan.StaticPodSpec{
			PodName: claim.Name, PodNamespace: claim.Namespace, PodID: claim.Spec.PodUID,
			VLAN: strings.Join(vlans, ","), IP: strings.Join(ips, ","), MAC: mac,
		},
	}
}
