// SPDX-License-Identifier: Apache-2.0

package networks_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/networks"
	"github.com/multihome/multihome/pkg/netconf"
)

var errDead = errors.New("this controller is dead")

// TestKilled kills a controller at each of its writes, before it and after it was done, and
// starts another one: the end is the same, and no NetworkAttachmentDefinition was made
// twice. A story has a network made, edited, renamed, and one taken over.
func TestKilled(t *testing.T) {
	deaths := 0
	for _, after := range []bool{false, true} {
		for n := int64(1); ; n++ {
			alive := story(t, fmt.Sprintf("after=%t write=%d", after, n), func(w *wire) {
				w.disturb = func(_ *http.Request, k int64, do func() (*http.Response, error)) (*http.Response, error) {
					switch {
					case k < n:
						return do()
					case k == n && after:
						if r, err := do(); err == nil {
							_ = r.Body.Close()
						}
					}
					return nil, errDead
				}
			}, n)
			if alive {
				break
			}
			deaths++
		}
	}
	if deaths < 10 {
		t.Errorf("the controller was killed only %d times", deaths)
	}
	t.Logf("killed %d times", deaths)
}

// story runs a controller that is disturbed, then one that isn't. It reports whether the
// first one made fewer writes than limit, so that it was never disturbed.
func story(t *testing.T, name string, disturb func(*wire), limit int64) (alive bool) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		b := newBench(t)
		old := &nad.NetworkAttachmentDefinition{
			ObjectMeta: metav1.ObjectMeta{Namespace: b.ns, Name: "old"}, Spec: nad.Spec{Config: `{"type":"ptp"}`},
		}
		b.create(old)
		plain, renamed, taking, edited := b.config("plain", "ens192"), b.wanting("renamed", "first", "ens192"), b.config("old", "ens192"), b.config("edited", "ens192")

		// What was made before, by a controller that nothing happens to.
		stop := b.start(&wire{})
		b.create(renamed)
		b.create(edited)
		b.has("first", renamed)
		uid := b.has("edited", edited).UID
		b.says(renamed, "Written")
		b.says(edited, "Written")
		stop()

		b.change(renamed, func() { renamed.Annotations[netconf.NameAnnotation] = "second" })
		b.change(edited, func() { edited.Spec.Macvlan.Master = []string{"ens224"} })
		b.create(plain)
		b.create(taking)
		w := &wire{}
		disturb(w)
		stop = b.start(w)
		b.eventually("the end, or a death", func() error {
			if w.writes.Load() >= limit || b.ended() {
				return nil
			}
			return errNotYet
		})
		alive = w.writes.Load() < limit
		stop()

		b.start(&wire{})
		for name, c := range map[string]*v2beta1.SpiderMultusConfig{"plain": plain, "second": renamed, "old": taking, "edited": edited} {
			b.has(name, c)
			b.says(c, "Written")
		}
		b.eventually("the former name gone", func() error {
			if _, err := b.nad("first"); !apierrors.IsNotFound(err) {
				return errNotYet
			}
			return nil
		})
		if n := b.has("edited", edited); n.UID != uid {
			t.Error("the edited one was made a second time")
		}
		if n := b.has("old", taking); n.UID != old.UID || n.Annotations[networks.FormerConfig] != old.Spec.Config {
			t.Errorf("taken over: %v", n)
		}
	})
	return alive || t.Failed()
}

// TestTwoLeaders has two controllers that both believe they lead, and an API server whose
// answers to writes are late, refused for a conflict, or lost after the write was done, in a
// third of all cases. Users create, edit, rename and delete. At the end each
// network is as its config says, and no more is written.
func TestTwoLeaders(t *testing.T) {
	b := newBench(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	wires := []*wire{{}, {}}
	for _, w := range wires {
		w.disturb = func(_ *http.Request, _ int64, do func() (*http.Response, error)) (*http.Response, error) {
			switch rand.IntN(9) {
			case 0:
				time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
			case 1:
				return refusal(metav1.Status{Code: http.StatusConflict, Reason: metav1.StatusReasonConflict}), nil
			case 2:
				if r, err := do(); err == nil {
					_ = r.Body.Close()
				}
				return nil, errors.New("the answer is lost")
			}
			return do()
		}
		b.start(w)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	configs := map[string]*v2beta1.SpiderMultusConfig{}
	for range 150 {
		name := fmt.Sprintf("net-%d", r.IntN(8))
		c := configs[name]
		switch {
		case c == nil:
			c = b.wanting(name, fmt.Sprintf("nad-%d", r.IntN(6)), "ens192")
			b.create(c)
			configs[name] = c
		case r.IntN(4) == 0:
			b.delete(c)
			delete(configs, name)
		default:
			b.change(c, func() {
				c.Annotations[netconf.NameAnnotation] = fmt.Sprintf("nad-%d", r.IntN(6))
				c.Spec.Macvlan.Master = []string{fmt.Sprintf("ens%d", r.IntN(100))}
			})
		}
	}
	b.quiet(wires...)
	wanted := map[string][]*v2beta1.SpiderMultusConfig{}
	for _, c := range configs {
		wanted[networks.NameOf(c)] = append(wanted[networks.NameOf(c)], c)
	}
	for i := range 6 {
		name := fmt.Sprintf("nad-%d", i)
		n, err := b.nad(name)
		if len(wanted[name]) == 0 {
			if !apierrors.IsNotFound(err) {
				t.Errorf("nobody wants %s: %v %v", name, n, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s is wanted: %v", name, err)
			continue
		}
		holders := 0
		for _, c := range wanted[name] {
			if metav1.IsControlledBy(n, c) {
				holders++
				b.has(name, c)
				b.says(c, "Written")
			} else {
				b.says(c, "Conflict")
			}
		}
		if holders != 1 {
			t.Errorf("%s has %d of those who want it: %v", name, holders, n.OwnerReferences)
		}
	}
}

// refusal is an answer of the API server.
func refusal(status metav1.Status) *http.Response {
	status.TypeMeta, status.Status = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, metav1.StatusFailure
	body, err := json.Marshal(status)
	if err != nil {
		panic(err)
	}
	return &http.Response{
		StatusCode: int(status.Code), Status: http.StatusText(int(status.Code)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(body)),
	}
}
