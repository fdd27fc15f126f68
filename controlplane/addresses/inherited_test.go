// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestInherited: what a pod with a fixed identity does about the addresses that are kept for it.
// The pod is web-1 of StatefulSet web of UID 1, or of virtual machine vm, and has NIC net1 on
// pools a and b.
func TestInherited(t *testing.T) {
	web := &v1alpha1.Owner{Group: "apps", Kind: identities.StatefulSet, Namespace: "ns", Name: "web", UID: "1", Ordinal: ptr.To[int32](1)}
	vm := &v1alpha1.Owner{Group: "kubevirt.io", Kind: identities.VirtualMachine, Namespace: "ns", Name: "vm", UID: "1"}
	kept := func(id *v1alpha1.Owner, addr, pool, nic string, change ...func(*keptAddress)) keptAddress {
		a := Address(ipam.Key{Addr: netip.MustParseAddr(addr)}, pool, v1alpha1.Holder{})
		a.Spec.State, a.Spec.Holders, a.Spec.Identity = v1alpha1.Reserved, nil, id.DeepCopy()
		a.Spec.Identity.Interface = nic
		k := keptAddress{IPAddress: a}
		for _, f := range change {
			f(&k)
		}
		return k
	}
	heldBy := func(uids ...string) func(*keptAddress) {
		return func(k *keptAddress) {
			k.Spec.State = v1alpha1.Allocated
			for _, uid := range uids {
				k.Spec.Holders = append(k.Spec.Holders, v1alpha1.Holder{Namespace: "ns", Pod: "p" + uid, PodUID: uid, Interface: k.Spec.Identity.Interface, Node: "node2"})
			}
		}
	}
	former := func(k *keptAddress) { k.Spec.Identity.UID = "0" }
	unknown := func(k *keptAddress) { k.Spec.Identity.UID = "" }
	retained := func(k *keptAddress) { k.Retained = true }
	migrates := func(k *keptAddress) { k.Migrates = true }
	moved := func(k *keptAddress) { k.Moved = true }
	released := func(second int) func(*keptAddress) {
		return func(k *keptAddress) { k.Spec.ReleasedAt = ptr.To(metav1.Unix(int64(second), 0)) }
	}
	confined := func(k *keptAddress) { k.Spec.State = v1alpha1.Quarantined }
	need := func(nic string, ipv6 bool, pools ...string) ipam.Need {
		return ipam.Need{Interface: nic, IPv6: ipv6, Pools: pools}
	}
	keeps := func(n ipam.Need, disabled string, pools ...string) ipam.Need {
		n.Keep = &ipam.Keep{Disabled: []string{disabled}, Pools: pools, Why: "there is none"}
		return n
	}
	v4 := need("net1", false, "a", "b")
	const x, y, z = "10.1.0.5", "10.1.0.6", "fd00:1::5"
	waits := "address 10.1.0.5 of %s is kept for this pod, and still belongs to pod ns/p2 of UID 2 on node node2"
	for _, c := range []struct {
		name  string
		id    *v1alpha1.Owner
		needs []ipam.Need
		all   []keptAddress
		want  string
	}{
		{"nothing is kept", web, []ipam.Need{v4}, nil, "rest net1 4"},
		{"its own", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1")}, "take 10.1.0.5 of 9"},
		{"of another NIC", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net2")}, "rest net1 4"},
		{"of a pool that it can't have any more", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "c", "net1")}, "rest net1 4, give up 10.1.0.5"},
		{"of a pool that was made anew with another subnet", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", moved)}, "rest net1 4, give up 10.1.0.5"},
		{"two: the lowest", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "b", "net1"), kept(web, y, "a", "net1")}, "take 10.1.0.5 of 9, give up 10.1.0.6"},
		{"two: the one that was given back first", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", released(2)), kept(web, y, "a", "net1", released(1))}, "take 10.1.0.6 of 9, give up 10.1.0.5"},
		{"two families", web, []ipam.Need{v4, need("net1", true, "s")}, []keptAddress{kept(web, x, "a", "net1"), kept(web, z, "s", "net1")}, "take 10.1.0.5 of 9, take fd00:1::5 of 9"},
		{"one family", web, []ipam.Need{v4, need("net1", true, "s")}, []keptAddress{kept(web, x, "a", "net1")}, "take 10.1.0.5 of 9, rest net1 6"},
		{"two NICs", web, []ipam.Need{need("net1", false, "a"), need("net2", false, "a")}, []keptAddress{kept(web, x, "a", "net2"), kept(web, y, "a", "net1")}, "take 10.1.0.5 of 9, take 10.1.0.6 of 9"},
		{"an address that it names", web, []ipam.Need{{Interface: "net1", Pools: []string{"a"}, Addresses: []netip.Addr{netip.MustParseAddr(y)}}},
			[]keptAddress{kept(web, x, "a", "net1"), kept(web, y, "a", "net1")}, "take 10.1.0.6 of 9, give up 10.1.0.5"},
		{"its former pod holds it", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", heldBy("2"))}, "Waiting: " + fmt.Sprintf(waits, "StatefulSet ns/web")},
		{"its former pod holds one of two", web, []ipam.Need{need("net1", false, "a"), need("net2", false, "a")},
			[]keptAddress{kept(web, x, "a", "net1", heldBy("2")), kept(web, y, "a", "net2")}, "Waiting: " + fmt.Sprintf(waits, "StatefulSet ns/web")},
		{"an earlier attempt took it", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1"), kept(web, y, "a", "net1", heldBy("9"))}, "take 10.1.0.6 of 9, give up 10.1.0.5"},
		{"of a former StatefulSet", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", former)}, "rest net1 4, give up 10.1.0.5"},
		{"of a former StatefulSet, retained", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", former, retained)}, "take 10.1.0.5 of 9"},
		{"of a former StatefulSet, held", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", former, heldBy("2"))}, "Waiting: " + fmt.Sprintf(waits, "StatefulSet ns/web")},
		{"of an owner that isn't known", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", unknown)}, "take 10.1.0.5 of 9"},
		{"in quarantine", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", confined)}, "rest net1 4"},
		{"a machine's", vm, []ipam.Need{v4}, []keptAddress{kept(vm, x, "a", "net1")}, "take 10.1.0.5 of 9"},
		{"a machine's that migrates", vm, []ipam.Need{v4}, []keptAddress{kept(vm, x, "a", "net1", heldBy("2"), migrates)}, "take 10.1.0.5 of 2 9"},
		{"a machine's that starts again", vm, []ipam.Need{v4}, []keptAddress{kept(vm, x, "a", "net1", heldBy("2"))}, "Waiting: " + fmt.Sprintf(waits, "VirtualMachine ns/vm")},
		{"a machine's with two pods", vm, []ipam.Need{v4}, []keptAddress{kept(vm, x, "a", "net1", heldBy("2", "3"), migrates)}, "Waiting: " + fmt.Sprintf(waits, "VirtualMachine ns/vm")},
		{"a machine's that migrates, besides a free one", vm, []ipam.Need{v4}, []keptAddress{kept(vm, x, "a", "net1"), kept(vm, y, "b", "net1", heldBy("2"), migrates)},
			"take 10.1.0.6 of 2 9, give up 10.1.0.5"},
		{"a StatefulSet's pod doesn't share", web, []ipam.Need{v4}, []keptAddress{kept(web, x, "a", "net1", heldBy("2"), migrates)}, "Waiting: " + fmt.Sprintf(waits, "StatefulSet ns/web")},
		{"of a disabled pool", web, []ipam.Need{keeps(need("net1", false), "c")}, []keptAddress{kept(web, x, "c", "net1")}, "take 10.1.0.5 of 9"},
		{"of a disabled pool, beside others", web, []ipam.Need{keeps(v4, "c", "a", "b")}, []keptAddress{kept(web, x, "c", "net1")}, "take 10.1.0.5 of 9"},
		{"of a disabled pool, and an earlier attempt took it", web, []ipam.Need{keeps(v4, "c", "a", "b")}, []keptAddress{kept(web, x, "c", "net1", heldBy("9"))}, "take 10.1.0.5 of 9"},
		{"of a disabled pool, held", web, []ipam.Need{keeps(v4, "c", "a", "b")}, []keptAddress{kept(web, x, "c", "net1", heldBy("2"))}, "Waiting: " + fmt.Sprintf(waits, "StatefulSet ns/web")},
		{"of a disabled pool, of a former StatefulSet", web, []ipam.Need{keeps(v4, "c", "a", "b")}, []keptAddress{kept(web, x, "c", "net1", former)}, "rest net1 4 of a b, give up 10.1.0.5"},
		{"none of a disabled pool, and there is no other one", web, []ipam.Need{keeps(need("net1", false), "c")}, []keptAddress{kept(web, x, "d", "net1")}, "NoPool: there is none"},
		{"of a disabled pool: the other family beside it", web, []ipam.Need{keeps(v4, "c", "a"), keeps(need("net1", true, "t"), "v", "s")}, []keptAddress{kept(web, x, "c", "net1")},
			"take 10.1.0.5 of 9, rest net1 6 of s"},
		{"none of a disabled pool: both as for others", web, []ipam.Need{keeps(v4, "c", "a"), keeps(need("net1", true, "t"), "v", "s")}, nil, "rest net1 4 of a b, rest net1 6 of t"},
		{"of a disabled pool: another NIC as for others", web, []ipam.Need{keeps(v4, "c", "a"), keeps(need("net2", true, "t"), "v", "s")}, []keptAddress{kept(web, x, "c", "net1")},
			"take 10.1.0.5 of 9, rest net2 6 of t"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claim := &v2beta1.SpiderEndpoint{}
			claim.Namespace, claim.Name, claim.Spec.PodUID, claim.Spec.Identity = "ns", "p9", "9", c.id
			plan := inherited(claim, c.needs, c.all)
			var got []string
			for _, a := range plan.Take {
				var uids []string
				for _, h := range a.Spec.Holders {
					uids = append(uids, h.PodUID)
				}
				got = append(got, fmt.Sprintf("take %s of %s", a.Spec.Address, strings.Join(uids, " ")))
				if a.Spec.State != v1alpha1.Allocated || a.Spec.Identity.UID != "1" {
					t.Errorf("it takes %+v", a.Spec)
				}
			}
			slices.Sort(got)
			for _, n := range plan.Rest {
				text := fmt.Sprintf("rest %s %d", n.Interface, map[bool]int{false: 4, true: 6}[n.IPv6])
				if n.Keep != nil {
					text += " of " + strings.Join(n.Pools, " ")
				}
				got = append(got, text)
			}
			for _, a := range plan.GiveUp {
				got = append(got, "give up "+a.Spec.Address)
			}
			if plan.Why != "" {
				got = append(got, plan.Reason+": "+plan.Why)
			}
			text := strings.Join(got, ", ")
			if text != c.want && (!strings.HasPrefix(c.want, "Waiting") || !strings.HasPrefix(text, c.want)) {
				t.Errorf("got %s\nwant %s", text, c.want)
			}
		})
	}
}
