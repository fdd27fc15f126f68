// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// static returns the annotations of a pod with NICs of static-macvlan-cni.
func static(vlan, ip, mac string) map[string]string {
	out := networks(strings.TrimSuffix(strings.Repeat("static-macvlan-cni,", strings.Count(vlan, ",")+1), ","))
	out[ipam.VLANAnnotation] = vlan
	for key, value := range map[string]string{ipam.StaticIPAnnotation: ip, ipam.StaticMACAnnotation: mac} {
		if value != "" {
			out[key] = value
		}
	}
	return out
}

// newStatic returns a bench with the seed's network and VLANSubnet, a node and a controller.
func newStatic(t *testing.T, change ...func(*ipam.VLANSubnetSpec)) *bench {
	b := newBench(t)
	b.Node("node1")
	b.Create(&nad.NetworkAttachmentDefinition{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "static-macvlan-cni"},
		Spec:       nad.Spec{Config: `{"cniVersion":"0.3.1","name":"static-macvlan-cni","type":"static-macvlan-cni","ipam":{"type":"static-ipam"}}`},
	})
	b.vlanSubnet("mv1.100", 100, "192.168.1.0/24", change...)
	b.start(nil)
	return b
}

func (b *bench) vlanSubnet(name string, vlan int, cidr string, change ...func(*ipam.VLANSubnetSpec)) *staticmacvlan.VLANSubnet {
	b.Helper()
	v := &staticmacvlan.VLANSubnet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: ipam.VLANSubnetSpec{Master: "eth0", VLAN: vlan, CIDR: cidr, Gateway: "192.168.1.1"}}
	for _, f := range change {
		f(&v.Spec)
	}
	b.Create(v)
	return v
}

// statefulSet makes a StatefulSet and its pods, whose controller doesn't run here.
func (b *bench) statefulSet(name string, annotations map[string]string, ordinals ...int) {
	b.Helper()
	b.statefulSetFrom(0, name, annotations, ordinals...)
}

func (b *bench) statefulSetFrom(start int32, name string, annotations map[string]string, ordinals ...int) {
	b.Helper()
	labels := map[string]string{"app": name}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name},
		Spec: appsv1.StatefulSetSpec{
			Ordinals: &appsv1.StatefulSetOrdinals{Start: start}, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations},
				Spec:       corev1.PodSpec{NodeName: "node1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
			},
		},
	}
	b.Create(set)
	for _, i := range ordinals {
		b.Create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: fmt.Sprintf("%s-%d", name, i), Labels: labels, Annotations: annotations,
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))}},
			Spec: set.Spec.Template.Spec,
		})
	}
}

// macs returns the MACs and links of a claim.
func (b *bench) macs(name string) string {
	b.Helper()
	c := &v2beta1.SpiderEndpoint{}
	if err := b.C.Get(b.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, c); err != nil {
		b.Fatal(err)
	}
	var out []string
	for _, n := range c.Status.Current.IPs {
		out = append(out, fmt.Sprintf("%s %q %s on %s %d %s clean %t", n.Interface, n.MAC, n.Link.Name, n.Link.Master, n.Link.VLAN, n.Link.Mode, n.CleanGateway))
	}
	return strings.Join(out, ", ")
}

// event waits for an event on a pod.
func (b *bench) event(pod, reason, want string) {
	b.Helper()
	b.Eventually("event of "+pod, func() error {
		var list eventsv1.EventList
		if err := b.C.List(b.Context(), &list, client.InNamespace(b.NS)); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.Name != pod {
				continue
			}
			if e.Reason == reason && strings.Contains(e.Note, want) {
				return nil
			}
			seen = append(seen, e.Reason+": "+e.Note)
		}
		return fmt.Errorf("events %q, want %s: %s", seen, reason, want)
	})
}

// TestS4Static: the pods of the seed get the address and MAC that they name, and any address.
func TestS4Static(t *testing.T) {
	b := newStatic(t)
	b.pod("samplepod1", "node1", static("mv1.100", "192.168.1.100/24", "0a:00:27:00:00:00"))
	if got := b.ready("samplepod1"); got != "net1 192.168.1.100/24" {
		t.Errorf("samplepod1 has %s", got)
	}
	if got, want := b.macs("samplepod1"), `net1 "0a:00:27:00:00:00" mv1.100 on eth0 100 bridge clean true`; got != want {
		t.Errorf("samplepod1 has %s, want %s", got, want)
	}
	b.pod("samplepod2", "node1", static("mv1.100", "auto", ""))
	if got := b.ready("samplepod2"); got != "net1 192.168.1.2/24" {
		t.Errorf("samplepod2 has %s", got)
	}
	if got, want := b.macs("samplepod2"), `net1 "" mv1.100 on eth0 100 bridge clean true`; got != want {
		t.Errorf("samplepod2 has %s, want %s", got, want)
	}
	a := &v1alpha1.IPAddress{}
	if err := b.C.Get(t.Context(), client.ObjectKey{Name: "192.168.1.100.vlan100"}, a); err != nil || a.Spec.Pool != "vlansubnet/mv1.100" {
		t.Errorf("%+v, %v", a.Spec, err)
	}
}

