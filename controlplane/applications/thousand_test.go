// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
)

var thousand = flag.Int("thousand", 40, "to how many pods TestX17 scales; 1000 is what the case is about, and takes minutes")

// TestX17: a Deployment whose pods have two NICs is scaled 1 -> 1000 -> 999 -> 0. At each size
// all pods run with an address of each subnet, the pools end at replicas + 1, and the subnets
// count just that.
func TestX17(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	n := *thousand
	b.subnet("s1", "10.6.0.0/16", fmt.Sprintf("10.6.1.0-10.6.%d.%d", 1+n/256, n%256)) // n + 1 addresses
	b.subnet("s2", "10.7.0.0/16", fmt.Sprintf("10.7.1.0-10.7.%d.%d", 1+n/256, n%256))
	b.start(nil)
	b.machines()
	var d *appsv1.Deployment
	for _, replicas := range []int{1, n, n - 1, 0} {
		begin := time.Now()
		if d == nil {
			d = b.deployment("app", replicas, subnets("s1", "s2"))
		} else {
			b.scale(d, replicas)
		}
		b.all(replicas)
		pods := time.Since(begin)
		b.sizes(int64(replicas+1), "auto-app-v4-net1", "auto-app-v4-net2")
		b.counts("s1", int64(replicas+1))
		b.counts("s2", int64(replicas+1))
		t.Logf("%d replicas: the pods after %s, pools and counts after %s", replicas, pods.Round(time.Second/10), time.Since(begin).Round(time.Second/10))
	}
	b.Delete(d)
	b.counts("s1", 0)
	b.counts("s2", 0)
}

// long tries as long as it takes for many pods.
func (b *bench) long(what string, f func() error) {
	b.Helper()
	var err error
	for end := time.Now().Add(20 * time.Minute); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	b.Fatalf("%s: %v", what, err)
}

// all waits until so many pods run, with two addresses each that nobody else has.
func (b *bench) all(want int) {
	b.Helper()
	b.long(fmt.Sprintf("%d pods", want), func() error {
		var claims v2beta1.SpiderEndpointList
		var pods corev1.PodList
		for _, list := range []client.ObjectList{&claims, &pods} {
			if err := b.C.List(b.Context(), list, client.InNamespace(b.NS)); err != nil {
				return err
			}
		}
		run := map[string]bool{}
		for _, p := range pods.Items {
			run[string(p.UID)] = p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp.IsZero()
		}
		owner := map[string]string{}
		got := 0
		for i := range claims.Items {
			c := &claims.Items[i]
			named := addresses.Named(c)
			for a := range named {
				if other := owner[a]; other != "" {
					b.Fatalf("%s and %s have %s", other, c.Name, a)
				}
				owner[a] = c.Name
			}
			if run[c.Spec.PodUID] && len(named) == 2 {
				got++
			}
		}
		if got != want || len(pods.Items) != want || len(claims.Items) != want {
			return fmt.Errorf("%d of %d pods run, with %d claims", got, len(pods.Items), len(claims.Items))
		}
		return nil
	})
}

// sizes waits until pools whose names begin so have so many addresses.
func (b *bench) sizes(want int64, prefixes ...string) {
	b.Helper()
	b.long("pools", func() error {
		var all v1alpha1.IPAddressList
		if err := b.C.List(b.Context(), &all); err != nil {
			return err
		}
		counts := map[string]int64{}
		for _, a := range all.Items {
			for _, prefix := range prefixes {
				if strings.HasPrefix(a.Spec.Pool, prefix+"-") {
					counts[prefix]++
				}
			}
		}
		for _, prefix := range prefixes {
			if counts[prefix] != want {
				return fmt.Errorf("%v, want %d", counts, want)
			}
		}
		return nil
	})
	for _, prefix := range prefixes {
		b.size(prefix, want)
	}
}
