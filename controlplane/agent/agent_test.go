// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/spool"
)

const addr = "10.6.0.5"

// TestServe checks what the plugin gets of a claim, and why not.
func TestServe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v2beta1.SpiderEndpoint)
		holder string // of the IPAddress, "" for no IPAddress
		want   spool.Pod
	}{
		"whole": {func(c *v2beta1.SpiderEndpoint) {
			n := &c.Status.Current.IPs[0]
			n.IPv6, n.IPv6Gateway, n.IPv6Pool, n.AddressSpace, n.MAC = "fd00:6::5/64", "fd00:6::1", "pool6", "vlan100", "02:00:00:00:00:05"
			n.Routes = []ipam.Route{{Dst: "10.7.0.0/16", Gw: "10.6.0.9"}}
		}, "u", spool.Pod{NICs: []spool.NIC{{
			Interface: "eth0", Network: "lan", MAC: "02:00:00:00:00:05", DefaultRouteNIC: "net1",
			Addresses: []spool.Address{
				{Address: netip.MustParsePrefix(addr + "/16"), Gateway: netip.MustParseAddr("10.6.0.1"), Space: "vlan100", Pool: "pool"},
				{Address: netip.MustParsePrefix("fd00:6::5/64"), Gateway: netip.MustParseAddr("fd00:6::1"), Space: "vlan100", Pool: "pool6"},
			},
			Routes: []spool.Route{{Dst: netip.MustParsePrefix("10.7.0.0/16"), Gw: netip.MustParseAddr("10.6.0.9")}},
		}}}},
		"clean gateway": {func(c *v2beta1.SpiderEndpoint) { c.Status.Current.IPs[0].CleanGateway = true }, "u", spool.Pod{NICs: []spool.NIC{{
			Interface: "eth0", Network: "lan", Addresses: []spool.Address{{Address: netip.MustParsePrefix(addr + "/16"), Pool: "pool"}},
		}}}},
		"pending": {func(c *v2beta1.SpiderEndpoint) {
			c.Status.Phase = v2beta1.Pending
			c.Status.Conditions = []metav1.Condition{{Type: v2beta1.Ready, Status: metav1.ConditionFalse, Reason: "Full", Message: "pool lan has 0 of 10 addresses free"}}
		}, "u", spool.Pod{Reason: "pool lan has 0 of 10 addresses free"}},
		"new":            {func(c *v2beta1.SpiderEndpoint) { c.Status = v2beta1.SpiderEndpointStatus{} }, "u", spool.Pod{Reason: "the claim default/web is Pending"}},
		"withdrawn":      {func(c *v2beta1.SpiderEndpoint) { c.Status.Withdrawn = &v2beta1.Withdrawn{} }, "u", spool.Pod{Reason: "the claim default/web has been withdrawn: the controller makes another one"}},
		"no IPAddress":   {nil, "", spool.Pod{Reason: "IPAddress 10.6.0.5 of the pod is not there"}},
		"another holder": {nil, "v", spool.Pod{Reason: "IPAddress 10.6.0.5 is not held by the pod"}},
		"no such NIC": {func(c *v2beta1.SpiderEndpoint) { c.Status.Current.IPs[0].Interface = "net9" }, "u",
			spool.Pod{Reason: "the claim default/web has addresses for net9, which its spec lacks"}},
		"no address": {func(c *v2beta1.SpiderEndpoint) { c.Status.Current.IPs[0].IPv4 = "10.6.0.300/16" }, "u",
			spool.Pod{Reason: `the claim default/web: eth0: netip.ParsePrefix("10.6.0.300/16"): ParseAddr("10.6.0.300"): IPv4 field has value >255`}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pod("web", "u")
			claim := w.claim("web", "u", addr)
			if c.holder != "u" {
				w.delete(&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: addr}})
			}
			if c.holder != "" && c.holder != "u" {
				w.address(addr, c.holder)
			}
			if c.change != nil {
				w.change(claim, c.change)
			}
			if name == "whole" {
				claim.Spec.NICs[0].DefaultRouteNIC = "net1"
				w.ok(w.c.Update(t.Context(), claim))
				for _, ip := range []string{"10.6.0.5.vlan100", "fd00-0006-0000-0000-0000-0000-0000-0005.vlan100"} {
					w.ok(w.c.Create(t.Context(), &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: ip}, Spec: v1alpha1.IPAddressSpec{Holders: []v1alpha1.Holder{{PodUID: "u"}}}}))
				}
			}
			w.sync(1)
			c.want.Namespace, c.want.Name, c.want.UID = "default", "web", "u"
			if got := w.served("u"); !reflect.DeepEqual(got, &c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestServesNobodyElse checks that only the claim of the pod that lives here is served.
func TestServesNobodyElse(t *testing.T) {
	for name, c := range map[string]struct {
		pod   func(*corev1.Pod)
		claim func(*v2beta1.SpiderEndpoint)
		reads bool // the file says why
	}{
		"the control":     {nil, nil, true},
		"finished":        {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, nil, false},
		"of another node": {func(p *corev1.Pod) { p.Spec.NodeName = "node2" }, nil, false},
		"another UID":     {func(p *corev1.Pod) { p.UID = "v" }, nil, false},
		"another claim":   {nil, func(c *v2beta1.SpiderEndpoint) { c.Spec.PodUID = "v" }, false},
		"another machine": {nil, func(c *v2beta1.SpiderEndpoint) { c.Spec.MachineID = "machine2" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			change := func(p *corev1.Pod) {
				if c.pod != nil {
					c.pod(p)
				}
			}
			w.pod("web", "u", change)
			claim := w.claim("web", "u", addr)
			if c.claim != nil {
				c.claim(claim)
				w.ok(w.c.Update(t.Context(), claim))
			}
			w.sync(2, "u")
			got := w.served("u")
			if (got != nil) != c.reads || got != nil && (len(got.NICs) > 0) != (name == "the control") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestLateNIC checks that a NIC that a claim gets later is served, too.
func TestLateNIC(t *testing.T) {
	w := newWorld(t)
	w.pod("web", "u")
	c := w.claim("web", "u", addr)
	w.sync(1)
	w.address("10.6.0.6", "u")
	w.ok(w.c.Get(t.Context(), client.ObjectKeyFromObject(c), c))
	c.Spec.NICs = append(c.Spec.NICs, v2beta1.EndpointNIC{Interface: "net1", Network: "lan"})
	w.ok(w.c.Update(t.Context(), c))
	w.change(c, func(c *v2beta1.SpiderEndpoint) {
		c.Status.Current.IPs = append(c.Status.Current.IPs, v2beta1.NICAddresses{Interface: "net1", IPv4: "10.6.0.6/16"})
	})
	w.sync(1)
	if got := w.served("u"); got == nil || len(got.NICs) != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestSeenBetween: a namespace that isn't seen, is seen, and isn't seen again in the same pass, isn't gone.
func TestSeenBetween(t *testing.T) {
	for name, between := range map[string]bool{"seen between": true, "not seen between": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p, claim, b := w.runs("web", "u")
			n := w.nets[b.inode]
			delete(w.nets, b.inode)
			w.sync(1)
			w.delete(p)
			if between {
				w.nets[b.inode] = n
			}
			w.onWrite(spool.PodFile("u"), func() { delete(w.nets, b.inode) }) // the agent has looked once
			w.sync(1)
			if w.withdrawn(claim) == between {
				t.Errorf("withdrawn: %t: want %t", between, !between)
			}
		})
	}
}

// TestDeletedWithin: a spool that somebody deletes between two looks of a pass says nothing of what a namespace has.
func TestDeletedWithin(t *testing.T) {
	for name, uses := range map[string]bool{"the namespace has the address": true, "the namespace is gone": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p, claim, b := w.runs("web", "u")
			if !uses {
				delete(w.nets, b.inode)
			}
			w.delete(p)
			var stopped, deleted bool
			w.files.before = func(op, name string) error {
				if stopped && !deleted && op == "read" {
					deleted = true
					clear(w.files.files)
				}
				stopped = stopped || op == "write" && name == spool.PodFile("u") // after the first look
				return nil
			}
			w.sync(3)
			if !deleted {
				t.Fatal("nobody deleted it")
			}
			if w.withdrawn(claim) == uses {
				t.Errorf("withdrawn: %t: want %t", uses, !uses)
			}
		})
	}
}

// TestSeenLast: what a later look of a pass sees counts, and not what an earlier one didn't see.
func TestSeenLast(t *testing.T) {
	for name, seen := range map[string]bool{"seen in the second look": true, "not seen in the second look": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			_, _, b := w.runs("web", "u")
			n := w.nets[b.inode]
			delete(w.nets, b.inode)
			w.onWrite(spool.PodFile("u"), func() { // the agent has looked once
				if seen {
					w.nets[b.inode] = n
				}
			})
			ip := &v1alpha1.IPAddress{} // which has the file in pods/ written anew
			w.ok(w.c.Get(t.Context(), client.ObjectKey{Name: addr}, ip))
			w.delete(ip)
			w.sync(1)
			delete(w.nets, b.inode)
			w.sync(1)
			if has := slices.ContainsFunc(w.left(), func(file string) bool { return strings.HasPrefix(file, "sandboxes/") }); has != seen {
				t.Errorf("after one look more, the sandbox's file is there: %t: want %t", has, seen)
			}
		})
	}
}

