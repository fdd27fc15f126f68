// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

func workloads() []client.Object {
	return []client.Object{&appsv1.Deployment{}, &appsv1.ReplicaSet{}, &appsv1.StatefulSet{}, &appsv1.DaemonSet{}, &batchv1.Job{}, &batchv1.CronJob{}}
}

// TestSeed002: the seed underlay-fixed-ip-multi-nic: names, ranges and counts, after deletion
// of the pods, after scaling to 3, and with +0.
func TestSeed002(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("subnet-test-ens192", "10.6.0.1/16", "10.6.168.171-10.6.168.180")
	b.subnet("subnet-test-ens224", "10.7.0.1/16", "10.7.168.171-10.7.168.180")
	b.start(nil)
	b.machines()
	d := b.deployment("test-app", 2, with(subnets("subnet-test-ens192", "subnet-test-ens224"), ipam.IPNumberAnnotation, "+1"))
	three := []string{"auto-test-app-v4-net1-UID 10.6.168.171-10.6.168.173", "auto-test-app-v4-net2-UID 10.7.168.171-10.7.168.173"}
	b.pools(d, three...)
	b.running("test-app", 2)
	b.counts("subnet-test-ens192", 3)
	b.counts("subnet-test-ens224", 3)
	if err := b.C.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.NS), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	b.running("test-app", 2)
	b.pools(d, three...)
	b.scale(d, 3)
	b.pools(d, "auto-test-app-v4-net1-UID 10.6.168.171-10.6.168.174", "auto-test-app-v4-net2-UID 10.7.168.171-10.7.168.174")
	b.running("test-app", 3)
	change(b, d, func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations[ipam.IPNumberAnnotation] = "+0"
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxUnavailable: ptr.To(intstr.FromInt32(1))} // or a pod without an address waits for ever
	})
	b.running("test-app", 3)
	b.counts("subnet-test-ens192", 3)
	b.Delete(d)
	b.pools(d)
	b.counts("subnet-test-ens192", 0)
}

// TestI00003: each kind that has pods gets a pool of its size, which follows it, and goes with
// it.
func TestI00003(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: b.NS, Name: name} }
	of := func(name string) corev1.PodTemplateSpec { return template(name, subnets("s")) }
	job := func(name string) corev1.PodTemplateSpec {
		p := of(name)
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		return p
	}
	sts := &appsv1.StatefulSet{ObjectMeta: meta("sts"), Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](2), Selector: selector("sts"), Template: of("sts")}}
	for _, x := range []struct {
		o      client.Object
		range1 string
		pods   int
		then   func()
		range2 string
	}{
		{sts, "10.6.0.10-10.6.0.12", 2, func() { change(b, sts, func(s *appsv1.StatefulSet) { s.Spec.Replicas = ptr.To[int32](3) }) }, "10.6.0.10-10.6.0.13"},
		{&appsv1.ReplicaSet{ObjectMeta: meta("rs"), Spec: appsv1.ReplicaSetSpec{Replicas: ptr.To[int32](1), Selector: selector("rs"), Template: of("rs")}}, "10.6.0.10-10.6.0.11", 1, nil, ""},
		{&appsv1.DaemonSet{ObjectMeta: meta("ds"), Spec: appsv1.DaemonSetSpec{Selector: selector("ds"), Template: of("ds")}}, "10.6.0.10-10.6.0.11", 1,
			func() { b.Node("node2") }, "10.6.0.10-10.6.0.12"},
		{&batchv1.Job{ObjectMeta: meta("job"), Spec: batchv1.JobSpec{Completions: ptr.To[int32](3), Parallelism: ptr.To[int32](2), Template: job("job")}}, "10.6.0.10-10.6.0.13", 2, nil, ""},
		{&batchv1.CronJob{ObjectMeta: meta("cron"), Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: job("cron")}}}},
			"10.6.0.10-10.6.0.11", 0, nil, ""},
	} {
		t.Run(x.o.GetName(), func(t *testing.T) {
			b := &bench{&testcluster.Bench{T: t, C: b.C, NS: b.NS}}
			b.Create(x.o)
			name := "auto-" + x.o.GetName() + "-v4-net1-UID "
			b.pools(x.o, name+x.range1)
			b.running(x.o.GetName(), x.pods)
			if x.then != nil {
				x.then()
				b.pools(x.o, name+x.range2)
			}
			b.Delete(x.o)
			b.pools(x.o)
			b.counts("s", 0)
		})
	}
}

