// SPDX-License-Identifier: Apache-2.0

// multihome-controller makes NetworkAttachmentDefinitions of SpiderMultusConfigs, finds the
// cluster's CIDRs for the SpiderCoordinator, looks after pools of addresses, and serves the
// webhook that checks all these. Several may run; one leads, and all serve the webhook.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/admission"
	"github.com/multihome/multihome/controlplane/api/nad"
	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/controlplane/defaults"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/networks"
	"github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/controlplane/staticpods"
	"github.com/multihome/multihome/pkg/ipam"
)

// The lease of the leader. Another one leads at the latest this long after a leader is
// gone: lease + retry. A leader that stops gives it back.
const (
	lease = 8 * time.Second
	renew = lease - addresses.Fresh
	retry = time.Second
)

// service is the Service in front of the webhook, in the controller's namespace.
const service = "multihome-webhook"

// options are what the flags set.
type options struct {
	namespace, metrics, health string
	webhook                    int
	multus                     ipam.Settings
	applications               applications.Options
}

func main() {
	var o options
	flag.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the `namespace` of the lease; default: $POD_NAMESPACE")
	flag.StringVar(&o.metrics, "metrics-address", ":8080", "where metrics are served, as `host:port`; 0: nowhere")
	flag.StringVar(&o.health, "health-address", ":8081", "where /healthz and /readyz are served, as `host:port`; 0: nowhere")
	flag.IntVar(&o.webhook, "webhook-port", 9443, "the `port` of the webhook; 0: none")
	flag.StringVar(&o.multus.MultusNamespace, "multus-namespace", "kube-system", "Multus' `namespace`: multusNamespace of its configuration on the nodes")
	flag.StringVar(&o.multus.ClusterNetwork, "cluster-network", "", "clusterNetwork of Multus' configuration on the nodes: the `network` of all pods' first NIC, if addresses are wanted for it")
	flag.Func("default-networks", "defaultNetworks of Multus' configuration on the nodes: further `networks` of all pods, with commas between them", func(list string) error {
		o.multus.DefaultNetworks = strings.Split(list, ",")
		return nil
	})
	o.applications.Number = ipam.Number{N: 1, More: true}
	flag.Func("ip-number", "how many addresses an application's pool has that doesn't say: a `number`, or how many more than replicas, such as +1, the default", func(text string) (err error) {
		o.applications.Number, err = ipam.ParseNumber(text)
		return err
	})
	flag.Func("application-kinds", "kinds of other projects that have pods and the subresource scale, as `GROUP/VERSION/KIND`, with commas between them", func(list string) (err error) {
		o.applications.Kinds, err = applications.ParseKinds(list)
		return err
	})
	var level slog.Level
	flag.TextVar(&level, "log-level", slog.LevelInfo, "DEBUG, INFO, WARN or ERROR")
	flag.Parse()
	handler := slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	log := logr.FromSlogHandler(handler)
	ctrl.SetLogger(log)
	// Memory that Go's collector hasn't looked at yet counts as used: at the container's limit the kernel would
	// kill the controller.
	memlimit.Set(memlimit.WithLogger(slog.New(handler))) //nolint:errcheck // it logs the error, and all works without a limit
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
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, v2beta1.AddToScheme, v1alpha1.AddToScheme, staticmacvlan.AddToScheme, nad.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	byObject := map[client.Object]cache.ByObject{
		&v2beta1.SpiderMultusConfig{}: {Transform: cache.TransformStripManagedFields()},
		&v2beta1.SpiderSubnet{}:       {Transform: cache.TransformStripManagedFields()},
		&v2beta1.SpiderIPPool{}:       {Transform: cache.TransformStripManagedFields()},
		&v2beta1.SpiderReservedIP{}:   {Transform: cache.TransformStripManagedFields()},
		&staticmacvlan.VLANSubnet{}:   {Transform: cache.TransformStripManagedFields()},
		&staticmacvlan.StaticPod{}:    {Transform: cache.TransformStripManagedFields()},
		&v1alpha1.IPAddress{}:         {Transform: cache.TransformStripManagedFields()},
		&v2beta1.SpiderEndpoint{}:     {Transform: cache.TransformStripManagedFields()},
		&corev1.Pod{}:                 {Transform: addresses.StripPod},
	}
	maps.Copy(byObject, applications.ByObject())
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
		Cache:                         cache.Options{ByObject: byObject},
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
	for _, index := range []func(context.Context, ctrl.Manager) error{pools.Index, addresses.Index, applications.Index, identities.Index} {
		if err := index(ctx, mgr); err != nil {
			return err
		}
	}
	if err := pools.Add(mgr); err != nil {
		return err
	}
	stock, err := addresses.Add(ctx, mgr, o.multus)
	if err != nil {
		return err
	}
	metrics.RegisterController(runtimemetrics.Registry, mgr.Elected(), stock.Ledger)
	if err := applications.Add(mgr, stock, o.applications); err != nil {
		return err
	}
	if err := staticpods.Add(mgr); err != nil {
		return err
	}
	if err := identities.Add(mgr); err != nil {
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
		{"spidersubnets." + v2beta1.GroupVersion.Group, ""},
		{"spiderippools." + v2beta1.GroupVersion.Group, ""},
		{"spiderendpoints." + v2beta1.GroupVersion.Group, ""},
		{"spiderreservedips." + v2beta1.GroupVersion.Group, ""},
		{"spiderendpoints." + v2beta1.GroupVersion.Group, ""},
		{"ipaddresses." + v1alpha1.GroupVersion.Group, ""},
		{"vlansubnets." + staticmacvlan.GroupVersion.Group, ""},
		{"staticpods." + staticmacvlan.GroupVersion.Group, ""},
		{"nodespools." + v1alpha1.GroupVersion.Group, ""},
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