// TestWithdraw checks when a pod that is gone is withdrawn, and that nothing of it is left in
// the spool then.
func TestWithdraw(t *testing.T) {
	for name, c := range map[string]struct {
		end    func(w *world, b box) // what happens on the node, after the pod is gone
		passes int
		want   bool
	}{
		"F.6 G00001 nothing happened yet":          {func(*world, box) {}, 5, false},
		"F.6 X25 DEL, and the namespace is gone":   {func(w *world, b box) { w.del(b); delete(w.nets, b.inode) }, 1, true},
		"F.6 G00003 no DEL, one look":              {func(w *world, b box) { delete(w.nets, b.inode) }, 1, false},
		"F.6 G00003 no DEL, two looks":             {func(w *world, b box) { delete(w.nets, b.inode) }, 2, true},
		"DEL, with the address still there":        {func(w *world, b box) { w.del(b) }, 5, false},
		"DEL, with the namespace there, one look":  {func(w *world, b box) { w.del(b); w.nets[b.inode].addresses = nil }, 1, false},
		"DEL, with the namespace there, two looks": {func(w *world, b box) { w.del(b); w.nets[b.inode].addresses = nil }, 2, true},
		"no DEL, and the address isn't there":      {func(w *world, b box) { w.nets[b.inode].addresses = nil }, 5, false},
		"no path, but processes with the address":  {func(w *world, b box) { w.nets[b.inode].path = "" }, 5, false},
		"DEL, no path, but processes with it":      {func(w *world, b box) { w.del(b); w.nets[b.inode].path = "" }, 5, false},
		"the inode is another pod's":               {func(w *world, b box) { w.nets[b.inode] = &namespace{path: "/run/netns/other"} }, 2, true},
		"the inode is another pod's, and DEL":      {func(w *world, b box) { w.del(b); w.nets[b.inode] = &namespace{path: "/run/netns/other"} }, 1, true},
		"a file that can't be read may be its": {func(w *world, b box) {
			w.del(b)
			delete(w.nets, b.inode)
			w.files.files["sandboxes/x:y:z"] = []byte("{")
		}, -2, false},
		"killed in DEL, between its two files": {func(w *world, b box) { w.halfDel(b); delete(w.nets, b.inode) }, 1, true},
		"F.6 X27 DEL twice, and of unknown ones": {func(w *world, b box) {
			w.del(b)
			w.del(b)
			w.del(box{Want: spool.Want{ContainerID: "no"}})
			delete(w.nets, b.inode)
		}, 1, true},
		"the agent restarts between the looks": {func(w *world, b box) { delete(w.nets, b.inode); w.sync(1); w.start() }, 1, false},
		"the agent restarts, and looks twice":  {func(w *world, b box) { delete(w.nets, b.inode); w.sync(1); w.start() }, 2, true},
		"the want of an ADD that was killed":   {func(w *world, b box) { w.del(b); delete(w.nets, b.inode); w.want(b, "net1") }, 1, true},
		"a namespace that is seen again counts anew": {func(w *world, b box) {
			n := w.nets[b.inode]
			delete(w.nets, b.inode)
			w.sync(1)
			w.nets[b.inode] = n
			w.sync(1)
			delete(w.nets, b.inode)
		}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p, claim, b := w.runs("web", "u")
			w.sync(1)
			if w.withdrawn(claim) {
				t.Fatal("withdrawn while the pod lives")
			}
			w.delete(p)
			c.end(w, b)
			for range max(c.passes, -c.passes) {
				if err := w.pass(); (err != nil) != (c.passes < 0) {
					t.Fatal(err)
				}
			}
			if got := w.withdrawn(claim); got != c.want {
				t.Errorf("withdrawn: %t, want %t; left: %v", got, c.want, w.left())
			}
			if c.want && len(w.left()) > 0 {
				t.Errorf("left: %v", w.left())
			}
			if _, err := w.add(w.box("web", "u")); err == nil {
				t.Error("another ADD succeeds")
			}
		})
	}
}

