// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestDecide: what is to be done in each state between two writes.
func TestDecide(t *testing.T) {
	is := ipam.Application{Group: "apps", Kind: "Deployment", Namespace: "ns", Name: "app", UID: "u-1"}
	former := is
	former.UID = "u-0"
	want := func(a ipam.Application) ipam.AutoPool {
		return ipam.AutoPool{Application: a, Interface: "eth0", Subnet: "s"}
	}
	app := func(replicas int) *applications.App {
		return &applications.App{Application: is, Wanted: []ipam.AutoPool{want(is)}, Settings: ipam.PoolSettings{Number: ipam.Number{N: 1, More: true}, Reclaim: true}, Replicas: replicas}
	}
	pool := func(a ipam.Application, reclaim bool, ips ...string) []*v2beta1.SpiderIPPool {
		p := &v2beta1.SpiderIPPool{
			ObjectMeta: metav1.ObjectMeta{Name: want(a).Name(1), Annotations: map[string]string{ipam.AutoAnnotation: want(a).Annotation(), ipam.IPNumberAnnotation: "+1"}},
			Spec:       ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.0.0.0/24", IPs: ips}},
		}
		p.Labels = want(a).Labels(p.Spec.Prefix(), reclaim)
		return []*v2beta1.SpiderIPPool{p}
	}
	// addresses reads 10.0.0.N of the application, those that a pod has with a "*" behind them, those
	// in quarantine with a "!".
	addresses := func(a ipam.Application, text string) map[string][]*v1alpha1.IPAddress {
		out := map[string][]*v1alpha1.IPAddress{}
		for f := range strings.FieldsSeq(text) {
			n, used := strings.CutSuffix(f, "*")
			n, confined := strings.CutSuffix(n, "!")
			o := &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.0.0." + n}, Spec: v1alpha1.IPAddressSpec{
				Address: "10.0.0." + n, State: v1alpha1.Reserved, Application: &v1alpha1.Owner{Group: a.Group, Kind: a.Kind, Namespace: a.Namespace, Name: a.Name, UID: a.UID},
			}}
			if used {
				o.Spec.State, o.Spec.Holders = v1alpha1.Allocated, []v1alpha1.Holder{{Pod: "p"}}
			}
			if confined {
				o.Spec.State = v1alpha1.Quarantined
			}
			out[want(a).Name(1)] = append(out[want(a).Name(1)], o)
		}
		return out
	}
	strays := func(text string) map[string][]*v1alpha1.IPAddress {
		out := addresses(is, text)
		out[want(is).Name(1)][1].Name, out[want(is).Name(1)][1].Spec.Address = "10.0.1.2", "10.0.1.2"
		return out
	}
	// One that was made again because its pod has it doesn't say that it is the application's.
	again := func(a ipam.Application, text string) map[string][]*v1alpha1.IPAddress {
		out := addresses(a, text)
		out[want(a).Name(1)][0].Spec.Application = nil
		return out
	}
	spec := ipam.SubnetSpec{Subnet: "10.0.0.0/24", IPs: []string{"10.0.0.1-10.0.0.9"}}
	subnet := map[string]applications.Subnet{"s": {Spec: spec, Standing: ipam.Standing{Free: spec.Total()}}}
	unclear := app(2)
	unclear.Unclear = "wrong"
	for _, x := range []struct {
		name string
		o    applications.Observed
		want string
	}{
		{"nothing yet", applications.Observed{App: app(2)}, "create auto-app-v4-eth0-1"},
		{"the pool is made", applications.Observed{App: app(2), Pools: pool(is, true)}, "grow 3"},
		{"some addresses are", applications.Observed{App: app(2), Pools: pool(is, true), Addresses: addresses(is, "1 2*")}, "grow 1, render 10.0.0.1-10.0.0.2"},
		{"the subnet is gone", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2*"), Subnets: map[string]applications.Subnet{}},
			"say NoSubnet: there is no SpiderSubnet s, of which pool auto-app-v4-eth0-1 is to have addresses: make it, or name another one"},
		{"the subnet doesn't count", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2*"),
			Subnets: map[string]applications.Subnet{"s": {Spec: spec, Standing: ipam.Standing{Reason: "it is being deleted"}}}},
			"say NoSubnet: pool auto-app-v4-eth0-1: SpiderSubnet s: it is being deleted"},
		{"the subnet was made anew, with another CIDR", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2*"),
			Subnets: map[string]applications.Subnet{"s": {Spec: ipam.SubnetSpec{Subnet: "10.1.0.0/24"}}}}, "create auto-app-v4-eth0-1-2, free 10.0.0.1"},
		{"the subnet was made anew, in another network", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2*"),
			Subnets: map[string]applications.Subnet{"s": {Spec: ipam.SubnetSpec{Subnet: "10.0.0.0/24", Network: "x"}}}}, "create auto-app-v4-eth0-1-2, free 10.0.0.1"},
		{"all are", applications.Observed{App: app(2), Pools: pool(is, true), Addresses: addresses(is, "1 2* 3")}, "render 10.0.0.1-10.0.0.3"},
		{"all is done", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.3"), Addresses: addresses(is, "1 2* 3")}, ""},
		{"one is in quarantine", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.3"), Addresses: addresses(is, "1 2! 3")}, "grow 1"},
		{"another one is there for it", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.4"), Addresses: addresses(is, "1 2! 3 4")}, ""},
		{"its quarantine is over", applications.Observed{App: app(2), Pools: pool(is, true, "10.0.0.1-10.0.0.4"), Addresses: addresses(is, "1 2 3 4")}, "free 10.0.0.4"},
		{"deleted, with one in quarantine", applications.Observed{Pools: pool(is, true, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2!")}, "free 10.0.0.1"},
		{"scaled down", applications.Observed{App: app(0), Pools: pool(is, true, "10.0.0.1-10.0.0.3"), Addresses: addresses(is, "1 2* 3")}, "free 10.0.0.3, free 10.0.0.1"},
		{"the pool is deleted by hand", applications.Observed{App: app(2), Addresses: addresses(is, "1 2* 3")}, "create auto-app-v4-eth0-1"},
		{"the annotations are wrong", applications.Observed{App: unclear, Pools: pool(is, true, "10.0.0.1"), Addresses: addresses(is, "1")}, "say PoolsUnclear: wrong"},
		{"deleted", applications.Observed{Pools: pool(is, true, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2*")}, "free 10.0.0.1"},
		{"its last address is back", applications.Observed{Pools: pool(is, true)}, "delete auto-app-v4-eth0-1"},
		{"the pool is gone before its addresses", applications.Observed{Addresses: addresses(is, "1 2*")}, "free 10.0.0.1"},
		{"I00015: kept", applications.Observed{Pools: pool(is, false, "10.0.0.1"), Addresses: addresses(is, "1")}, ""},
		{"I00015: kept, with an address of another subnet, which was made late for a former pool of the name",
			applications.Observed{Pools: pool(is, false, "10.0.0.1"), Addresses: strays("1 2")}, "free 10.0.1.2"},
		{"a pod uses such an address: spec.ips must not show it", applications.Observed{App: app(1), Pools: pool(is, true, "10.0.0.1"), Addresses: strays("1 2*")}, ""},
		{"it lives, and its pods name no subnets any more", applications.Observed{App: &applications.App{Application: is}, Pools: pool(is, false, "10.0.0.1-10.0.0.2"), Addresses: addresses(is, "1 2*")},
			"free 10.0.0.1"},
		{"an address was deleted by hand, and made again", applications.Observed{App: app(0), Pools: pool(is, true, "10.0.0.1"), Addresses: again(is, "1*")}, "adopt 10.0.0.1"},
		{"so it was, and its application is deleted", applications.Observed{Pools: pool(is, true, "10.0.0.1"), Addresses: again(is, "1*")}, "adopt 10.0.0.1"},
		{"so it was, in a pool that is kept", applications.Observed{Pools: pool(is, false, "10.0.0.1"), Addresses: again(is, "1*")}, "adopt 10.0.0.1"},
		{"so it was, and it is back", applications.Observed{Pools: pool(is, true, "10.0.0.1"), Addresses: again(is, "1")}, "free 10.0.0.1"},
		{"I00015: taken over", applications.Observed{App: app(0), Pools: pool(former, false, "10.0.0.1"), Addresses: addresses(former, "1")},
			"update auto-app-v4-eth0-0, adopt 10.0.0.1"},
		{"a former one's that goes", applications.Observed{App: app(0), Pools: pool(former, true, "10.0.0.1"), Addresses: addresses(former, "1")},
			"create auto-app-v4-eth0-1, free 10.0.0.1"},
		{"a former one's whose identities are retained", applications.Observed{App: app(0), Pools: pool(former, true, "10.0.0.1"), Addresses: addresses(former, "1"),
			Retains: map[string]bool{"auto-app-v4-eth0-0": true}}, "update auto-app-v4-eth0-0, adopt 10.0.0.1"},
		{"so it is, and there is one of its own", applications.Observed{App: app(0), Pools: append(pool(former, true, "10.0.0.1"), pool(is, true, "10.0.0.2")...),
			Addresses: map[string][]*v1alpha1.IPAddress{"auto-app-v4-eth0-0": addresses(former, "1*")["auto-app-v4-eth0-0"], "auto-app-v4-eth0-1": addresses(is, "2")["auto-app-v4-eth0-1"]},
			Retains:   map[string]bool{"auto-app-v4-eth0-0": true}}, ""},
		{"a stopped virtual machine", applications.Observed{App: &applications.App{Application: is, Stopped: true}, Pools: pool(is, true, "10.0.0.1"), Addresses: addresses(is, "1 2*")},
			"render 10.0.0.1-10.0.0.2"},
		{"a stopped one that was made again", applications.Observed{App: &applications.App{Application: is, Stopped: true}, Pools: pool(former, true, "10.0.0.1"), Addresses: addresses(former, "1")},
			"free 10.0.0.1"},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.o.Subnets == nil {
				x.o.Subnets = subnet
			}
			p := applications.Decide(x.o)
			var got []string
			for _, says := range p.Says {
				got = append(got, "say "+says.Reason+": "+says.Message)
			}
			for _, o := range p.Create {
				got = append(got, "create "+o.Name)
			}
			for _, o := range p.Update {
				got = append(got, "update "+o.Name)
			}
			for _, g := range p.Grow {
				got = append(got, fmt.Sprintf("grow %d", g.N))
			}
			for _, o := range p.Free {
				got = append(got, "free "+o.Name)
			}
			for _, o := range p.Adopt {
				got = append(got, "adopt "+o.Name)
			}
			for _, o := range p.Render {
				got = append(got, "render "+strings.Join(o.Spec.IPs, " "))
			}
			for _, o := range p.Delete {
				got = append(got, "delete "+o.Name)
			}
			if strings.Join(got, ", ") != x.want {
				t.Errorf("got %s, want %s", strings.Join(got, ", "), x.want)
			}
		})
	}
}
