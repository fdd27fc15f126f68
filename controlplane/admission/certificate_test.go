// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/testcluster"
)

var (
	day   = 24 * time.Hour
	start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	names = []string{"webhook.ns.svc"}
)

func made(t testing.TB, now time.Time, names []string) map[string][]byte {
	t.Helper()
	content, err := issue(now, names)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// with returns the content with one entry changed.
func with(content map[string][]byte, key string, value []byte) map[string][]byte {
	out := maps.Clone(content)
	out[key] = value
	return out
}

func TestPlan(t *testing.T) {
	content := made(t, start, names)
	former := made(t, start.Add(-40*day), names)
	both := with(content, caBundle, append(bytes.Clone(content[caBundle]), former[caBundle]...))
	other := made(t, start, []string{"other.ns.svc"})
	for _, tt := range []struct {
		name    string
		at      time.Duration // since the certificate was made
		content map[string][]byte
		trusted [][]byte
		issue   string // a part of why
		keep    int
		bundle  []byte
		after   time.Duration
	}{
		{"no Secret", 0, nil, nil, "there is no Secret", 0, nil, 0},
		{"an empty Secret", 0, map[string][]byte{}, nil, "tls.crt or tls.key", 0, nil, 0},
		{"all is well", 0, content, [][]byte{content[caBundle], content[caBundle]}, "", 0, nil, look},
		{"no configuration", 0, content, nil, "", 0, nil, look},
		{"nothing is trusted yet", 0, content, [][]byte{nil, nil}, "", 0, content[caBundle], look},
		{"one of two trusts another", 0, content, [][]byte{content[caBundle], []byte("x")}, "", 0, content[caBundle], look},
		{"a second before renewal", 60*day - time.Second, content, [][]byte{content[caBundle]}, "", 0, nil, time.Second},
		{"renewal", 60 * day, content, [][]byte{content[caBundle]}, "two thirds", 1, nil, 0},
		{"renewal while a former authority is trusted", 60 * day, both, nil, "two thirds", 2, nil, 0},
		{"two authorities", 0, both, [][]byte{both[caBundle]}, "", 0, nil, look},
		{"the former authority ends", 51 * day, both, [][]byte{both[caBundle]}, "", 0, content[caBundle], look},
		{"the certificate has ended", 91 * day, content, nil, "expired", 0, nil, 0},
		{"the clock is before the certificate", -2 * time.Hour, content, nil, "expired or is not yet valid", 0, nil, 0},
		{"another name", 0, other, nil, "webhook.ns.svc", 0, nil, 0},
		{"another key", 0, with(content, corev1.TLSPrivateKeyKey, former[corev1.TLSPrivateKeyKey]), nil, "private key does not match", 0, nil, 0},
		{"another authority", 0, with(content, caBundle, former[caBundle]), nil, "signed by unknown authority", 0, nil, 0},
		{"no authority", 0, with(content, caBundle, nil), nil, "ca.crt: no certificate", 0, nil, 0},
		{"damaged authorities", 0, with(content, caBundle, append(bytes.Clone(content[caBundle]), 'x')), nil, "want at most 4 certificates in PEM", 0, nil, 0},
		{"too many authorities", 0, with(content, caBundle, bytes.Repeat(content[caBundle], 5)), nil, "want at most 4", 0, nil, 0},
		{"a foreign authority", 0, with(content, caBundle, append(bytes.Clone(content[caBundle]), content[corev1.TLSCertKey]...)), nil, "want self-signed certificates of multihome-webhook", 0, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := plan(start.Add(tt.at), tt.content, tt.trusted, names)
			if (d.Issue == "") != (tt.issue == "") || !strings.Contains(d.Issue, tt.issue) {
				t.Errorf("issue %q: want %q", d.Issue, tt.issue)
			}
			if len(d.Keep) != tt.keep || !bytes.Equal(d.Bundle, tt.bundle) || d.After != tt.after {
				t.Errorf("keep %d, bundle %d bytes, after %s: want %d, %d, %s", len(d.Keep), len(d.Bundle), d.After, tt.keep, len(tt.bundle), tt.after)
			}
		})
	}
}

// clock is one that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// state is what the API server has of the certificate.
type state struct {
	secret corev1.Secret
	config admissionregistrationv1.ValidatingWebhookConfiguration
}