// halfDel is a DEL that is killed after its first write.
func (w *world) halfDel(b box) {
	w.files.before = func(op, name string) error {
		if op == "remove" && strings.HasPrefix(name, "sandboxes/") {
			return errOver
		}
		return nil
	}
	if err := spool.Del(w.files, b.ContainerID, b.Interface); !errors.Is(err, errOver) {
		w.t.Fatal(err)
	}
	w.files.before = nil
}

// want leaves what an ADD that waits leaves.
func (w *world) want(b box, nic string) {
	b.Interface = nic
	w.files.before = func(op, name string) error {
		if op == "remove" && strings.HasPrefix(name, "wants/") {
			return errOver
		}
		return nil
	}
	if _, err := w.add(b); !errors.Is(err, errOver) {
		w.t.Fatal(err)
	}
	w.files.before = nil
}

// TestSandboxRestart (F.6 X28) has DEL of the old sandbox after ADD of the new one: the pod
// keeps its address, and the old files go.
func TestSandboxRestart(t *testing.T) {
	w := newWorld(t)
	w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	var boxes []box
	for range 2 {
		b := w.box("web", "u")
		nic, err := w.add(b)
		w.ok(err)
		if len(boxes) > 0 {
			w.nets[boxes[0].inode].addresses = nil
		}
		w.set(b, nic)
		boxes = append(boxes, b)
		w.sync(3)
	}
	w.del(boxes[0])
	delete(w.nets, boxes[0].inode)
	w.sync(3)
	if w.withdrawn(claim) || w.served("u") == nil {
		t.Error("DEL of the old sandbox gave the address back")
	}
	if got := w.left(); !slices.Equal(got, []string{"pods/u", "sandboxes/c3:eth0:1"}) {
		t.Errorf("left: %v", got)
	}
}

