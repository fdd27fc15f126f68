// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/rest"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
)

// faults lets writes to our kinds fail, in turn: one before it is done, two not at all, one
// after it was done, two not at all.
type faults struct {
	http.RoundTripper
	writes atomic.Int64
}

func (f *faults) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/multihome.io/") && !strings.Contains(r.URL.Path, "/spiderpool.spidernet.io/") {
		return f.RoundTripper.RoundTrip(r)
	}
	n := f.writes.Add(1)
	if n%6 == 1 {
		return nil, errors.New("the test: the connection breaks before the write")
	}
	answer, err := f.RoundTripper.RoundTrip(r)
	if n%6 == 4 && err == nil {
		answer.Body.Close()
		return nil, errors.New("the test: the connection breaks after the write")
	}
	return answer, err
}

// TestX20: writes fail before and after they are done, and the controller is stopped in the
// middle of growing, shrinking, rolling and releasing, and another one goes on. No two pods have
// an address, each address is in one pool, and the counts are right.
func TestX20(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.40")
	b.machines()
	f := &faults{}
	start := func() func() {
		return b.start(func(c *rest.Config) {
			c.Wrap(func(rt http.RoundTripper) http.RoundTripper { f.RoundTripper = rt; return f })
		})
	}
	stop := start()
	x := b.deployment("x", 4, subnets("s", "s"))
	y := b.deployment("y", 2, subnets("s"))
	for round, n := range []int{6, 1, 5, 3} {
		b.scale(x, n)
		from := f.writes.Load()
		b.Eventually("some writes", func() error {
			if f.writes.Load() < from+int64(3+round) {
				return errors.New("not yet")
			}
			return nil
		})
		stop()
		stop = start()
		change(b, y, func(d *appsv1.Deployment) { d.Spec.Template.Labels["round"] = string(rune('a' + round)) })
	}
	b.running("x", 3)
	b.running("y", 2)
	b.size("auto-x-v4-net1", 4)
	b.size("auto-x-v4-net2", 4)
	b.size("auto-y-v4-net1", 3)
	b.counts("s", 11)
	var all v1alpha1.IPAddressList
	if err := b.C.List(t.Context(), &all); err != nil || len(all.Items) != 11 {
		t.Errorf("%v, %d IPAddresses, want 11", err, len(all.Items))
	}
	for _, o := range []*appsv1.Deployment{x, y} {
		b.Delete(o)
	}
	b.pools(x)
	b.counts("s", 0)
}