// TestCronJobsPods: I00003: the pods of a CronJob's Job are served from the CronJob's pool.
func TestCronJobsPods(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	p := template("cron", subnets("s"))
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	spec := batchv1.JobSpec{Template: p}
	cron := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "cron"}, Spec: batchv1.CronJobSpec{Schedule: "0 0 1 1 *", JobTemplate: batchv1.JobTemplateSpec{Spec: spec}}}
	b.Create(cron)
	b.Create(&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "cron-1", OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(cron, batchv1.SchemeGroupVersion.WithKind("CronJob"))}}, Spec: spec})
	for pod, has := range b.running("cron", 1) {
		if has != "10.6.0.10/16" && has != "10.6.0.11/16" {
			t.Errorf("pod %s has %s, want one of the CronJob's pool", pod, has)
		}
	}
	b.pools(cron, "auto-cron-v4-net1-UID 10.6.0.10-10.6.0.11")
}

// TestI00006: made and deleted again and again, an application leaves the subnet as it was.
func TestI00006(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.12")
	for range 6 {
		d := b.deployment("app", 2, subnets("s"))
		b.running("app", 2)
		b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.12")
		b.Delete(d)
		b.Eventually("the pods are gone", func() error {
			var pods corev1.PodList
			if err := b.C.List(t.Context(), &pods, client.InNamespace(b.NS)); err != nil || len(pods.Items) == 0 {
				return err
			}
			return b.C.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.NS), client.GracePeriodSeconds(0))
		})
	}
	b.pools(&corev1.Pod{})
	b.counts("s", 0)
}

// TestI00008: scaled up and down in quick succession, a pool ends at replicas + N.
func TestI00008(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 1, subnets("s"))
	for round := range 3 {
		for n := 1; n <= 10; n++ {
			b.scale(d, n)
		}
		for n := 9; n >= 1; n-- {
			b.scale(d, n)
		}
		b.scale(d, 4+round)
	}
	b.running("app", 6)
	b.size("auto-app", 7)
	b.counts("s", 7)
}

// TestReport4: X17: a Deployment is scaled down by one while its pods are still starting: the
// pool ends at replicas + N.
func TestReport4(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 0, subnets("s"))
	for round := range 12 {
		b.scale(d, 10)
		b.Eventually("some are up", func() error {
			var claims v2beta1.SpiderEndpointList
			if err := b.C.List(t.Context(), &claims, client.InNamespace(b.NS)); err != nil || len(claims.Items) >= 6 {
				return err
			}
			return errors.New("fewer than 6")
		})
		b.scale(d, 9)
		b.size("auto-app", 10)
		b.counts("s", 10)
		b.scale(d, round%3)
	}
}