// TestFinished (F.6 G00006) checks that the pod of a Job gives its address back when it
// has finished and its sandbox is gone.
func TestFinished(t *testing.T) {
	w := newWorld(t)
	p := w.pod("job", "u")
	claim := w.claim("job", "u", addr)
	w.sync(1)
	b := w.box("job", "u")
	nic, err := w.add(b)
	w.ok(err)
	w.set(b, nic)
	p.Status.Phase = corev1.PodFailed
	w.ok(w.c.Status().Update(t.Context(), p))
	w.sync(3)
	if w.withdrawn(claim) {
		t.Error("withdrawn with its sandbox there")
	}
	w.del(b)
	delete(w.nets, b.inode)
	w.sync(1)
	if !w.withdrawn(claim) {
		t.Error("not withdrawn")
	}
}

// TestStaleCache checks that a pod that the cache has lost is looked for in the API.
func TestStaleCache(t *testing.T) {
	w := newWorld(t)
	w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	empty := newWorld(t)
	w.agent.Pods = empty.c
	w.sync(3)
	if w.withdrawn(claim) || w.served("u") == nil {
		t.Error("an empty cache took the pod for gone")
	}
	w.delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}})
	w.sync(1)
	if !w.withdrawn(claim) {
		t.Error("not withdrawn")
	}
}

