// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	controller "github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/owners"
	"github.com/multihome/multihome/pkg/ipam"
)

// nicsOf returns the NICs of a simulated pod, each with its pools: its network has the IPv4 pool's
// name, and in a world with two families the IPv6 pool beside it.
func nicsOf(p *corev1.Pod, dual bool) []v2beta1.EndpointNIC {
	var out []v2beta1.EndpointNIC
	if p.Annotations[networks] == static {
		return []v2beta1.EndpointNIC{{Interface: "net1", IPv4Pools: []string{ipam.VLANSubnetPool(static)}}}
	}
	for i, pool := range strings.Split(p.Annotations[networks], ",") {
		n := v2beta1.EndpointNIC{Interface: fmt.Sprintf("net%d", i+1), IPv4Pools: []string{pool}}
		if dual {
			n.IPv6Pools = []string{pool + second}
		}
		out = append(out, n)
	}
	return out
}

// static is the name of the VLANSubnet, and of its network.
const static = "static"

// second is what the name of the IPv6 pool beside an IPv4 pool ends with.
const second = "-v6"

// newWorld returns a world in which nothing is yet.
func newWorld(s Settings, pick chooser) *world {
	w := &world{
		Settings: s, pick: pick, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		wished: map[string]wish{}, said: map[string]bool{}, first: map[string]string{},
	}
	w.api = newServer(w)
	return w
}

// end ends all tasks.
func (w *world) end() {
	for _, m := range w.machines {
		if m.up {
			m.off()
		}
	}
	for _, p := range w.ctrls {
		p.crash()
	}
}