// TestX21Conflict: two pods name one address. The second one waits, and says for whom; it gets
// the address when the first one's node has withdrawn it.
func TestX21Conflict(t *testing.T) {
	b := newStatic(t)
	first := b.pod("samplepod1", "node1", static("mv1.100", "192.168.1.100", ""))
	b.ready("samplepod1")
	b.pod("second", "node1", static("mv1.100", "192.168.1.100/24", ""))
	b.waits("second", "net1 waits: 192.168.1.100 is held by "+b.NS+"/samplepod1")
	b.event("second", "Conflict", "held by "+b.NS+"/samplepod1")
	b.Delete(first)
	b.pod("other", "node1", static("mv1.100", "auto", ""))
	b.ready("other")
	b.waits("second", "held by")
	b.withdraw("samplepod1")
	if got := b.ready("second"); got != "net1 192.168.1.100/24" {
		t.Errorf("second has %s", got)
	}
}

// TestX22Refused: an address that no pod can have is refused with a sentence, and takes none of
// the pod's other addresses.
func TestX22Refused(t *testing.T) {
	b := newStatic(t)
	for name, x := range map[string]struct{ ip, want string }{
		"outside":   {"192.168.2.100/24", "annotation static-ip of the pod: 192.168.2.100/24: want an address of cidr 192.168.1.0/24 of VLANSubnet mv1.100"},
		"gateway":   {"192.168.1.1", "192.168.1.1: it is the gateway of VLANSubnet mv1.100: want another address"},
		"network":   {"192.168.1.0", "192.168.1.0: it is the network's own address"},
		"broadcast": {"192.168.1.255", "192.168.1.255: it is the broadcast address"},
		"length":    {"192.168.1.100/16", "want length 24"},
		"junk":      {"192.168.1.300", `"192.168.1.300": want auto, an address such as`},
	} {
		b.pod(name, "node1", static("mv1.100", x.ip, ""))
		b.waits(name, x.want)
		b.event(name, v2beta1.Invalid, x.want)
	}
	b.pod("no-vlan", "node1", static("", "auto", ""))
	b.waits("no-vlan", "annotation vlan of the pod: missing: want the name of a VLANSubnet")
	b.pod("two", "node1", static("mv1.100,mv1.100", "192.168.1.7,192.168.1.1", ""))
	b.waits("two", "it is the gateway")
	if n := b.count(); n != 0 {
		t.Errorf("%d addresses are out", n)
	}
	b.pod("later", "node1", static("mv2", "auto", ""))
	b.waits("later", "VLANSubnet mv2 of the pod's annotation vlan isn't there (yet)")
	b.vlanSubnet("mv2", 0, "192.168.1.0/24")
	if got := b.ready("later"); got != "net1 192.168.1.2/24" {
		t.Errorf("later has %s", got)
	}
	if got, want := b.macs("later"), `net1 "" mv2 on eth0 0 bridge clean true`; got != want {
		t.Errorf("later has %s, want %s", got, want)
	}
}