// TestNotForOthers checks that the agent writes no claim of another machine, node or pod.
func TestNotForOthers(t *testing.T) {
	for name, change := range map[string]func(*v2beta1.SpiderEndpoint){
		"the control":     func(*v2beta1.SpiderEndpoint) {},
		"no machine":      func(c *v2beta1.SpiderEndpoint) { c.Spec.MachineID = "" },
		"another machine": func(c *v2beta1.SpiderEndpoint) { c.Spec.MachineID = "machine2" },
		"another node":    func(c *v2beta1.SpiderEndpoint) { c.Spec.NodeName = "node2" },
		"another pod":     func(c *v2beta1.SpiderEndpoint) { c.Spec.PodUID = "v" },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			p := w.pod("web", "u")
			claim := w.claim("web", "u", addr)
			w.sync(1)
			change(claim)
			w.ok(w.c.Update(t.Context(), claim))
			w.delete(p)
			w.sync(3)
			if got, want := w.withdrawn(claim), name == "the control" || name == "no machine"; got != want {
				t.Errorf("withdrawn: %t, want %t", got, want)
			}
		})
	}
}

// TestRestoredEtcd checks that a pod that was withdrawn is not served again in this boot, also
// when the API has pod and claim again as they were. A static pod with another claim is.
func TestRestoredEtcd(t *testing.T) {
	for _, static := range []bool{false, true} {
		t.Run(fmt.Sprint("static=", static), func(t *testing.T) {
			w := newWorld(t)
			mirror := func(p *corev1.Pod) {
				if static {
					p.UID = "mirror"
					p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "u", "kubernetes.io/config.hash": "u"}
				}
			}
			w.delete(w.pod("web", "u", mirror))
			claim := w.claim("web", "u", addr)
			w.sync(1, "u")
			if w.withdrawn(claim) {
				t.Fatal("a pod of which nothing says its name")
			}
			p := w.pod("web", "u", mirror)
			w.sync(1)
			if got := w.served("u"); got == nil || len(got.NICs) == 0 {
				t.Fatalf("not served before: %+v", got)
			}
			w.delete(p)
			w.sync(1)
			if !w.withdrawn(claim) {
				t.Fatal("not withdrawn")
			}
			w.start()
			w.pod("web", "u", mirror)
			w.change(claim, func(c *v2beta1.SpiderEndpoint) { c.Status.Withdrawn = nil })
			w.sync(2)
			if got := w.served("u"); got == nil || len(got.NICs) > 0 || !strings.Contains(got.Reason, "were withdrawn in this boot") {
				t.Errorf("got %+v", got)
			}
			w.delete(claim)
			w.delete(&v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: addr}})
			w.claim("web", "u", addr)
			w.sync(2)
			if got := w.served("u"); (len(got.NICs) > 0) != static {
				t.Errorf("with another claim: %+v", got)
			}
		})
	}
}