// TestX18: A shrinks while B grows in a full subnet.
func TestX18(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.19")
	x := b.deployment("x", 7, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
	y := b.deployment("y", 3, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
	b.running("x", 7)
	b.running("y", 3)
	b.scale(y, 6)
	b.says(y, "SubnetExhausted", "SpiderSubnet s (10.6.0.0/16) has none left")
	b.scale(x, 4)
	b.running("y", 6)
	b.running("x", 4)
	b.size("auto-x", 4)
	b.size("auto-y", 6)
	b.counts("s", 10)
}

// TestX19: 30 applications at once in a subnet that just fits them.
func TestX19(t *testing.T) {
	b := newRunning(t, "10.6.1.1-10.6.1.60")
	for i := range 30 {
		b.deployment(fmt.Sprintf("app%02d", i), 1, subnets("s"))
	}
	for i := range 30 {
		b.running(fmt.Sprintf("app%02d", i), 1)
		b.size(fmt.Sprintf("auto-app%02d", i), 2)
	}
	b.counts("s", 60)
}

// TestI00011: reserved addresses are skipped, and given back when they are reserved later.
func TestI00011(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.Create(&v2beta1.SpiderReservedIP{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: ipam.ReservedSpec{IPs: []string{"10.6.0.11"}}})
	b.start(nil)
	b.machines()
	d := b.deployment("app", 1, with(subnets("s"), ipam.IPNumberAnnotation, "+2"))
	used := b.running("app", 1)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10,10.6.0.12-10.6.0.13")
	// One that the pod uses would stay.
	later, left := "10.6.0.12", "10.6.0.10,10.6.0.13-10.6.0.14"
	if slices.Contains(slices.Collect(maps.Values(used)), later+"/16") {
		later, left = "10.6.0.13", "10.6.0.10,10.6.0.12,10.6.0.14"
	}
	b.Create(&v2beta1.SpiderReservedIP{ObjectMeta: metav1.ObjectMeta{Name: "r2"}, Spec: ipam.ReservedSpec{IPs: []string{later}}})
	b.pools(d, "auto-app-v4-net1-UID "+left)
}

// TestExcluded: the subnet excludes an address that a pool has to spare, and it gets another one.
func TestExcluded(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	s := b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.start(nil)
	b.machines()
	d := b.deployment("app", 1, subnets("s"))
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11")
	used := b.running("app", 1)
	later, left := "10.6.0.10", "10.6.0.11-10.6.0.12"
	if slices.Contains(slices.Collect(maps.Values(used)), later+"/16") {
		later, left = "10.6.0.11", "10.6.0.10,10.6.0.12"
	}
	change(b, s, func(s *v2beta1.SpiderSubnet) { s.Spec.ExcludeIPs = []string{later} })
	b.pools(d, "auto-app-v4-net1-UID "+left)
	if got := b.running("app", 1); !maps.Equal(got, used) {
		t.Errorf("the pod had %v, and has %v", used, got)
	}
}

// TestI00012: I00012, I00021: several NICs, and applications of one name in two namespaces.
func TestI00012(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.subnet("s6", "fd00:6::/64", "fd00:6::10-fd00:6::30")
	other := newBench(t)
	b.start(nil)
	for _, x := range []*bench{b, other} {
		x.Network("lan", "")
		x.machines()
	}
	both := `[{"interface":"net1","ipv4":["s"],"ipv6":["s6"]},{"interface":"net2","ipv4":["s"]}]`
	first := b.deployment("app", 1, with(subnets("s", "s"), ipam.SubnetsAnnotation, both))
	for _, got := range b.running("app", 1) {
		if !regexp.MustCompile(`^10\.6\.0\.1[01]/16 fd00:6::1[01]/64, 10\.6\.0\.1[23]/16$`).MatchString(got) {
			t.Errorf("the pod has %s", got)
		}
	}
	b.pools(first, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11", "auto-app-v6-net1-UID fd00:6::10-fd00:6::11", "auto-app-v4-net2-UID 10.6.0.12-10.6.0.13")
	other.deployment("app", 1, subnets("s"))
	for _, got := range other.running("app", 1) {
		if got != "10.6.0.14/16" && got != "10.6.0.15/16" {
			t.Errorf("the other pod has %s", got)
		}
	}
}

// TestI00013: the annotation subnet is for all NICs.
func TestI00013(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 1, map[string]string{ipam.SubnetAnnotation: `{"ipv4":["s"]}`, ipam.NetworksAnnotation: "lan,lan"})
	b.running("app", 1)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11", "auto-app-v4-net2-UID 10.6.0.12-10.6.0.13")
}

// TestI00015: I00015, I00016, I00019, T00004, T00005: with reclaim false a pool outlives its
// application. One of the same kind and name takes it over, another kind doesn't.
func TestI00015(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	stays := func() map[string]string { return with(subnets("s"), ipam.ReclaimAnnotation, "false") }
	d := b.deployment("app", 2, stays())
	b.running("app", 2)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.12")
	b.Delete(d)
	b.running("app", 0)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.12")
	sts := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "app"}, Spec: appsv1.StatefulSetSpec{Replicas: ptr.To[int32](1), Selector: selector("app"), Template: template("app", subnets("s"))}}
	b.Create(sts)
	if got := b.running("app", 1); got["app-0"] != "10.6.0.13/16" && got["app-0"] != "10.6.0.14/16" {
		t.Errorf("I00016: the StatefulSet's pod has %s, want an address that the Deployment's pool hasn't", got["app-0"])
	}
	b.Delete(sts)
	b.running("app", 0)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.12")
	again := b.deployment("app", 3, stays())
	b.running("app", 3)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.13") // its name is that of the first one's UID
	b.Delete(again)
	b.running("app", 0)
	var pools v2beta1.SpiderIPPoolList
	if err := b.C.List(t.Context(), &pools); err != nil || len(pools.Items) != 1 || pools.Items[0].Labels["ipam.spidernet.io/owner-application-uid"] != string(again.UID) {
		t.Fatalf("%v, pools %v", err, pools.Items)
	}
	change(b, &pools.Items[0], func(p *v2beta1.SpiderIPPool) { p.Labels[ipam.ReclaimLabel] = "true" })
	b.pools(d)
	b.counts("s", 0)
}