// TestStaticLists: pods that share a list take any free entry of it, with the MAC beside it, and
// one pod more waits; the first pod of a StatefulSet takes the first entry.
func TestStaticLists(t *testing.T) {
	b := newStatic(t)
	list := static("mv1.100", "192.168.1.9-192.168.1.5", "0a:00:00:00:00:09-0a:00:00:00:00:05")
	first := b.pod("web-a", "node1", list)
	if got := b.ready("web-a"); got != "net1 192.168.1.9/24" {
		t.Errorf("web-a has %s", got)
	}
	b.pod("web-b", "node1", list)
	if got, want := b.ready("web-b")+" "+b.macs("web-b"), `net1 192.168.1.5/24 net1 "0a:00:00:00:00:05" mv1.100 on eth0 100 bridge clean true`; got != want {
		t.Errorf("web-b has %s, want %s", got, want)
	}
	b.pod("web-c", "node1", list)
	b.waits("web-c", fmt.Sprintf("net1 waits: 192.168.1.9 is held by %s/web-a, 192.168.1.5 is held by %s/web-b", b.NS, b.NS))
	b.Delete(first)
	b.withdraw("web-a")
	if got, want := b.ready("web-c")+" "+b.macs("web-c"), `net1 192.168.1.9/24 net1 "0a:00:00:00:00:09" mv1.100 on eth0 100 bridge clean true`; got != want {
		t.Errorf("web-c has %s, want %s", got, want)
	}
	b.statefulSet("db", static("mv1.100", "192.168.1.19-192.168.1.15-192.168.1.17", ""), 2, 3, 0, 1)
	b.statefulSetFrom(5, "late", static("mv1.100", "192.168.1.29-192.168.1.25", ""), 5, 6, 7)
	for name, want := range map[string]string{"late-5": "net1 192.168.1.29/24", "late-6": "net1 192.168.1.25/24"} {
		if got := b.ready(name); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	b.waits("late-7", "it has 2 addresses, the first of which is pod 5's, and this is pod 7 of the StatefulSet")
	for name, want := range map[string]string{"db-0": "net1 192.168.1.19/24", "db-1": "net1 192.168.1.15/24", "db-2": "net1 192.168.1.17/24"} {
		if got := b.ready(name); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	b.waits("db-3", "it has 3 addresses, the first of which is pod 0's, and this is pod 3 of the StatefulSet")
	b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "db-0"}})
	b.withdraw("db-0")
	b.Delete(&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "db"}})
	b.Eventually("the address of db-0 is free", func() error {
		err := b.C.Get(t.Context(), client.ObjectKey{Name: "192.168.1.19.vlan100"}, &v1alpha1.IPAddress{})
		if !apierrors.IsNotFound(err) {
			return errors.Join(errors.New("its IPAddress is there"), err)
		}
		return nil
	})
}

// TestVLANSubnetAnew: a VLANSubnet is made anew, with another CIDR. A StatefulSet's pod that is
// made anew gets an address of that one, and not the one that is kept for it.
func TestVLANSubnetAnew(t *testing.T) {
	b := newStatic(t)
	b.statefulSet("db", static("mv1.100", "auto", ""), 0)
	if got := b.ready("db-0"); got != "net1 192.168.1.2/24" {
		t.Errorf("it has %s", got)
	}
	former := &corev1.Pod{}
	if err := b.C.Get(t.Context(), client.ObjectKey{Namespace: b.NS, Name: "db-0"}, former); err != nil {
		t.Fatal(err)
	}
	b.Delete(&staticmacvlan.VLANSubnet{ObjectMeta: metav1.ObjectMeta{Name: "mv1.100"}})
	b.vlanSubnet("mv1.100", 100, "192.168.7.0/24", func(s *ipam.VLANSubnetSpec) { s.Gateway = "192.168.7.1" })
	b.Delete(former)
	b.withdraw("db-0")
	b.Create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "db-0", Labels: former.Labels, Annotations: former.Annotations, OwnerReferences: former.OwnerReferences},
		Spec:       former.Spec,
	})
	b.Eventually("an address of the new CIDR", func() error {
		if got := b.ready("db-0"); got != "net1 192.168.7.2/24" {
			return fmt.Errorf("it has %s", got)
		}
		return nil
	})
}

// TestStaticMACs: two pods of a VLANSubnet name one MAC. The second one waits, and says for whom,
// with whatever address; a list goes on to an entry whose MAC is free. In another VLANSubnet the
// MAC is another one. The second pod starts when the first one's node has withdrawn it.
func TestStaticMACs(t *testing.T) {
	b := newStatic(t)
	b.vlanSubnet("mv2.200", 200, "192.168.1.0/24")
	const mac = "0a:00:27:00:00:01"
	first := b.pod("first", "node1", static("mv1.100", "192.168.1.100", mac))
	b.ready("first")
	b.pod("any", "node1", static("mv1.100", "auto", "0A:00:27:00:00:01"))
	b.event("any", "Conflict", fmt.Sprintf("net1 waits: MAC %s is held by %s/first in VLANSubnet mv1.100", mac, b.NS))
	b.pod("named", "node1", static("mv1.100", "192.168.1.101", mac))
	b.event("named", "Conflict", fmt.Sprintf("net1 waits: MAC %s is held by %s/first in VLANSubnet mv1.100", mac, b.NS))
	b.pod("same", "node1", static("mv1.100", "192.168.1.100", mac))
	b.event("same", "Conflict", fmt.Sprintf("net1 waits: 192.168.1.100 is held by %s/first", b.NS))
	b.pod("list", "node1", static("mv1.100", "192.168.1.102-192.168.1.103", mac+"-0a:00:27:00:00:03"))
	if got, want := b.ready("list")+" "+b.macs("list"), `net1 192.168.1.103/24 net1 "0a:00:27:00:00:03" mv1.100 on eth0 100 bridge clean true`; got != want {
		t.Errorf("list has %s, want %s", got, want)
	}
	b.pod("elsewhere", "node1", static("mv2.200", "auto", mac))
	b.ready("elsewhere")
	if n := b.count(); n != 3 { // who waits has nothing
		t.Errorf("%d addresses are out, want 3", n)
	}
	b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "named"}})
	b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "same"}})
	b.Delete(first)
	time.Sleep(300 * time.Millisecond)
	b.waits("any", "is held by "+b.NS+"/first") // its node hasn't said anything
	b.withdraw("first")
	if got, want := b.ready("any")+" "+b.macs("any"), `net1 192.168.1.2/24 net1 "`+mac+`" mv1.100 on eth0 100 bridge clean true`; got != want {
		t.Errorf("any has %s, want %s", got, want)
	}
}