func (c *cluster) state(t testing.TB) (s state) {
	t.Helper()
	if err := c.Get(t.Context(), types.NamespacedName{Namespace: c.namespace, Name: Secret}, &s.secret); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), types.NamespacedName{Name: Config + "-" + c.namespace}, &s.config); err != nil {
		t.Fatal(err)
	}
	return s
}

// trusts reports whether each webhook of the configuration trusts the certificate.
func (s state) trusts(now time.Time, name string) bool {
	cert, err := tls.X509KeyPair(s.secret.Data[corev1.TLSCertKey], s.secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return false
	}
	for _, w := range s.config.Webhooks {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(w.ClientConfig.CABundle)
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
			return false
		}
	}
	return true
}

// bundled reports whether the configuration trusts exactly what the Secret says.
func (s state) bundled() bool {
	return !slices.ContainsFunc(s.config.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) bool {
		return !bytes.Equal(w.ClientConfig.CABundle, s.secret.Data[caBundle])
	}) && len(s.secret.Data[caBundle]) > 0
}

// presents returns the certificate that a replica serves with, nil if it serves with none
// that the configuration trusts.
func (c *cluster) presents(t testing.TB, r *replica, now time.Time) []byte {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.state(t).config.Webhooks[0].ClientConfig.CABundle)
	conn, err := tls.Dial("tcp", r.address, &tls.Config{RootCAs: roots, ServerName: "multihome-webhook." + c.namespace + ".svc", Time: func() time.Time { return now }})
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	return encode("CERTIFICATE", conn.ConnectionState().PeerCertificates[0].Raw)
}

// settled waits until a replica serves with what the Secret has, and returns that.
func (c *cluster) settled(t testing.TB, r *replica, now time.Time) state {
	t.Helper()
	var s state
	until(t, "the replica serves with what the Secret has", func() bool {
		s = c.state(t)
		return s.bundled() && bytes.Equal(c.presents(t, r, now), s.secret.Data[corev1.TLSCertKey])
	})
	return s
}

// TestCertificate follows a certificate from its first start on.
func TestCertificate(t *testing.T) {
	c := newCluster(t)
	at := &clock{at: time.Now()}
	r := c.serve(t, func(_ *ctrl.Options, o *Options) { o.now = at.now })
	if c.presentsAny(r) {
		t.Error("a certificate before there is a configuration that trusts it")
	}
	c.webhook(t, r.address)
	first := c.settled(t, r, at.now())

	t.Run("caBundle overwritten, back within a second", func(t *testing.T) {
		s := c.state(t)
		s.config.Webhooks[1].ClientConfig.CABundle = nil
		s.config.Webhooks[0].ClientConfig.CABundle = made(t, at.now(), names)[caBundle]
		s.config.Labels = map[string]string{"a": "b"}
		begin := time.Now()
		if err := c.Update(t.Context(), &s.config); err != nil {
			t.Fatal(err)
		}
		until(t, "caBundle back", func() bool { s = c.state(t); return s.bundled() })
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s: want at most 1s", took)
		}
		if s.config.Labels["a"] != "b" || s.secret.ResourceVersion != first.secret.ResourceVersion {
			t.Error("more than caBundle was changed")
		}
	})
	t.Run("no write while nothing changes", func(t *testing.T) {
		before := c.state(t)
		for range 10 {
			k := c.keeper(t, at.now, nil)
			if after, err := k.keep(t.Context()); err != nil || after == 0 {
				t.Fatalf("%s, %v", after, err)
			}
		}
		if now := c.state(t); now.secret.ResourceVersion != before.secret.ResourceVersion || now.config.ResourceVersion != before.config.ResourceVersion {
			t.Error("something was written")
		}
	})
	t.Run("Secret deleted", func(t *testing.T) {
		if err := c.Delete(t.Context(), &first.secret); err != nil {
			t.Fatal(err)
		}
		until(t, "a new Secret", func() bool { s := c.state(t); return s.secret.UID != "" && s.secret.UID != first.secret.UID })
		c.settled(t, r, at.now())
	})
	t.Run("Secret damaged", func(t *testing.T) {
		s := c.state(t)
		s.secret.Data[corev1.TLSCertKey] = []byte("x")
		if err := c.Update(t.Context(), &s.secret); err != nil {
			t.Fatal(err)
		}
		until(t, "a certificate", func() bool { s = c.state(t); return s.trusts(at.now(), "127.0.0.1") })
		c.settled(t, r, at.now())
	})
	t.Run("renewal", func(t *testing.T) {
		before := c.settled(t, r, at.now())
		at.move(61 * day)
		c.touch(t)
		until(t, "a new certificate", func() bool {
			return !bytes.Equal(c.state(t).secret.Data[corev1.TLSCertKey], before.secret.Data[corev1.TLSCertKey])
		})
		s := c.settled(t, r, at.now())
		if !bytes.HasSuffix(s.secret.Data[caBundle], before.secret.Data[caBundle]) {
			t.Error("the former authority isn't trusted any more")
		}
		at.move(31 * day)
		c.touch(t)
		until(t, "the former authority gone", func() bool {
			return bytes.Equal(append(bytes.Clone(c.state(t).config.Webhooks[1].ClientConfig.CABundle), before.secret.Data[caBundle]...), s.secret.Data[caBundle])
		})
		if !c.state(t).trusts(at.now(), "127.0.0.1") {
			t.Error("the new authority isn't trusted")
		}
	})
}

