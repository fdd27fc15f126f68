// SPDX-License-Identifier: Apache-2.0

// multihome-controller makes NetworkAttachmentDefinitions of SpiderMultusConfigs, finds the
// cluster's CIDRs for the SpiderCoordinator, and serves the webhook that checks both. Several
// may run; one leads, and all serve the webhook.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/go-logr/logr"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/admission"
	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/defaults"
	"github.com/multihome/multihome/controlplane/networks"
)

// The lease of the leader. Another one leads at the latest this long after a leader is
// gone: lease + retry. A leader that stops gives it back.
const (
	lease = 8 * time.Second
	renew = 6 * time.Second
	retry = time.Second
)

// service is the Service in front of the webhook, in the controller's namespace.
const service = "multihome-webhook"

// options are what the flags set.
type options struct {
	namespace, metrics, health string
	webhook                    int
}

func main() {
	var o options
	flag.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the `namespace` of the lease; default: $POD_NAMESPACE")
	flag.StringVar(&o.metrics, "metrics-address", ":8080", "where metrics are served, as `host:port`; 0: nowhere")
	flag.StringVar(&o.health, "health-address", ":8081", "where /healthz and /readyz are served, as `host:port`; 0: nowhere")
	flag.IntVar(&o.webhook, "webhook-port", 9443, "the `port` of the webhook; 0: none")
	var level slog.Level
	flag.TextVar(&level, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	flag.Parse()
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	ctrl.SetLogger(log)
	if err := run(ctrl.SetupSignalHandler(), o, log); err != nil {
		log.Error(err, "stopped")
		os.Exit(1)
	}
}

// run runs the controller until ctx ends.
func run(ctx context.Context, o options, log logr.Logger) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q: want no arguments", flag.Arg(0))
	}
	if o.namespace == "" {
		return errors.New("--namespace: want the namespace of the lease, or the variable POD_NAMESPACE")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v2beta1.AddToScheme, nad.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		Logger:                        log,
		Metrics:                       metricsserver.Options{BindAddress: o.metrics},
		HealthProbeBindAddress:        o.health,
		LeaderElection:                true,
		LeaderElectionID:              "multihome-controller",
		LeaderElectionNamespace:       o.namespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 ptr.To(lease),
		RenewDeadline:                 ptr.To(renew),
		RetryPeriod:                   ptr.To(retry),
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&v2beta1.SpiderMultusConfig{}: {Transform: cache.TransformStripManagedFields()},
		}},
	})
	if err != nil {
		return err
	}
	if err := checkDefinitions(ctx, mgr.GetAPIReader()); err != nil {
		return err
	}
	if err := networks.Add(ctx, mgr); err != nil {
		return err
	}
	if err := defaults.Add(mgr); err != nil {
		return err
	}
	if o.webhook != 0 {
		if err := admission.Add(mgr, admission.Options{Namespace: o.namespace, Service: service, Port: o.webhook}); err != nil {
			return err
		}
	}
	for _, add := range []func(string, healthz.Checker) error{mgr.AddHealthzCheck, mgr.AddReadyzCheck} {
		if err := add("ping", healthz.Ping); err != nil {
			return err
		}
	}
	return mgr.Start(ctx)
}

// checkDefinitions returns an error if a kind that the controller needs isn't there, or is
// another project's of the same name: two controllers of one kind would fight.
func checkDefinitions(ctx context.Context, r client.Reader) error {
	for _, kind := range []struct{ name, whose string }{
		{"spidermultusconfigs." + v2beta1.GroupVersion.Group, ""},
		{"spidercoordinators." + v2beta1.GroupVersion.Group, ""},
		{"network-attachment-definitions." + nad.GroupVersion.Group, "Multus"},
	} {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		err := r.Get(ctx, client.ObjectKey{Name: kind.name}, crd)
		switch {
		case apierrors.IsNotFound(err):
			return fmt.Errorf("CustomResourceDefinition %s is not there: install that of %s", kind.name, cmp.Or(kind.whose, "multihome, deploy/crds"))
		case err != nil:
			return err
		case kind.whose == "" && crd.Annotations[v2beta1.CRDAnnotation] == "":
			return fmt.Errorf("CustomResourceDefinition %s has no annotation %s: it is of another installation, whose controller would fight with this one: remove that, or run without this controller",
				kind.name, v2beta1.CRDAnnotation)
		}
	}
	return nil
}
