// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// keeper keeps the Secret and the configuration as plan says. It runs in the leader.
type keeper struct {
	client client.Client // without a cache: what it decides on is what is there
	log    logr.Logger
	now    func() time.Time
	names  []string // that the server is reached by
	secret types.NamespacedName
	config string        // the name of the ValidatingWebhookConfiguration
	poke   chan struct{} // something has changed
}

// NeedLeaderElection makes the manager start the keeper in the leader alone.
func (k *keeper) NeedLeaderElection() bool { return true }

// Start looks whenever something has changed, and when it is time, until ctx ends.
func (k *keeper) Start(ctx context.Context) error {
	wait := time.Second
	for ctx.Err() == nil {
		after, err := k.keep(ctx)
		switch {
		case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
			after = 0 // somebody else wrote: look at it
		case err != nil && ctx.Err() == nil:
			k.log.Error(err, "the webhook's certificate isn't kept: objects may be taken unchecked")
			after, wait = wait, min(2*wait, time.Minute)
		default:
			wait = time.Second
		}
		timer := time.NewTimer(max(after, 10*time.Millisecond))
		select {
		case <-ctx.Done():
		case <-k.poke:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// keep reads, decides and writes once. It returns when to look again.
func (k *keeper) keep(ctx context.Context) (time.Duration, error) {
	secret := &corev1.Secret{}
	err := k.client.Get(ctx, k.secret, secret)
	switch {
	case apierrors.IsNotFound(err):
		secret = nil
	case err != nil:
		return 0, fmt.Errorf("secret %s: %w", k.secret, err)
	case secret.Data == nil:
		secret.Data = map[string][]byte{}
	}
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{}
	if err := k.client.Get(ctx, types.NamespacedName{Name: k.config}, config); client.IgnoreNotFound(err) != nil {
		return 0, fmt.Errorf("validatingwebhookconfiguration %s: %w", k.config, err)
	}
	var content map[string][]byte
	if secret != nil {
		content = secret.Data
	}
	var trusted [][]byte
	for _, w := range config.Webhooks {
		trusted = append(trusted, w.ClientConfig.CABundle)
	}
	d := plan(k.now(), content, trusted, k.names)
	if d.Issue == "" {
		if d.Bundle == nil {
			return d.After, nil
		}
		k.log.Info("writing the authorities of the webhook's certificate into caBundle", "validatingwebhookconfiguration", k.config)
		return d.After, k.trust(ctx, config, d.Bundle)
	}
	k.log.Info("making a certificate for the webhook", "secret", k.secret, "why", d.Issue)
	made, err := issue(k.now(), k.names)
	if err != nil {
		return 0, err
	}
	made[caBundle] = append(made[caBundle], bundle(k.now(), d.Keep)...)
	return 0, k.write(ctx, secret, config, made)
}

// write stores a new certificate. Where one is replaced, the configuration trusts the new
// one before any replica can serve with it; of the first one, who creates the Secret
// decides. The next look finds the Secret, and what the configuration still lacks.
func (k *keeper) write(ctx context.Context, secret *corev1.Secret, config *admissionregistrationv1.ValidatingWebhookConfiguration, made map[string][]byte) error {
	meta := metav1.ObjectMeta{Namespace: k.secret.Namespace, Name: k.secret.Name}
	if secret == nil {
		return k.client.Create(ctx, &corev1.Secret{ObjectMeta: meta, Type: corev1.SecretTypeTLS, Data: made})
	}
	if secret.Type != corev1.SecretTypeTLS || secret.Immutable != nil && *secret.Immutable {
		return k.client.Delete(ctx, secret, client.Preconditions{UID: &secret.UID, ResourceVersion: &secret.ResourceVersion})
	}
	if err := k.trust(ctx, config, made[caBundle]); err != nil {
		return err
	}
	secret.Data = made
	return k.client.Update(ctx, secret)
}

// trust writes the bundle into each webhook of the configuration, and nothing else. It
// fails with a conflict if the configuration isn't what was read any more.
func (k *keeper) trust(ctx context.Context, config *admissionregistrationv1.ValidatingWebhookConfiguration, bundle []byte) error {
	if len(config.Webhooks) == 0 {
		return nil
	}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	patch := []operation{{"replace", "/metadata/resourceVersion", config.ResourceVersion}}
	for i := range config.Webhooks {
		patch = append(patch, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	return k.client.Patch(ctx, config, client.RawPatch(types.JSONPatchType, text))
}

// events returns what wakes the keeper.
func (k *keeper) events() toolscache.ResourceEventHandler {
	wake := func() {
		select {
		case k.poke <- struct{}{}:
		default: // it is awake already
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
	}
}

// serving has the certificate that a replica serves with.
type serving struct {
	log     logr.Logger
	current atomic.Pointer[tls.Certificate]
}

// get returns the certificate, for tls.Config.
func (s *serving) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c := s.current.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the Secret has no certificate yet")
}

// events returns what takes a certificate from the Secret. A former one stays where the
// Secret goes, or has none that works: the leader makes a new one. Whether it is valid at
// the time is the API server's to say.
func (s *serving) events() toolscache.ResourceEventHandler {
	take := func(object any) {
		secret, ok := object.(*corev1.Secret)
		if !ok {
			return
		}
		cert, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if err != nil {
			s.log.Info("the Secret has no certificate that works", "secret", client.ObjectKeyFromObject(secret), "why", err.Error())
			return
		}
		s.current.Store(&cert)
	}
	return toolscache.ResourceEventHandlerFuncs{AddFunc: take, UpdateFunc: func(_, object any) { take(object) }}
}
