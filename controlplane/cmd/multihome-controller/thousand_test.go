// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// forgetful returns a kubeconfig of a way to the API server on which one write of n is done
// and then answered with a timeout. It counts those.
func forgetful(t *testing.T, n int, lost *atomic.Int64) string {
	t.Helper()
	config := testcluster.Config(t)
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     transport, // it has the administrator's token
		FlushInterval: -1,
		ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		ModifyResponse: func(r *http.Response) error {
			ours := strings.Contains(r.Request.URL.Path, "/"+v2beta1.GroupVersion.Group+"/") || strings.Contains(r.Request.URL.Path, "/"+v1alpha1.GroupVersion.Group+"/")
			if ours && r.Request.Method != http.MethodGet && r.StatusCode < 300 && rand.IntN(n) == 0 {
				lost.Add(1)
				r.StatusCode, r.Status = http.StatusGatewayTimeout, ""
			}
			return nil
		},
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "c", "cluster": {"server": %q}}],
		"contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}`, server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var thousand = flag.Int("thousand", 120, "how many pods TestThousand has; 1000 is what it is called for, and takes minutes")

// TestThousand has many pods at once, of two NICs each, and exactly as many addresses. Of the
// two controllers the leader is killed 2 s after each time that it got the lease, and another
// one is started; one write of 20 times out after it was done. All pods get their addresses,
// no address is given twice, and when the pods are gone and their nodes have said so, nothing
// is left. The time is printed.
func TestThousand(t *testing.T) {
	pods := *thousand
	c := testcluster.Client(t)
	ns := testcluster.Namespace(t, c)
	ctx := t.Context()
	create := func(o client.Object) {
		t.Helper()
		if err := c.Create(ctx, o); err != nil {
			t.Error(err)
		}
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	pool := &v2beta1.SpiderIPPool{ObjectMeta: metav1.ObjectMeta{Name: ns}, Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{
		Subnet: "10.6.0.0/16", IPs: []string{fmt.Sprintf("10.6.1.0-10.6.%d.%d", 1+(2*pods-1)/256, (2*pods-1)%256)}, Network: ns,
	}}}
	create(node)
	create(pool)
	create(&nad.NetworkAttachmentDefinition{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "net"}, Spec: nad.Spec{
		Config: fmt.Sprintf(`{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"macvlan","master":"eth0","ipam":{"type":"spiderpool","default_ipv4_ippool":[%q]}}]}`, ns),
	}})
	var lost atomic.Int64
	kubeconfig := forgetful(t, 20, &lost)
	killed := killLeaders(t, ns, kubeconfig)

	each := func(n int, f func(i int)) {
		var all sync.WaitGroup
		next := make(chan int)
		for range 16 {
			all.Go(func() {
				for i := range next {
					f(i)
				}
			})
		}
		for i := range n {
			next <- i
		}
		close(next)
		all.Wait()
	}
	claims := func() []v2beta1.SpiderEndpoint {
		var list v2beta1.SpiderEndpointList
		if err := c.List(ctx, &list, client.InNamespace(ns)); err != nil {
			t.Fatal(err)
		}
		return list.Items
	}
	began := time.Now()
	each(pods, func(i int) {
		create(&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("p", i), Annotations: map[string]string{"k8s.v1.cni.cncf.io/networks": "net,net"}},
			Spec: corev1.PodSpec{NodeName: ns, Containers: []corev1.Container{{Name: "c", Image: "i"}},
				TerminationGracePeriodSeconds: ptr.To[int64](0), AutomountServiceAccountToken: ptr.To(false)},
		})
	})
	ready := 0
	until(t, func() string {
		ready = 0
		for _, claim := range claims() {
			if claim.Status.Phase == v2beta1.Allocated {
				ready++
			}
		}
		if ready == pods {
			return ""
		}
		return fmt.Sprintf("%d of %d pods are ready", ready, pods)
	})
	t.Logf("all ready after %s, %d leaders killed, %d answers lost", time.Since(began).Round(time.Second), killed.Load(), lost.Load())
	holder := map[string]string{}
	for _, claim := range claims() {
		if n := len(claim.Status.Current.IPs); n != 2 {
			t.Errorf("pod %s has %d NICs with addresses", claim.Name, n)
		}
		for _, n := range claim.Status.Current.IPs {
			if other := holder[n.IPv4]; other != "" || n.IPv4 == "" {
				t.Errorf("pods %s and %s have %q", claim.Name, other, n.IPv4)
			}
			holder[n.IPv4] = claim.Name
		}
	}
	if killed.Load() == 0 || lost.Load() == 0 {
		t.Errorf("%d leaders were killed and %d answers lost, want some", killed.Load(), lost.Load())
	}

	each(pods, func(i int) {
		if err := c.Delete(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: fmt.Sprint("p", i)}}); err != nil {
			t.Error(err)
		}
	})
	until(t, func() string {
		all := claims()
		each(len(all), func(i int) {
			if all[i].Status.Withdrawn != nil {
				return
			}
			all[i].Status.Withdrawn = &v2beta1.Withdrawn{BootID: "boot"}
			if err := c.Status().Update(ctx, &all[i]); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
				t.Error(err)
			}
		})
		var held v1alpha1.IPAddressList
		if err := c.List(ctx, &held, client.MatchingFields{"spec.pool": ns}); err != nil {
			t.Fatal(err)
		}
		if len(all)+len(held.Items) == 0 {
			return ""
		}
		return fmt.Sprintf("%d claims and %d addresses are left", len(all), len(held.Items))
	})
	t.Logf("nothing left after %s, %d leaders killed, %d answers lost", time.Since(began).Round(time.Second), killed.Load(), lost.Load())
	for _, o := range []client.Object{node, pool} {
		if err := c.Delete(ctx, o); err != nil {
			t.Error(err)
		}
	}
}

// until tries until f has nothing to say, for an hour: on a busy machine each leader gets little done.
func until(t *testing.T, f func() string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if said = f(); said == "" {
			return
		}
	}
	t.Fatal(said)
}

// killLeaders runs two controllers, kills the leader 2 s after it got the lease, and starts
// another one, until the test ends. It counts those killed.
func killLeaders(t *testing.T, namespace, kubeconfig string) *atomic.Int64 {
	t.Helper()
	var killed atomic.Int64
	two := []*process{start(t, namespace, "--kubeconfig", kubeconfig), start(t, namespace, "--kubeconfig", kubeconfig)}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	t.Cleanup(func() { cancel(); done.Wait() })
	done.Go(func() {
		for ctx.Err() == nil {
			for i, p := range two {
				if !p.logged(leads) {
					continue
				}
				time.Sleep(2 * time.Second)
				if ctx.Err() != nil {
					return
				}
				_ = p.Process.Kill()
				_ = p.Wait()
				killed.Add(1)
				two[i] = start(t, namespace, "--kubeconfig", kubeconfig)
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	return &killed
}