// TestForeignSecret starts where somebody else's Secret has the name.
func TestForeignSecret(t *testing.T) {
	c := newCluster(t)
	immutable := true
	o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: Secret}, Immutable: &immutable, Data: map[string][]byte{"a": nil}}
	if err := c.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	r := c.serve(t, nil)
	c.webhook(t, r.address)
	if s := c.settled(t, r, time.Now()); s.secret.UID == o.UID {
		t.Error("it is still there")
	}
}

// presentsAny reports whether a replica serves with any certificate.
func (c *cluster) presentsAny(r *replica) bool {
	conn, err := tls.Dial("tcp", r.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// touch changes the configuration, so that the keeper looks at the clock.
func (c *cluster) touch(t testing.TB) {
	t.Helper()
	s := c.state(t)
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"labels": {"touched": "`+time.Now().Format("150405.000000")+`"}}}`))
	if err := c.Patch(t.Context(), &s.config, patch); err != nil {
		t.Fatal(err)
	}
}

// keeper returns one that runs when the test says so.
func (c *cluster) keeper(t testing.TB, now func() time.Time, through client.Client) *keeper {
	t.Helper()
	if through == nil {
		through = c
	}
	return &keeper{
		client: through, log: testr.NewWithInterface(t, testr.Options{}), now: now,
		names:  []string{"multihome-webhook." + c.namespace + ".svc", "127.0.0.1"},
		secret: types.NamespacedName{Namespace: c.namespace, Name: Secret}, config: Config + "-" + c.namespace,
	}
}

// TestReplicas starts two replicas at once: there is one Secret, and both serve with it.
// Then the one that doesn't lead serves with what the other made anew.
func TestReplicas(t *testing.T) {
	t.Run("two that lead", func(t *testing.T) {
		c := newCluster(t)
		var replicas []*replica
		for range 3 {
			replicas = append(replicas, c.serve(t, nil))
		}
		c.webhook(t, replicas[0].address)
		s := c.settled(t, replicas[0], time.Now())
		for _, r := range replicas {
			if now := c.settled(t, r, time.Now()); now.secret.ResourceVersion != s.secret.ResourceVersion {
				t.Error("the Secret was written twice")
			}
		}
	})
	t.Run("one that doesn't lead", func(t *testing.T) {
		c := newCluster(t)
		election := func(m *ctrl.Options, _ *Options) {
			m.LeaderElection, m.LeaderElectionID, m.LeaderElectionNamespace, m.LeaderElectionReleaseOnCancel = true, "test", c.namespace, true
		}
		leader := c.serve(t, election)
		c.webhook(t, leader.address)
		s := c.settled(t, leader, time.Now())
		var decides atomic.Bool
		follower := c.serve(t, func(m *ctrl.Options, o *Options) {
			election(m, o)
			o.now = func() time.Time { decides.Store(true); return time.Now() }
		})
		c.settled(t, follower, time.Now())
		if err := c.Delete(t.Context(), &s.secret); err != nil {
			t.Fatal(err)
		}
		until(t, "another Secret", func() bool { uid := c.state(t).secret.UID; return uid != "" && uid != s.secret.UID })
		c.settled(t, follower, time.Now())
		c.settled(t, leader, time.Now())
		if decides.Load() {
			t.Error("the replica that doesn't lead decides about the certificate")
		}
	})
}

// TestStaleWrites changes an object after the keeper has read it: its write is refused.
func TestStaleWrites(t *testing.T) {
	for _, of := range []string{"Secret", "foreign Secret", "configuration"} {
		t.Run(of, func(t *testing.T) {
			c := newCluster(t)
			c.webhook(t, "127.0.0.1:1")
			at := &clock{at: time.Now()}
			if of == "foreign Secret" {
				immutable := true
				o := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: Secret}, Immutable: &immutable}
				c.make(t, o)
				if _, err := c.keeper(t, at.now, c.afterReading(true)).keep(t.Context()); !apierrors.IsConflict(err) {
					t.Errorf("%v: want a conflict", err)
				}
				return
			}
			for range 2 {
				if _, err := c.keeper(t, at.now, nil).keep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			at.move(61 * day)
			patched := c.state(t)
			if _, err := c.keeper(t, at.now, c.afterReading(of == "Secret")).keep(t.Context()); !apierrors.IsConflict(err) {
				t.Errorf("%v: want a conflict", err)
			}
			if now := c.state(t); !bytes.Equal(now.secret.Data[corev1.TLSCertKey], patched.secret.Data[corev1.TLSCertKey]) {
				t.Error("the Secret was written")
			}
		})
	}
}

// afterReading returns a client that changes the Secret, or the configuration, each time
// that it has read it.
func (c *cluster) afterReading(secret bool) client.Client {
	patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata": {"labels": {"user": "was-here"}}}`))
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			if err := c.Get(ctx, key, o, opts...); err != nil {
				return err
			}
			if _, is := o.(*corev1.Secret); is == secret {
				return c.Patch(ctx, o.DeepCopyObject().(client.Object), patch)
			}
			return nil
		},
	})
}