// set makes a StatefulSet.
func (b *bench) set(name string, replicas int32, annotations map[string]string) *appsv1.StatefulSet {
	b.Helper()
	s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name}, Spec: appsv1.StatefulSetSpec{
		Replicas: &replicas, Selector: selector(name), Template: template(name, annotations), PodManagementPolicy: appsv1.ParallelPodManagement,
	}}
	b.Create(s)
	return s
}

// TestRetained: a StatefulSet with pools of its own is deleted and made again under its name. If the pool or
// its subnet retains what is kept for identities, it takes the pool over, whoever asked for addresses
// meanwhile, and each pod has the address of its ordinal.
func TestRetained(t *testing.T) {
	retain := map[string]string{identities.WhenDeleted: identities.Retain}
	for _, x := range []struct {
		name         string
		pool, subnet map[string]string
		retained     bool
	}{
		{"the subnet", nil, retain, true},
		{"the pool", retain, nil, true},
		{"the pool doesn't", map[string]string{identities.WhenDeleted: identities.Delete}, retain, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBench(t)
			b.Node("node1")
			b.Network("lan", "")
			b.Create(&v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: "s", Annotations: x.subnet}, Spec: ipam.SubnetSpec{Subnet: "10.6.0.0/16", IPs: []string{"10.6.0.10-10.6.0.15"}}})
			b.start(nil)
			b.machines()
			s := b.set("web", 3, subnets("s"))
			first := b.running("web", 3)
			b.pools(s, "auto-web-v4-net1-UID 10.6.0.10-10.6.0.13")
			var list v2beta1.SpiderIPPoolList
			if err := b.C.List(t.Context(), &list); err != nil {
				t.Fatal(err)
			}
			change(b, &list.Items[0], func(p *v2beta1.SpiderIPPool) { maps.Copy(p.Annotations, x.pool) })
			b.Delete(s)
			b.running("web", 0)
			if !x.retained {
				b.pools(s)
				b.counts("s", 0)
				return
			}
			b.counts("s", 3)
			d := b.deployment("other", 6, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
			b.says(d, "SubnetExhausted", "has none left")
			again := b.set("web", 3, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
			if got := b.running("web", 3); !maps.Equal(got, first) {
				t.Errorf("it had %v, and has %v", first, got)
			}
			b.Eventually("all is the new one's", func() error {
				var all v1alpha1.IPAddressList
				if err := b.C.List(t.Context(), &all, client.MatchingFields{v1alpha1.ByPool: list.Items[0].Name}); err != nil || len(all.Items) != 3 {
					return fmt.Errorf("%d addresses, %w", len(all.Items), err)
				}
				for _, a := range all.Items {
					if a.Spec.Application.UID != string(again.UID) || a.Spec.Identity.UID != string(again.UID) {
						return fmt.Errorf("%s is of %+v, %+v", a.Name, a.Spec.Application, a.Spec.Identity)
					}
				}
				return nil
			})
			b.Delete(d)
			b.Delete(again)
			b.running("web", 0)
			b.counts("s", 3)
			p := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: list.Items[0].Name}}
			change(b, p, func(p *v2beta1.SpiderIPPool) { p.Annotations[identities.WhenDeleted] = identities.Delete })
			b.pools(again)
			b.counts("s", 0)
		})
	}
}