// TestStaticMACsAtOnce: of pods that are made at once, one has the MAC at a time, also when
// another controller goes on.
func TestStaticMACsAtOnce(t *testing.T) {
	b := newStatic(t)
	const pods = 6
	b.each(pods, func(i int) {
		b.pod(fmt.Sprint("pod", i), "node1", static("mv1.100", "auto", "0a:00:27:00:00:01"))
	})
	for left := pods; left > 0; left-- {
		var has []string
		b.Eventually("one pod has the MAC, the others wait", func() error {
			has = nil
			var list v2beta1.SpiderEndpointList
			if err := b.C.List(t.Context(), &list, client.InNamespace(b.NS)); err != nil {
				return err
			}
			waiting := 0
			for _, c := range list.Items {
				switch {
				case c.Status.Current != nil:
					has = append(has, c.Name)
				case len(c.Status.Conditions) > 0 && strings.Contains(c.Status.Conditions[0].Message, "MAC 0a:00:27:00:00:01 is held by"):
					waiting++
				}
			}
			if len(has) > 1 {
				t.Fatalf("%v have one MAC", has)
			}
			if len(has) != 1 || waiting != left-1 {
				return fmt.Errorf("%v has it, %d wait, want %d", has, waiting, left-1)
			}
			return nil
		})
		if left == pods/2 {
			b.stop()
			b.start(nil)
		}
		b.Delete(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: has[0]}})
		b.withdraw(has[0])
	}
	b.free()
}

// TestStaticNICs: a pod has NICs on two VLANSubnets, all of them or none. Equal addresses in two
// VLANs are different ones, and a pool of the same VLAN has none that a VLANSubnet has.
func TestStaticNICs(t *testing.T) {
	b := newStatic(t, func(s *ipam.VLANSubnetSpec) {
		s.Ranges = []ipam.VLANRange{{RangeStart: "192.168.1.1", RangeEnd: "192.168.1.3"}}
	})
	b.vlanSubnet("mv2.200", 200, "192.168.1.0/24", func(s *ipam.VLANSubnetSpec) { s.Mode = "private" })
	b.pod("both", "node1", static("mv1.100,mv2.200", "192.168.1.3,192.168.1.3/24", ",0a:00:27:00:00:00"))
	if got, want := b.ready("both"), "net1 192.168.1.3/24, net2 192.168.1.3/24"; got != want {
		t.Errorf("both has %s, want %s", got, want)
	}
	if got, want := b.macs("both"), `net1 "" mv1.100 on eth0 100 bridge clean true, net2 "0a:00:27:00:00:00" mv2.200 on eth0 200 private clean true`; got != want {
		t.Errorf("both has %s, want %s", got, want)
	}
	b.pod("one", "node1", static("mv1.100", "auto", ""))
	b.ready("one")
	b.pod("more", "node1", static("mv2.200,mv1.100", "auto,auto", ""))
	b.waits("more", "no IPv4 address for net2: pool vlansubnet/mv1.100: 2 of 2 addresses are in use")
	b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{
		Subnet: "192.168.1.0/24", IPs: []string{"192.168.1.2-192.168.1.9"}, VLAN: ptr.To(100),
	}}})
	b.Network("lan", `,"default_ipv4_ippool":["lan"]`)
	b.pod("pooled", "node1", networks("lan"))
	b.waits("pooled", "VLANSubnet mv1.100 has 192.168.1.2-192.168.1.3 too, and has addresses in use")
}