// TestWithoutPermissions runs as somebody who may do nothing: the manager goes on.
func TestWithoutPermissions(t *testing.T) {
	c := newCluster(t)
	config := testcluster.Config(t)
	config.Impersonate.UserName = "nobody"
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: testcluster.Scheme(t), Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Namespace: c.namespace, Service: "multihome-webhook", Port: freePort(t), host: "127.0.0.1"}
	if err := Add(mgr, o); err != nil {
		t.Fatal(err)
	}
	r := c.start(t, mgr, o)
	<-mgr.Elected()
	time.Sleep(time.Second)
	if c.presentsAny(r) {
		t.Error("it serves with a certificate")
	}
	r.stop() // fails if the manager has ended with an error
}

// TestInterruptedWrites stops the keeper at each of its writes: before it, and after it
// was done without an answer. What the Secret has stays trusted all the time, and the end
// is the same.
func TestInterruptedWrites(t *testing.T) {
	died := errors.New("died")
	for _, done := range []bool{false, true} {
		for nth := range 2 {
			t.Run(map[bool]string{false: "before write ", true: "after write "}[done]+string(rune('1'+nth)), func(t *testing.T) {
				c := newCluster(t)
				c.webhook(t, "127.0.0.1:1")
				at := &clock{at: time.Now()}
				writes, armed := 0, false
				cut := func(write func() error) error {
					if writes++; armed && writes == nth+1 {
						if done {
							if err := write(); err != nil {
								return err
							}
						}
						return died
					}
					return write()
				}
				through := interceptor.NewClient(c, interceptor.Funcs{
					Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
						return cut(func() error { return c.Create(ctx, o, opts...) })
					},
					Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
						return cut(func() error { return c.Update(ctx, o, opts...) })
					},
					Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
						return cut(func() error { return c.Patch(ctx, o, p, opts...) })
					},
				})
				k := c.keeper(t, at.now, through)
				steady := func() {
					t.Helper()
					for range 10 {
						after, err := k.keep(t.Context())
						if s := c.state(t); armed && !s.trusts(at.now(), "127.0.0.1") {
							t.Error("the certificate isn't trusted")
						}
						if err == nil && after > 0 {
							return
						}
						if err != nil && !errors.Is(err, died) {
							t.Fatal(err)
						}
					}
					t.Fatal("it doesn't come to rest")
				}
				steady()
				steady()
				first := c.state(t)
				at.move(61 * day)
				writes, armed = 0, true
				steady()
				steady()
				if writes <= nth {
					t.Fatalf("there were %d writes", writes)
				}
				s := c.state(t)
				if !s.bundled() || bytes.Equal(s.secret.Data[corev1.TLSCertKey], first.secret.Data[corev1.TLSCertKey]) {
					t.Error("no new certificate, or one that isn't trusted")
				}
			})
		}
	}
}