// TestOrphans: a StatefulSet is deleted with --cascade=orphan and made again under its name. Its pods live on and are
// the new one's, and so are their addresses, also when the pods are made again later: of a pool of its own, or of
// another one.
func TestOrphans(t *testing.T) {
	for _, own := range []bool{true, false} {
		t.Run(fmt.Sprintf("a pool of its own: %t", own), func(t *testing.T) {
			b := newRunning(t, "10.6.0.10-10.6.0.30")
			annotations := with(subnets("s"), ipam.IPNumberAnnotation, "+2")
			if !own {
				b.Create(&v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.7.0.0/16", IPs: []string{"10.7.0.10-10.7.0.30"}}}})
				annotations = map[string]string{ipam.NetworksAnnotation: "lan", ipam.IPPoolAnnotation: `{"ipv4":["lan"]}`}
			}
			former := b.set("web", 2, annotations)
			first := b.running("web", 2)
			if err := b.C.Delete(t.Context(), former, client.PropagationPolicy(metav1.DeletePropagationOrphan)); err != nil {
				t.Fatal(err)
			}
			b.Eventually("it is gone", func() error {
				if err := b.C.Get(t.Context(), client.ObjectKeyFromObject(former), &appsv1.StatefulSet{}); !apierrors.IsNotFound(err) {
					return errors.Join(err, errors.New("it is there"))
				}
				return nil
			})
			if own {
				b.pools(former, "auto-web-v4-net1-UID "+strings.Join(ipam.Text(ipam.Addresses(plain(first))), ","))
			}
			now := b.set("web", 2, annotations)
			b.Eventually("all is the new one's", func() error {
				var all v1alpha1.IPAddressList
				var claims v2beta1.SpiderEndpointList
				for _, list := range []client.ObjectList{&all, &claims} {
					if err := b.C.List(t.Context(), list); err != nil {
						return err
					}
				}
				for _, c := range claims.Items {
					if c.Spec.Identity.UID != string(now.UID) {
						return fmt.Errorf("claim %s is of %+v", c.Name, c.Spec.Identity)
					}
				}
				for _, a := range all.Items {
					if id, app := a.Spec.Identity, a.Spec.Application; id != nil && id.UID != string(now.UID) || app != nil && app.UID != string(now.UID) {
						return fmt.Errorf("%s is of %+v, %+v", a.Name, id, app)
					}
				}
				return nil
			})
			if got := b.running("web", 2); !maps.Equal(got, first) {
				t.Errorf("while they run, they had %v, and have %v", first, got)
			}
			if err := b.C.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.NS), client.GracePeriodSeconds(0)); err != nil {
				t.Fatal(err)
			}
			if got := b.running("web", 2); !maps.Equal(got, first) {
				t.Errorf("made again, they had %v, and have %v", first, got)
			}
			if own {
				b.size("auto-web", 4)
				b.counts("s", 4)
			}
			b.Delete(now)
			b.running("web", 0)
			b.counts("s", 0)
		})
	}
}