// build makes the cluster as it is at first.
func (w *world) build() {
	must(w.api.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "test"}}))
	pool := func(name string, of netip.Prefix) {
		must(w.api.create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: w.policies()}, Spec: ipam.PoolSpec{
			SubnetSpec: ipam.SubnetSpec{Subnet: of.String(), IPs: []string{nth(of, 1).String() + "-" + nth(of, w.Addresses).String()}},
		}}))
	}
	for i := range w.Pools {
		name := fmt.Sprintf("p%d", i)
		more := ""
		if w.dual {
			more = fmt.Sprintf(`,"default_ipv6_ippool":[%q]`, name+second)
			pool(name+second, lan(i, true))
		}
		must(w.api.create(&nad.NetworkAttachmentDefinition{
			ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: name},
			Spec:       nad.Spec{Config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"lan","type":"macvlan","ipam":{"type":"multihome-ipam","default_ipv4_ippool":[%q]%s}}`, name, more)},
		}))
		pool(name, lan(i, false))
	}
	if w.Static > 0 {
		of := lan(staticLAN, false)
		must(w.api.create(&nad.NetworkAttachmentDefinition{
			ObjectMeta: metav1.ObjectMeta{Namespace: "test", Name: static},
			Spec:       nad.Spec{Config: `{"cniVersion":"1.0.0","name":"lan","type":"static-macvlan-cni","ipam":{"type":"static-ipam"}}`},
		}))
		must(w.api.create(&staticmacvlan.VLANSubnet{ObjectMeta: metav1.ObjectMeta{Name: static}, Spec: ipam.VLANSubnetSpec{
			Master: "eth0", VLAN: 100, CIDR: of.String(), Ranges: []ipam.VLANRange{{RangeStart: nth(of, 1).String(), RangeEnd: nth(of, w.Static).String()}},
		}}))
	}
	for i := range w.Subnets {
		of := lan(subnetLAN+i, false)
		must(w.api.create(&v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("s%d", i), Annotations: w.policies()}, Spec: ipam.SubnetSpec{
			Subnet: of.String(), IPs: []string{nth(of, 1).String() + "-" + nth(of, w.Addresses).String()},
		}}))
	}
	for i := range w.Machines {
		w.newMachine(fmt.Sprintf("node%d", i))
	}
	for i := range w.Controllers {
		p := w.newProcess(fmt.Sprintf("controller %d", i), 3)
		p.leads = func() bool { return w.leader == i || w.twoLead }
		w.ctrls = append(w.ctrls, p)
		w.startController(p)
	}
}

// lan returns the subnet of a LAN, by its number: those of pools are 0 and so on.
func lan(number int, ipv6 bool) netip.Prefix {
	if ipv6 {
		return netip.MustParsePrefix(fmt.Sprintf("fd00:%d::/64", number))
	}
	return netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", number))
}

// The numbers of the VLANSubnet's LAN, and of the first SpiderSubnet's.
const (
	staticLAN = 50
	subnetLAN = 100
)

// nth returns an address of a subnet, the first of which is that of the network.
func nth(of netip.Prefix, n int) netip.Addr {
	a := of.Addr()
	for range n {
		a = a.Next()
	}
	return a
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// newMachine makes a machine and its Node.
func (w *world) newMachine(node string) {
	w.names++
	m := &machine{w: w, node: node, id: fmt.Sprintf("m%d", w.names)}
	w.machines = append(w.machines, m)
	m.register()
	m.power()
	m.startAgent()
}

// register makes the Node of a machine.
func (m *machine) register() {
	must(m.w.api.create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.node},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{MachineID: m.id}},
	}))
}

// collector is what a controller does now and then, beside its events.
const collector = "the collector"

// startController starts a controller that knows nothing yet.
func (w *world) startController(p *process) {
	w.names++
	p.up = true
	p.die = p.crash
	p.view = newView(w.api, func(k kind) int {
		switch {
		case w.calm, !w.Lists, k >= deployments && !w.hasWorkloads(),
			!w.may(func(who string) bool { return who == "list of "+k.resource().Resource }):
			return 0
		}
		return w.pick.choose([]int{17, 2, 1, 1})
	})
	cache, current, writer := p.clients()
	c := &controller.Controller{
		Cache: cache, Live: current, Writer: writer,
		Now: func() time.Time { return w.now },
		Each: func(n int, f func(int) error) error {
			var errs []error
			for i := range n {
				errs = append(errs, f(i))
			}
			return errors.Join(errs...)
		},
		Until: func(is func() bool) bool {
			if w.protects(CaughtUp) {
				w.until(is)
			}
			return true
		},
		Wake:     func(key types.NamespacedName) { p.add(key.String()) },
		Identity: fmt.Sprint(w.names),
		Owners:   owners.Finder{Cache: cache, Live: current},
	}
	var besides *owning
	if w.hasWorkloads() {
		besides = newOwning(p, c)
	}
	p.handle = func(what string) {
		if besides != nil {
			if mine, again := besides.handle(what); mine {
				if again {
					p.later = append(p.later, what)
				}
				return
			}
		}
		ns, pod, isPod := strings.Cut(what, "/")
		if what == collector {
			_ = c.Collect(context.Background())
			return
		}
		if !isPod {
			if c.ReconcileNode(context.Background(), what) != nil {
				p.later = append(p.later, what)
			}
			return
		}
		if wait, err := c.Reconcile(context.Background(), types.NamespacedName{Namespace: ns, Name: pod}); err != nil || wait > 0 {
			p.later = append(p.later, what)
		}
	}
	p.events = func(k kind, e event) {
		if besides != nil {
			defer besides.on(k, e)
		}
		switch k {
		case pods, claims:
			p.add(e.key.String())
			if k == claims {
				former, _ := e.former.(*v2beta1.SpiderEndpoint)
				now, _ := e.now.(*v2beta1.SpiderEndpoint)
				c.OnClaim(former, now)
			}
		case addresses:
			former, _ := e.former.(*v1alpha1.IPAddress)
			now, _ := e.now.(*v1alpha1.IPAddress)
			c.OnAddress(former, now)
			for _, a := range []*v1alpha1.IPAddress{former, now} {
				if a == nil {
					continue
				}
				for _, h := range a.Spec.Holders {
					p.add(h.Namespace + "/" + h.Pod)
				}
			}
		case nodes:
			former, _ := e.former.(*corev1.Node)
			now, _ := e.now.(*corev1.Node)
			c.OnNode(former, now)
		case pools, subnets, reserved, vlans:
			must(c.OnPools(context.Background()))
		case spools:
			former, _ := e.former.(*v1alpha1.NodeSpool)
			now, _ := e.now.(*v1alpha1.NodeSpool)
			c.OnSpool(former, now)
			p.add(e.key.Name)
			for _, n := range []*v1alpha1.NodeSpool{former, now} {
				if n != nil {
					for _, s := range n.Status.Sandboxes {
						p.add(s.Namespace + "/" + s.Pod)
					}
				}
			}
		}
	}
	for k := range kinds {
		for _, key := range sortedKeys(p.view.objects[k]) {
			p.events(k, event{key, nil, p.view.objects[k][key]})
		}
	}
	w.note("%s: starts", p.name)
}