// TestNodeSpool checks what the agent says where claims are missing, and what it answers.
func TestNodeSpool(t *testing.T) {
	w := newWorld(t)
	p := w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	b := w.box("web", "u")
	nic, err := w.add(b)
	w.ok(err)
	w.set(b, nic)
	w.sync(1)
	if n := w.nodeSpool(); len(n.Status.Sandboxes) > 0 || n.Status.BootID != "boot1" || n.Status.MachineID != machine {
		t.Fatalf("with the claim: %+v", n.Status)
	}

	ask := func(uids ...string) {
		n := w.nodeSpool()
		n.Spec.Ask = uids
		w.ok(w.c.Update(t.Context(), &n))
	}
	w.delete(claim)
	ask("u", "v")
	w.sync(3)
	n := w.nodeSpool()
	want := []v1alpha1.Sandbox{{Namespace: "default", Pod: "web", PodUID: "u", Interface: "eth0", Addresses: []v1alpha1.Held{{Address: addr, Pool: "pool"}}}}
	if !reflect.DeepEqual(n.Status.Sandboxes, want) || !slices.Equal(n.Status.Withdrawn, []string{"v"}) {
		t.Errorf("without the claim: %+v", n.Status)
	}
	if w.served("u") != nil {
		t.Error("served without a claim")
	}

	w.delete(p)
	w.sync(3)
	if n := w.nodeSpool(); !reflect.DeepEqual(n.Status.Sandboxes, want) || slices.Contains(n.Status.Withdrawn, "u") {
		t.Errorf("force-deleted, with its sandbox there: %+v", n.Status)
	}
	delete(w.nets, b.inode)
	w.sync(2)
	if n := w.nodeSpool(); len(n.Status.Sandboxes) > 0 || !slices.Contains(n.Status.Withdrawn, "u") {
		t.Errorf("the sandbox is gone: %+v", n.Status)
	}
	ask()
	w.sync(1)
	if n := w.nodeSpool(); len(n.Status.Withdrawn) > 0 {
		t.Errorf("nobody asks: %+v", n.Status)
	}
}

// TestLacksAddress checks that addresses that a claim lacks are said, as after a restored
// backup.
func TestLacksAddress(t *testing.T) {
	w := newWorld(t)
	w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	b := w.box("web", "u")
	_, err := w.add(b)
	w.ok(err)
	w.change(claim, func(c *v2beta1.SpiderEndpoint) { c.Status = v2beta1.SpiderEndpointStatus{Phase: v2beta1.Pending} })
	w.sync(1)
	if n := w.nodeSpool(); len(n.Status.Sandboxes) != 1 {
		t.Errorf("%+v", n.Status)
	}
}

// ports are the ports of a node.
type ports map[string][]netip.Prefix

func (p ports) Subnets(device string) ([]netip.Prefix, error) {
	if s, ok := p[device]; ok {
		return s, nil
	}
	return nil, fmt.Errorf("PCI device %q: no link of the node", device)
}

// TestWants checks which NICs the agent asks for.
func TestWants(t *testing.T) {
	w := newWorld(t)
	w.agent.Ports = ports{"0000:03:00.2": {netip.MustParsePrefix("10.6.0.0/16")}}
	w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	b := w.box("web", "u")
	w.want(b, "net1")
	b.MatchMasterSubnet, b.DeviceID, b.Call = true, "0000:03:00.2", "2"
	w.want(b, "net2")
	b.DeviceID, b.Call = "0000:03:00.9", "3"
	w.want(b, "net3")
	if err := w.pass(); err == nil || !strings.Contains(err.Error(), `"0000:03:00.9"`) {
		t.Errorf("no such device: %v", err)
	}
	want := []v1alpha1.Want{
		{Namespace: "default", Pod: "web", PodUID: "u", Interface: "net1", Network: "lan"},
		{Namespace: "default", Pod: "web", PodUID: "u", Interface: "net2", Network: "lan", MasterSubnets: []string{"10.6.0.0/16"}},
	}
	if n := w.nodeSpool(); !reflect.DeepEqual(n.Status.Wants, want) {
		t.Errorf("got %+v", n.Status.Wants)
	}
	if again, err := w.agent.SyncPod(t.Context(), "u"); err != nil || !again {
		t.Errorf("again: %t, %v", again, err)
	}
	for _, nic := range []string{"net1", "net2", "net3"} {
		claim.Spec.NICs = append(claim.Spec.NICs, v2beta1.EndpointNIC{Interface: nic, Network: "lan"})
	}
	w.ok(w.c.Update(t.Context(), claim))
	w.sync(1)
	if n := w.nodeSpool(); len(n.Status.Wants) > 0 {
		t.Errorf("the claim has them: %+v", n.Status.Wants)
	}
}