// plain returns addresses without their prefix lengths.
func plain(by map[string]string) []string {
	var out []string
	for _, a := range by {
		addr, _, _ := strings.Cut(a, "/")
		out = append(out, addr)
	}
	return out
}

// TestI00017: an application whose name has 253 bytes.
func TestI00017(t *testing.T) {
	b := newBench(t)
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.Network("lan", "")
	b.start(nil)
	name := strings.Repeat("long.name-", 25) + "abc"
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](0), Selector: selector("x"), Template: template("x", subnets("s"))},
	}
	b.Create(d)
	b.pools(d, "auto-"+name[:227]+"-v4-net1-UID 10.6.0.10")
}

// TestI00018: spec.ips of an application's pool is what it has, whoever edits it; a pool that
// is deleted comes again.
func TestI00018(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 1, subnets("s"))
	b.running("app", 1)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11")
	var pools v2beta1.SpiderIPPoolList
	if err := b.C.List(t.Context(), &pools); err != nil {
		t.Fatal(err)
	}
	p := &pools.Items[0]
	change(b, p, func(p *v2beta1.SpiderIPPool) { p.Spec.IPs = []string{"10.6.0.20-10.6.0.29"} })
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11")
	b.Delete(p)
	b.Eventually("another pool", func() error {
		now := &v2beta1.SpiderIPPool{}
		if err := b.C.Get(t.Context(), client.ObjectKeyFromObject(p), now); err != nil || now.UID != p.UID {
			return err
		}
		return errors.New("the same pool")
	})
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11")
}

// TestI00020: nobody else gets the spare address of an application's pool.
func TestI00020(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.11")
	d := b.deployment("app", 1, subnets("s"))
	b.running("app", 1)
	uid := string(d.UID)
	pool := "auto-app-v4-net1-" + uid[strings.LastIndex(uid, "-")+1:]
	b.pod("thief", map[string]string{ipam.NetworksAnnotation: "lan", ipam.IPPoolAnnotation: `{"ipv4":["` + pool + `"]}`})
	b.waits("thief", "pool "+pool+": it is the pool of Deployment "+b.NS+"/app: want annotation ipam.spidernet.io/subnets, from which each application gets a pool of its own")
	b.pod("bare", subnets("s"))
	b.waits("bare", "no IPv4 address for net1: SpiderSubnet s: 2 of 2 addresses are in use")
	other := b.deployment("other", 1, subnets("s"))
	b.says(other, "SubnetExhausted", "has none left")
}

// TestI00023: a bare pod gets its address straight from the subnet; it counts there.
func TestI00023(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	s := b.subnet("s", "10.6.0.0/16", "10.6.0.1-10.6.0.12")
	change(b, s, func(s *v2beta1.SpiderSubnet) {
		s.Spec.ExcludeIPs, s.Spec.Gateway = []string{"10.6.0.1"}, ptr.To("10.6.0.1")
	})
	b.start(nil)
	b.machines()
	p := b.pod("bare", subnets("s"))
	if got := b.running("bare", 1); got["bare"] != "10.6.0.2/16" {
		t.Errorf("it has %v", got)
	}
	c := &v2beta1.SpiderEndpoint{}
	if err := b.C.Get(t.Context(), client.ObjectKeyFromObject(p), c); err != nil || c.Status.Current.IPs[0].IPv4Gateway != "10.6.0.1" || c.Status.Current.IPs[0].IPv4Pool != "subnet/s" {
		t.Errorf("%v, claim %+v", err, c.Status.Current)
	}
	b.counts("s", 1)
	b.Delete(p)
	b.counts("s", 0)
	b.pod("lost", subnets("t"))
	b.waits("lost", "SpiderSubnet t: there is no such SpiderSubnet")
}

