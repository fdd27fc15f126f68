// SPDX-License-Identifier: Apache-2.0

// multihome-agent brings the addresses of a node's pods to the node, for the CNI plugin
// multihome-ipam, and says when they are no longer in use there. It brings the cluster's CIDRs
// and settings to the node, for coordinator, and mends what living pods rely on in the kernel.
// It needs the node's network, processes (hostPID), /run, /etc/cni/multihome, machine ID, and
// for mending the runtime's cached results and the node's CNI configurations.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/agent"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/mending"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/nodedefaults"
	"github.com/multihome/multihome/controlplane/nodehealth"
	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/mend"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/spool"
	"github.com/multihome/multihome/pkg/survey"
)

// options are what the flags set.
type options struct {
	node, spool, defaults, metrics, health, root string
	caches, confs                                string
}

func main() {
	var o options
	flag.StringVar(&o.node, "node", os.Getenv("NODE_NAME"), "the `name` of the node; default: $NODE_NAME")
	flag.StringVar(&o.spool, "spool", spool.Dir, "the `directory` that the agent shares with the plugin")
	flag.StringVar(&o.defaults, "defaults", nodeconf.Path, "the `file` of the node's defaults for coordinator")
	flag.StringVar(&o.metrics, "metrics-address", ":9751", "where metrics are served, as `host:port`; 0: nowhere")
	flag.StringVar(&o.health, "health-address", ":9750", "where /healthz and /readyz are served, as `host:port`; 0: nowhere")
	flag.StringVar(&o.root, "root", "/", "the `path` of the node's file system, for multihome doctor")
	flag.StringVar(&o.caches, "cache-dirs", strings.Join(inspect.CacheDirs, ","), "`directories` of the runtime's cached results, by which living pods are mended; empty: none is")
	flag.StringVar(&o.confs, "conf-dir", "/etc/cni/net.d", "`directory` of the node's CNI configurations")
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

// run runs the agent until ctx ends.
func run(ctx context.Context, o options, log logr.Logger) error {
	if flag.NArg() > 0 {
		return fmt.Errorf("%q: want no arguments", flag.Arg(0))
	}
	if o.node == "" {
		return errors.New("--node: want the name of the node, or the variable NODE_NAME")
	}
	sandboxes, err := survey.OpenSandboxes()
	if err != nil {
		return err
	}
	var started atomic.Bool
	if err := serveHealth(ctx, o.health, &started, log); err != nil {
		return err
	}
	mender, stop := startMending(ctx, o, sandboxes, log)
	defer stop()
	bootID, err := spool.BootID()
	if err != nil {
		return err
	}
	if _, err := spool.MakeDir(o.spool); err != nil {
		return err
	}
	unlock, err := lock(ctx, spool.Lock(o.spool))
	if err != nil {
		return err
	}
	defer unlock()
	var mgr ctrl.Manager
	if err := whenReached(ctx, log, func() (err error) { mgr, err = manager(o, log); return err }); err != nil {
		return err
	}
	id, err := machineID("/etc/machine-id", "/var/lib/dbus/machine-id")
	if err != nil {
		return err
	}
	if err := whenReached(ctx, log, func() error { return checkMachine(ctx, mgr.GetAPIReader(), o.node, id) }); err != nil {
		return err
	}
	claims, err := client.NewWithWatch(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme(), HTTPClient: mgr.GetHTTPClient(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return err
	}
	a := &agent.Agent{
		Node: o.node, MachineID: id, BootID: bootID, Booted: booted(),
		Pods: mgr.GetCache(), Live: mgr.GetAPIReader(), Writer: mgr.GetClient(),
		Namespaces: sandboxes, Ports: ports{},
	}
	if err := agent.Add(mgr, a, o.spool, claims); err != nil {
		return err
	}
	defaults := &nodedefaults.Node{Path: o.defaults, Subnets: kernel.NodeSubnets}
	if err := defaults.Add(mgr); err != nil {
		return err
	}
	metrics.RegisterAgent(runtimemetrics.Registry, o.defaults)
	if err := serveMetrics(ctx, o.metrics, log); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	examine := nodehealth.Doctor(filepath.Join(filepath.Dir(program), "multihome"), o.root, o.confs, o.cacheDirs())
	health := nodehealth.New(o.node, examine, mgr.GetAPIReader(), mgr.GetClient())
	health.Others = []func() []nodehealth.Finding{
		func() []nodehealth.Finding { return fought(mender.Fights()) },
		func() []nodehealth.Finding { return refused(defaults.Refusal()) },
	}
	mender.Tell(mgr.GetEventRecorder("multihome-agent"), health.Soon)
	if err := mgr.Add(health); err != nil {
		return err
	}
	started.Store(true)
	return mgr.Start(ctx)
}

// cacheDirs returns the directories of the runtime's cached results; none if nothing is to be mended.
func (o options) cacheDirs() []string {
	return strings.FieldsFunc(o.caches, func(r rune) bool { return r == ',' })
}

// startMending begins to mend the node's pods. It needs no API server, and no other agent to
// have ended.
func startMending(ctx context.Context, o options, sandboxes *survey.Sandboxes, log logr.Logger) (m *mending.Mender, stop func()) {
	dirs := o.cacheDirs()
	m = mending.New(o.node, mend.Options{
		CacheDirs: dirs, ConfDir: o.confs, Defaults: o.defaults, Busy: sandboxes.Busy,
		Did:    func(_ mend.Pod, _ attachment.Attachment, op netstate.Op) { metrics.Drift(op.Object().Kind(), true) },
		Fight:  func(mend.Pod, string) { metrics.Fight() },
		Failed: func(mend.Pod, error) { metrics.MendFailed() },
		Behind: metrics.ToMend,
	}, log.WithName("mending"))
	if len(dirs) == 0 {
		return m, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Run(ctx)
	}()
	return m, func() {
		cancel()
		<-done
	}
}

// fought returns a finding about objects that another program takes away again and again.
func fought(objects []string) []nodehealth.Finding {
	if len(objects) == 0 {
		return nil
	}
	return []nodehealth.Finding{{
		Reason:  "Fight",
		Message: "another program takes away again and again what pods need: " + strings.Join(objects, "; ") + ": have it leave these alone",
	}}
}

// refused returns a finding about settings of the cluster that this node can't take.
func refused(why string) []nodehealth.Finding {
	if why == "" {
		return nil
	}
	return []nodehealth.Finding{{Reason: "DefaultsRefused", Message: why}}
}

// serveHealth serves /healthz from the beginning, for the agent mends pods before the API server answers,
// and /readyz, which says whether it has started to work with that.
func serveHealth(ctx context.Context, address string, started *atomic.Bool, log logr.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !started.Load() {
			http.Error(w, "the API server hasn't answered yet", http.StatusServiceUnavailable)
		}
	})
	return serve(ctx, "health", address, mux, log)
}