// TestReboot has an agent that is down while pod and node go: the new boot's agent knows of
// neither, and answers when it is asked. A spool that outlived the boot is emptied.
func TestReboot(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			w := newWorld(t)
			p, claim, b := w.runs("web", "u")
			w.delete(p)
			w.reboot(keep)
			if _, err := spool.Add(w.files, spool.Call{Want: b.Want, Boot: "boot2"}, func() error { return errOver }); err == nil {
				t.Error("ADD succeeds before the agent was there")
			}
			w.start()
			if got := w.left(); len(got) > 0 {
				t.Errorf("left: %v", got)
			}
			w.sync(2)
			if w.withdrawn(claim) {
				t.Fatal("nothing says the pod's name")
			}
			n := w.nodeSpool()
			n.Spec.Ask = []string{"u"}
			w.ok(w.c.Update(t.Context(), &n))
			w.sync(1)
			if n := w.nodeSpool(); !slices.Equal(n.Status.Withdrawn, []string{"u"}) || n.Status.BootID != "boot2" {
				t.Errorf("%+v", n.Status)
			}
		})
	}
}

// TestLostSpool deletes the spool while pods live: nothing is withdrawn before the address is in
// no namespace of the node, and the pods are served as before.
func TestLostSpool(t *testing.T) {
	for _, running := range []bool{true, false} {
		for _, claimed := range []bool{true, false} {
			t.Run(fmt.Sprintf("running=%t claimed=%t", running, claimed), func(t *testing.T) {
				w := newWorld(t)
				p := w.pod("web", "u")
				claim := w.claim("web", "u", addr)
				w.sync(1)
				b := w.box("web", "u")
				nic, err := w.add(b)
				w.ok(err)
				w.set(b, nic)
				clear(w.files.files)
				if !running {
					w.start()
				}
				w.sync(1)
				if got := w.served("u"); got == nil || len(got.NICs) != 1 {
					t.Errorf("not served: %+v", got)
				}
				if err := spool.Status(w.files, w.agent.BootID); err != nil {
					t.Error(err)
				}
				if !claimed {
					w.delete(claim)
					n := w.nodeSpool()
					n.Spec.Ask = []string{"u"}
					w.ok(w.c.Update(t.Context(), &n))
				}
				done := func() bool {
					if claimed {
						return w.withdrawn(claim)
					}
					return slices.Contains(w.nodeSpool().Status.Withdrawn, "u")
				}
				w.delete(p)
				w.sync(3)
				if done() {
					t.Fatal("withdrawn, and the address is in a namespace")
				}
				// Another pod with the same address, in another network, is no reason to wait.
				other := w.box("other", "v")
				other.Network = "vlan"
				nic.Network = "vlan"
				w.ok(spool.PutPod(w.files, spool.Pod{Namespace: "default", Name: "other", UID: "v", NICs: []spool.NIC{nic}}))
				_, err = w.add(other)
				w.ok(err)
				w.set(other, nic)
				delete(w.nets, b.inode)
				w.sync(1)
				if !done() {
					t.Error("not withdrawn")
				}
			})
		}
	}
}

// TestAPIErrors checks that no error is an answer.
func TestAPIErrors(t *testing.T) {
	w := newWorld(t)
	p := w.pod("web", "u")
	claim := w.claim("web", "u", addr)
	w.sync(1)
	w.delete(p)
	w.write = func() error { return errOver }
	if err := w.pass(); !errors.Is(err, errOver) {
		t.Errorf("got %v", err)
	}
	w.write = nil
	w.files.before = func(op, _ string) error {
		if op == "list" {
			return errOver
		}
		return nil
	}
	if _, err := w.agent.SyncPod(t.Context(), "u"); !errors.Is(err, errOver) {
		t.Errorf("got %v", err)
	}
	if w.withdrawn(claim) {
		t.Error("withdrawn, and the sandboxes couldn't be listed")
	}
	w.files.before = nil
	w.sync(1)
	if !w.withdrawn(claim) {
		t.Error("not withdrawn")
	}
}