// TestHostNetwork: an application in the nodes' network has no pool.
func TestHostNetwork(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.start(nil)
	of := template("host", subnets("s"))
	of.Spec.HostNetwork = true
	b.Create(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "host"}, Spec: appsv1.DeploymentSpec{Selector: selector("host"), Template: of}})
	d := b.deployment("app", 0, subnets("s")) // made later, and has its pool
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10")
}

// TestChanges: what changes in a living application: another subnet makes a second pool, and
// the first one goes with its last address; a NIC that goes gives its pool back; another N
// resizes.
func TestChanges(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("a", "10.6.0.0/16", "10.6.0.10-10.6.0.30")
	b.subnet("z", "10.7.0.0/16", "10.7.0.10-10.7.0.30")
	b.start(nil)
	b.machines()
	d := b.deployment("app", 2, with(subnets("a", "a"), ipam.IPNumberAnnotation, "+0"))
	b.running("app", 2)
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11", "auto-app-v4-net2-UID 10.6.0.12-10.6.0.13")
	change(b, d, func(d *appsv1.Deployment) { d.Spec.Paused = true })
	change(b, d, func(d *appsv1.Deployment) { d.Spec.Template.Annotations = subnets("z", "a") })
	// Paused, the Deployment's pods stay, and have their addresses.
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11", "auto-app-v4-net1-UID-2 10.7.0.10-10.7.0.12", "auto-app-v4-net2-UID 10.6.0.12-10.6.0.14")
	change(b, d, func(d *appsv1.Deployment) { d.Spec.Paused = false })
	b.pools(d, "auto-app-v4-net1-UID-2 10.7.0.10-10.7.0.12", "auto-app-v4-net2-UID 10.6.0.12-10.6.0.14")
	b.running("app", 2)
	change(b, d, func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations = with(subnets("z"), ipam.IPNumberAnnotation, "6")
	})
	b.pools(d, "auto-app-v4-net1-UID-2 10.7.0.10-10.7.0.15")
	change(b, d, func(d *appsv1.Deployment) { d.Spec.Template.Annotations[ipam.IPNumberAnnotation] = "six" })
	b.says(d, "PoolsUnclear", `annotation ipam.spidernet.io/ippool-ip-number of the pod: "six": want a number of addresses`)
	b.pools(d, "auto-app-v4-net1-UID-2 10.7.0.10-10.7.0.15")
}

// TestSubnetAnew: a subnet is made anew under its name, with another CIDR: new pods get addresses
// of that one, of a pool of its own, and the former pool goes with its last pod.
func TestSubnetAnew(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 1, subnets("s"))
	b.running("app", 1)
	b.Delete(&v2beta1.SpiderSubnet{ObjectMeta: metav1.ObjectMeta{Name: "s"}})
	b.scale(d, 3)
	b.says(d, "NoSubnet", "there is no SpiderSubnet s, of which pool ")
	b.subnet("s", "10.7.0.0/16", "10.7.0.10-10.7.0.30")
	for pod, has := range b.running("app", 3) {
		if !regexp.MustCompile(`^10\.[67]\.0\.1[0-3]/16$`).MatchString(has) {
			t.Errorf("pod %s has %s", pod, has)
		}
	}
	if err := b.C.DeleteAllOf(t.Context(), &corev1.Pod{}, client.InNamespace(b.NS), client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	b.pools(d, "auto-app-v4-net1-UID-2 10.7.0.10-10.7.0.13")
	for pod, has := range b.running("app", 3) {
		if !strings.HasPrefix(has, "10.7.0.1") {
			t.Errorf("pod %s has %s", pod, has)
		}
	}
}