// serveMetrics serves /metrics.
func serveMetrics(ctx context.Context, address string, log logr.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(runtimemetrics.Registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}))
	return serve(ctx, "metrics", address, mux, log)
}

// serve serves HTTP until ctx ends. It waits for the port while another program has it: a former agent
// answers meanwhile, and pods don't go without addresses because of somebody else's port.
func serve(ctx context.Context, what, address string, handler http.Handler, log logr.Logger) error {
	if address == "0" {
		return nil
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	listen := func() (net.Listener, error) { return new(net.ListenConfig).Listen(ctx, "tcp", address) }
	l, err := listen()
	if err != nil && !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s: %w", what, err)
	}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		for pause := time.Second; err != nil; pause = min(2*pause, time.Minute) {
			log.Info("another program has the port of "+what, "error", err.Error())
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			l, err = listen()
		}
		_ = server.Serve(l) // until it is closed
	}()
	return nil
}

// whenReached calls f until the API server answers: mending goes on meanwhile.
func whenReached(ctx context.Context, log logr.Logger, f func() error) error {
	for {
		err := f()
		if !isPassing(err) {
			return err
		}
		log.Info("the API server doesn't answer", "error", err.Error())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Second):
		}
	}
}

// isPassing reports whether an error of the API server, or on the way to it, may be over the next time: no
// answer, none of its own (a load balancer's), too many requests, a token that isn't valid any more or yet, or
// kinds that aren't installed yet.
func isPassing(err error) bool {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		code := status.Status().Code
		return code >= http.StatusInternalServerError || code == http.StatusUnauthorized || code == http.StatusTooManyRequests
	}
	return errors.As(err, new(*url.Error)) || meta.IsNoMatchError(err)
}

// manager returns a manager whose cache has the node's pods, as far as the agent reads
// them, and its NodeSpool.
func manager(o options, log logr.Logger) (ctrl.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v2beta1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Logger:  log,
		Metrics: metricsserver.Options{BindAddress: "0"},
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}:                {Field: fields.OneTermEqualSelector("spec.nodeName", o.node), Transform: slim},
			&v2beta1.SpiderCoordinator{}: {Field: fields.OneTermEqualSelector("metadata.name", nodedefaults.Name), Transform: cache.TransformStripManagedFields()},
			&v1alpha1.NodeSpool{}:        {Field: fields.OneTermEqualSelector("metadata.name", o.node), Transform: cache.TransformStripManagedFields()},
		}},
	})
}

// slim keeps of a pod what the agent reads.
func slim(o any) (any, error) {
	p, ok := o.(*corev1.Pod)
	if !ok {
		return o, nil
	}
	return &corev1.Pod{
		TypeMeta: p.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, UID: p.UID, ResourceVersion: p.ResourceVersion, Annotations: p.Annotations,
		},
		Spec:   corev1.PodSpec{NodeName: p.Spec.NodeName, HostNetwork: p.Spec.HostNetwork},
		Status: corev1.PodStatus{Phase: p.Status.Phase},
	}, nil
}

// ports finds ports in the node's /sys.
type ports struct{}

func (ports) Subnets(device string) ([]netip.Prefix, error) {
	return survey.PortSubnets("/sys", device)
}

// lock waits until no other agent works on the spool. The lock ends with the process.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: another agent has it: %w", path, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// machineID returns the machine's ID, from the first of the files that is there, as the
// kubelet finds it (cAdvisor's machine.getInfoFromFiles); "" if none is.
func machineID(files ...string) (string, error) {
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil {
			return string(bytes.TrimSpace(b)), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// checkMachine returns an error if the Node is of another machine. The kubelet writes the
// machine's ID when it starts; until then the claims of the node are those of the machine
// that was there before.
func checkMachine(ctx context.Context, live client.Reader, name, id string) error {
	n := &corev1.Node{}
	if err := live.Get(ctx, client.ObjectKey{Name: name}, n); err != nil {
		return err
	}
	if is := n.Status.NodeInfo.MachineID; is != id {
		return fmt.Errorf("node %s has the machine ID %q, and this machine %q (/etc/machine-id or /var/lib/dbus/machine-id): wait until the kubelet has written its own, and mount the node's file into the agent's container", name, is, id)
	}
	return nil
}

// booted returns when the machine booted.
func booted() time.Time {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second).Truncate(time.Second)
}
