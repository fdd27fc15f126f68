// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// Names of the objects in deploy/admission.
const (
	Path   = "/validate" // of the webhook's URL
	Secret = "multihome-webhook"
	Config = "multihome" // the ValidatingWebhookConfiguration
)

// Options say how the API server reaches the webhook.
type Options struct {
	Namespace string // of the controller, its Service and its Secret
	Service   string // in front of the replicas
	Port      int    // that they listen on; default 9443

	config string           // default Config
	host   string           // that the server listens on, and another name of it; default all
	now    func() time.Time // default time.Now
}

// Add lets a manager serve the webhook in every replica, and keep its certificate in the
// leader. It returns an error if the API server doesn't know the two kinds, or doesn't
// answer. Without the permissions that it needs the webhook isn't served: the manager
// goes on, and the log says what is missing.
func Add(mgr ctrl.Manager, o Options) error {
	if o.config == "" {
		o.config = Config
	}
	if o.now == nil {
		o.now = time.Now
	}
	log := mgr.GetLogger().WithName("webhook")
	names := []string{o.Service + "." + o.Namespace + ".svc"} // as the API server calls a Service
	if o.host != "" {
		names = append(names, o.host)
	}
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return err
	}
	live, err := client.New(mgr.GetConfig(), client.Options{Scheme: scheme, HTTPClient: mgr.GetHTTPClient()})
	if err != nil {
		return fmt.Errorf("webhook: client: %w", err)
	}
	k := &keeper{
		client: live, log: log, now: o.now, names: names, config: o.config,
		secret: types.NamespacedName{Namespace: o.Namespace, Name: Secret},
		poke:   make(chan struct{}, 1),
	}
	s := &serving{log: log}
	watched, err := watch(mgr, scheme, o, k, s)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	server := webhook.NewServer(webhook.Options{Host: o.host, Port: o.Port, TLSOpts: []func(*tls.Config){
		func(c *tls.Config) { c.GetCertificate, c.MinVersion = s.get, tls.VersionTLS12 },
	}})
	server.Register(Path, &admission.Webhook{Handler: &handler{reader: mgr.GetClient()}})
	for _, r := range []manager.Runnable{watched, server, k} {
		if err := mgr.Add(r); err != nil {
			return fmt.Errorf("webhook: %w", err)
		}
	}
	return nil
}

// everywhere runs in every replica. The manager doesn't wait for it, as it does for caches:
// the controller works without a webhook.
type everywhere func(ctx context.Context) error

func (e everywhere) Start(ctx context.Context) error { return e(ctx) }
func (everywhere) NeedLeaderElection() bool          { return false }

// watch tells keeper and server of changes of the two objects.
func watch(mgr ctrl.Manager, scheme *runtime.Scheme, o Options, k *keeper, s *serving) (everywhere, error) {
	named := func(name string) fields.Selector { return fields.OneTermEqualSelector("metadata.name", name) }
	objects, err := cache.New(mgr.GetConfig(), cache.Options{
		Scheme: scheme, HTTPClient: mgr.GetHTTPClient(), Mapper: mgr.GetRESTMapper(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{o.Namespace: {FieldSelector: named(Secret)}}},
			&admissionregistrationv1.ValidatingWebhookConfiguration{}: {Field: named(o.config)},
		},
	})
	if err != nil {
		return nil, err
	}
	for _, of := range []struct {
		object   client.Object
		handlers []toolscache.ResourceEventHandler
	}{
		{&corev1.Secret{}, []toolscache.ResourceEventHandler{s.events(), k.events()}},
		{&admissionregistrationv1.ValidatingWebhookConfiguration{}, []toolscache.ResourceEventHandler{k.events()}},
	} {
		informer, err := objects.GetInformer(context.Background(), of.object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, err
		}
		for _, h := range of.handlers {
			if _, err := informer.AddEventHandler(h); err != nil {
				return nil, err
			}
		}
	}
	return objects.Start, nil
}