// TestSurge: with +0 a rolling update waits for an address, says so, and goes on.
func TestSurge(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 2, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
	first := b.running("app", 2)
	b.says(d, "FewSpareAddresses", "+0: its pools have 0 addresses more than replicas, and a rolling update starts up to 1 pods more")
	change(b, d, func(d *appsv1.Deployment) {
		d.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: ptr.To(intstr.FromInt32(1)), MaxUnavailable: ptr.To(intstr.FromInt32(1))}
		d.Spec.Template.Labels["version"] = "2"
	})
	b.Eventually("other pods", func() error {
		for name := range b.running("app", 2) {
			if first[name] != "" {
				return fmt.Errorf("%s is still there", name)
			}
		}
		return nil
	})
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11")
}

// TestSurgeOfDaemonSet: a DaemonSet with maxSurge and +0 says that it has no address for its update,
// and goes on with +1. Without maxSurge it says nothing.
func TestSurgeOfDaemonSet(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	ds := &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: b.NS, Name: "ds"}, Spec: appsv1.DaemonSetSpec{
		Selector: selector("ds"), Template: template("ds", with(subnets("s"), ipam.IPNumberAnnotation, "+0")),
	}}
	b.Create(ds)
	b.running("ds", 1)
	b.pools(ds, "auto-ds-v4-net1-UID 10.6.0.10")
	var events corev1.EventList
	if err := b.C.List(t.Context(), &events, client.InNamespace(b.NS)); err != nil {
		t.Fatal(err)
	}
	for _, e := range events.Items {
		if e.Reason == "FewSpareAddresses" {
			t.Errorf("without maxSurge: %s", e.Message)
		}
	}
	change(b, ds, func(d *appsv1.DaemonSet) {
		d.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxSurge: ptr.To(intstr.FromString("50%")), MaxUnavailable: ptr.To(intstr.FromInt32(0))}
	})
	b.says(ds, "FewSpareAddresses", "+0: its pools have 0 addresses more than replicas, and a rolling update starts up to 1 pods more")
	first := b.running("ds", 1)
	change(b, ds, func(d *appsv1.DaemonSet) {
		d.Spec.Template.Annotations[ipam.IPNumberAnnotation] = "+1"
		d.Spec.Template.Labels["version"] = "2"
	})
	b.Eventually("another pod", func() error {
		for name := range b.running("ds", 1) {
			if first[name] != "" {
				return fmt.Errorf("%s is still there", name)
			}
		}
		return nil
	})
	b.pools(ds, "auto-ds-v4-net1-UID 10.6.0.10-10.6.0.11")
}

// TestConflict: another machine has an address of an application's pool without a spare one. The
// pool grows by one, the pod gets that, and the address stays in quarantine.
func TestConflict(t *testing.T) {
	b := newRunning(t, "10.6.0.10-10.6.0.30")
	d := b.deployment("app", 2, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.11")
	for name, addr := range b.running("app", 2) {
		if addr != "10.6.0.10/16" {
			continue
		}
		p := &corev1.Pod{}
		if err := b.C.Get(t.Context(), client.ObjectKey{Namespace: b.NS, Name: name}, p); err != nil {
			t.Fatal(err)
		}
		s := &v1alpha1.NodeSpool{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
		b.Create(s)
		s.Status = v1alpha1.NodeSpoolStatus{MachineID: "machine-of-node1", Conflicts: []v1alpha1.Conflict{
			{Namespace: b.NS, Pod: name, PodUID: string(p.UID), Interface: "net1", Address: "10.6.0.10", MAC: "02:00:00:00:00:09"},
		}}
		if err := b.C.Status().Update(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		b.Eventually("another address", func() error {
			if got := b.running("app", 2)[name]; got != "10.6.0.12/16" {
				return fmt.Errorf("it has %s", got)
			}
			return nil
		})
	}
	b.pools(d, "auto-app-v4-net1-UID 10.6.0.10-10.6.0.12")
	a := &v1alpha1.IPAddress{}
	if err := b.C.Get(t.Context(), client.ObjectKey{Name: "10.6.0.10"}, a); err != nil || a.Spec.State != v1alpha1.Quarantined {
		t.Errorf("%+v, %v", a.Spec, err)
	}
}
