// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/spool"
)

// lost is the file of the spool that has the boot in which somebody deleted it.
const lost = "lost"

// Agent is the agent of a node.
type Agent struct {
	Node       string // its name in the cluster
	MachineID  string // as in Node.status.nodeInfo
	BootID     string // of the kernel
	Booted     time.Time
	Files      spool.Files
	Pods       client.Reader // a cache of the node's pods
	Live       client.Reader // the API server
	Writer     client.Client
	Namespaces Namespaces
	Ports      Ports

	started bool
	lost    bool                            // somebody deleted the spool, and not all pods were looked at since
	waits   map[string]types.NamespacedName // of the pods that wait for their claim
	noted   map[string]bool                 // pods of which another machine has an address, by the last look at the NodeSpool
	quiet   map[string]bool                 // files of sandboxes and wants that were quiet in the pass before
}

// Namespaces are the network namespaces of the node.
type Namespaces interface {
	// Look says whether a network namespace is still at its path, with its inode, and
	// which addresses are in it. If it isn't there but processes still are in a namespace
	// with the inode, these are the addresses of that.
	Look(id netns.ID) (exists bool, addresses []netip.Addr, err error)
	// Find returns the namespaces of the node, but the node's own, that have one of the
	// addresses.
	Find(addresses []netip.Addr) ([]netns.ID, error)
	// Busy reports whether a process of a CNI plugin still works for a container. One whose
	// caller is gone may be about to set an address that it was given.
	Busy(containerID string) (bool, error)
}

// Ports are the NICs of the node.
type Ports interface {
	// Subnets returns the subnets of the node's link that belongs to a PCI device, or to the
	// port of which the device is a virtual function.
	Subnets(device string) ([]netip.Prefix, error)
}

// Start makes the spool, and empties one of another boot. It says in the NodeSpool which boot
// and machine the agent is of, before the first pod is served: so it is known later that
// there has been a spool in this boot.
func (a *Agent) Start(ctx context.Context) error {
	a.quiet, a.noted, a.waits = map[string]bool{}, map[string]bool{}, map[string]types.NamespacedName{}
	was, err := a.bootOf()
	if err != nil {
		return err
	}
	spoolOf, err := a.nodeSpool(ctx)
	if err != nil {
		return err
	}
	switch {
	case was == a.BootID:
	case was != "":
		if err := a.empty(); err != nil {
			return err
		}
	case spoolOf.Status.BootID == a.BootID:
		if err := a.Files.Write(lost, []byte(a.BootID)); err != nil {
			return err
		}
	}
	if spoolOf.Status.BootID != a.BootID || spoolOf.Status.MachineID != a.MachineID {
		spoolOf.Status.BootID, spoolOf.Status.MachineID = a.BootID, a.MachineID
		if err := a.Writer.Status().Update(ctx, spoolOf); err != nil {
			return err
		}
	}
	if err := a.putReady(); err != nil {
		return err
	}
	a.started = true
	return nil
}

// nodeSpool reads the node's NodeSpool, and makes it if there is none.
func (a *Agent) nodeSpool(ctx context.Context) (*v1alpha1.NodeSpool, error) {
	s := &v1alpha1.NodeSpool{}
	err := a.Live.Get(ctx, client.ObjectKey{Name: a.Node}, s)
	if !apierrors.IsNotFound(err) {
		return s, err
	}
	s = &v1alpha1.NodeSpool{}
	s.Name = a.Node
	return s, a.Writer.Create(ctx, s)
}

// empty removes all files of a spool. Only ready stays, so that after a crash the next start
// goes on with it.
func (a *Agent) empty() error {
	for _, dir := range spool.Dirs() {
		names, err := a.Files.List(dir)
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := a.Files.Remove(path.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	return a.Files.Remove(lost)
}

// Open makes the spool again if somebody deleted it, and notes that sandboxes may be there
// of which it knows nothing.
func (a *Agent) Open() error {
	if !a.started {
		return errors.New("the spool isn't open: call Start first")
	}
	was, err := a.bootOf()
	if err != nil || was == a.BootID {
		return err
	}
	if err := a.Files.Write(lost, []byte(a.BootID)); err != nil {
		return err
	}
	a.lost = true
	return a.putReady()
}

// Lost reports whether the spool was made again since the last call: all pods are to be served
// anew.
func (a *Agent) Lost() bool {
	was := a.lost
	a.lost = false
	return was
}

// UIDs returns the pods of which something is known on the node, sorted: those of the cache,
// and those with files.
func (a *Agent) UIDs(ctx context.Context) ([]string, error) {
	var out []string
	var list corev1.PodList
	if err := a.Pods.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	for i := range list.Items {
		if p := &list.Items[i]; p.Spec.NodeName == a.Node && !p.Spec.HostNetwork {
			out = append(out, pods.UID(p))
		}
	}
	served, err := a.Files.List(path.Dir(spool.PodFile("uid")))
	if err != nil {
		return nil, err
	}
	out = append(out, served...)
	s := a.spooled()
	for _, w := range s.wants {
		out = append(out, w.UID)
	}
	for _, x := range s.sandboxes {
		out = append(out, x.UID)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Unsettled returns those of the UIDs for which there is something to do, as far as cache and
// files tell, sorted. That a claim was changed, they don't tell.
func (a *Agent) Unsettled(ctx context.Context) ([]string, error) {
	uids, err := a.UIDs(ctx)
	if err != nil {
		return nil, err
	}
	lives, err := a.lives(ctx)
	if err != nil {
		return nil, err
	}
	busy := map[string]bool{}
	s := a.spooled()
	for _, w := range s.wants {
		busy[w.UID] = true
	}
	for _, x := range s.sandboxes {
		exists, _, err := a.Namespaces.Look(x.Netns)
		busy[x.UID] = busy[x.UID] || !exists || err != nil
	}
	var out []string
	for _, uid := range uids {
		p, err := a.pod(uid)
		if err != nil {
			return nil, err
		}
		if !lives[uid] || busy[uid] || p != nil && len(p.NICs) == 0 {
			out = append(out, uid)
		}
	}
	return out, nil
}

// lives returns, by the UIDs of the node's pods, whether they haven't finished, as far as the cache tells.
func (a *Agent) lives(ctx context.Context) (map[string]bool, error) {
	var list corev1.PodList
	if err := a.Pods.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, err
	}
	out := map[string]bool{}
	for i := range list.Items {
		out[pods.UID(&list.Items[i])] = !pods.Finished(&list.Items[i])
	}
	return out, nil
}

// NotWithdrawn returns how many pods are gone or have finished, as far as cache and files tell,
// and still have files: their addresses may be in use on the node.
func (a *Agent) NotWithdrawn(ctx context.Context) (int, error) {
	var list corev1.PodList
	if err := a.Pods.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return 0, err
	}
	served, err := a.Files.List(path.Dir(spool.PodFile("uid")))
	if err != nil {
		return 0, err
	}
	left := map[string]bool{}
	for _, uid := range served {
		left[uid] = true
	}
	for _, x := range a.spooled().sandboxes {
		left[x.UID] = true
	}
	for i := range list.Items {
		if !pods.Finished(&list.Items[i]) {
			delete(left, pods.UID(&list.Items[i]))
		}
	}
	return len(left), nil
}

// SyncPod brings the files and the claim of a pod in line. again says that it waits for
// something of which no event tells, such as the end of a namespace.
func (a *Agent) SyncPod(ctx context.Context, uid string) (again bool, err error) {
	if err := a.Open(); err != nil {
		return false, err
	}
	o, err := a.begin(uid)
	if err != nil {
		return false, err
	}
	if err := a.ask(ctx, &o); err != nil {
		return false, err
	}
	again, err = a.bring(ctx, &o)
	delete(a.waits, uid)
	waits := o.lives && (o.waits() || a.noted[uid]) // for addresses, or for others
	if err == nil && (waits || o.lives && o.claim == nil && o.networks) {
		a.waits[uid] = o.name
	}
	return again || waits, err
}

// Waits returns the name of the claim for which a pod waits, by the last pass; nil if it doesn't.
// A pod that names networks may wait for a claim that never comes: they may be others'.
func (a *Agent) Waits(uid string) *types.NamespacedName {
	if name, ok := a.waits[uid]; ok {
		return &name
	}
	return nil
}

// begin returns what was noted about a pod.
func (a *Agent) begin(uid string) (observed, error) {
	claim, known, err := spool.GetWithdrawn(a.Files, uid)
	return observed{uid: uid, known: known, buriedAs: claim}, err
}

// ask asks the API server about a pod and its claim.
func (a *Agent) ask(ctx context.Context, o *observed) error {
	name, err := a.nameOf(ctx, o.uid)
	if err != nil || name.Name == "" {
		return err
	}
	o.name = name
	p := &corev1.Pod{}
	switch err := a.Live.Get(ctx, name, p); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	case pods.UID(p) == o.uid:
		o.mirror, o.networks = pods.IsMirror(p), hasNetworks(p)
		o.lives = p.Spec.NodeName == a.Node && !pods.Finished(p)
	}
	c, err := a.claim(ctx, name)
	if err != nil {
		return err
	}
	if c != nil && c.Spec.PodUID == o.uid {
		o.claim = c
		o.ours = c.Spec.NodeName == a.Node && (c.Spec.MachineID == "" || c.Spec.MachineID == a.MachineID)
	}
	return nil
}

// claim reads a claim from the API server; nil if there is none.
func (a *Agent) claim(ctx context.Context, name types.NamespacedName) (*v2beta1.SpiderEndpoint, error) {
	c := &v2beta1.SpiderEndpoint{}
	if err := a.Live.Get(ctx, name, c); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return c, nil
}

// nameOf finds the name of a pod, in the cache or in the files; none if it is nowhere.
func (a *Agent) nameOf(ctx context.Context, uid string) (types.NamespacedName, error) {
	var list corev1.PodList
	if err := a.Pods.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return types.NamespacedName{}, err
	}
	var found *corev1.Pod
	for i := range list.Items {
		p := &list.Items[i]
		// A user can write any hash at a pod of his, but has no say about its UID.
		if pods.UID(p) == uid && (found == nil || string(p.UID) == uid) {
			found = p
		}
	}
	if found != nil {
		return client.ObjectKeyFromObject(found), nil
	}
	p, err := a.pod(uid)
	if err != nil {
		return types.NamespacedName{}, err
	}
	if p != nil && p.Name != "" {
		return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, nil
	}
	s := a.spooled()
	for _, x := range s.sandboxes {
		if x.UID == uid {
			return types.NamespacedName{Namespace: x.Namespace, Name: x.Pod}, nil
		}
	}
	for _, w := range s.wants {
		if w.UID == uid {
			return types.NamespacedName{Namespace: w.Namespace, Name: w.Pod}, nil
		}
	}
	return types.NamespacedName{}, nil
}

// bring looks at the files, decides and acts, until nothing is left to be done.
func (a *Agent) bring(ctx context.Context, o *observed) (again bool, err error) {
	quiet := map[string]bool{}
	for {
		if err := a.look(ctx, o); err != nil {
			return false, err
		}
		changed := false
		again = false
		clear(quiet) // the last look counts
		for _, x := range decide(*o) {
			switch x.verb {
			case remove:
				err, changed = a.Files.Remove(x.name), true
				delete(a.quiet, x.name)
				for _, s := range o.sandboxes {
					if err == nil && s.File() == x.name {
						metrics.SandboxRemoved(s.Gone)
					}
				}
			case serve:
				err, changed = spool.PutPod(a.Files, *o.serve), true
			case stop:
				err, changed = spool.PutPod(a.Files, stopped(*o.pod, o.uid)), true
			case bury:
				err = spool.PutWithdrawn(a.Files, o.uid, claimUID(o.claim))
			case withdraw:
				if changed, err = a.withdraw(ctx, o.claim); !changed {
					again = true
				}
			case note:
				quiet[x.name], again = true, true
			case wait:
				again = true
			}
			if err != nil {
				return false, err
			}
		}
		if !changed {
			break
		}
	}
	for _, s := range o.sandboxes {
		delete(a.quiet, s.File())
	}
	for _, w := range o.wants {
		delete(a.quiet, w.File())
	}
	maps.Copy(a.quiet, quiet)
	return again, nil
}

// withdraw writes into a claim that nothing of it is left on the node. It reports whether it
// did: the API server refuses it if the claim isn't any more what it was decided on.
func (a *Agent) withdraw(ctx context.Context, c *v2beta1.SpiderEndpoint) (bool, error) {
	c.Status.Withdrawn = &v2beta1.Withdrawn{BootID: a.BootID, MachineID: a.MachineID}
	err := a.Writer.Status().Update(ctx, c)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// look observes the files of a pod, pods/ first, and what is to be served to it.
func (a *Agent) look(ctx context.Context, o *observed) error {
	var err error
	if o.pod, err = a.pod(o.uid); err != nil {
		return err
	}
	s := a.spooled()
	if err := a.Open(); err != nil { // somebody may have deleted the spool before it was listed
		return err
	}
	o.wants, o.sandboxes = nil, nil
	for _, w := range s.wants {
		if w.UID != o.uid {
			continue
		}
		if w.exists, _, err = a.Namespaces.Look(w.Netns); err != nil {
			return fmt.Errorf("%s: %w", w.File(), err)
		}
		w.before = a.quiet[w.File()]
		if w.exists {
			delete(a.quiet, w.File())
		}
		o.wants = append(o.wants, w)
	}
	looks := map[container]look{}
	for _, x := range s.sandboxes {
		if x.UID != o.uid {
			continue
		}
		key := container{x.ContainerID, x.Netns}
		l, looked := looks[key]
		if !looked {
			if l, err = a.lookInto(key); err != nil {
				return fmt.Errorf("%s: %w", x.File(), err)
			}
			looks[key] = l
		}
		x.busy, x.exists = l.busy, l.exists
		x.before, x.has = a.quiet[x.File()], anyIn(x.Addresses, l.addresses)
		if !x.quiet() { // what was quiet before doesn't count any more
			delete(a.quiet, x.File())
		}
		o.sandboxes = append(o.sandboxes, x)
	}
	if o.lives {
		o.serve, err = a.serving(ctx, *o)
		return err
	}
	if s.err != nil && !o.serves() { // a file may be of this pod
		return s.err
	}
	o.held, err = a.held(ctx, *o, s.sandboxes)
	return err
}

// container is a container of a pod, whose NICs are in one namespace.
type container struct {
	id    string
	netns netns.ID
}

// look is what was seen of a container: once for all of its NICs, or two passes in which each sees one
// NIC and misses the other would count as two that missed both.
type look struct {
	busy, exists bool
	addresses    []netip.Addr
}

// lookInto looks for plugins that work for a container, and into its namespace, in this order: what
// isn't there after the last process has ended isn't set any more.
func (a *Agent) lookInto(c container) (l look, err error) {
	if l.busy, err = a.Namespaces.Busy(c.id); err == nil {
		l.exists, l.addresses, err = a.Namespaces.Look(c.netns)
	}
	return l, err
}

// serving returns what pods/<uid> of a living pod is to be; nil for no file.
func (a *Agent) serving(ctx context.Context, o observed) (*spool.Pod, error) {
	p := &spool.Pod{UID: o.uid}
	switch {
	case o.claim != nil:
		p.Namespace, p.Name = o.claim.Namespace, o.claim.Name
		p.Reason = whyNot(o.claim, o.ours)
		if o.buried() {
			p.Reason = fmt.Sprintf("the addresses of pod %s/%s were withdrawn in this boot of the node, and aren't given to it again: delete the pod", p.Namespace, p.Name)
		}
	case len(o.wants) > 0:
		p.Namespace, p.Name = o.wants[0].Namespace, o.wants[0].Pod
		p.Reason = fmt.Sprintf("pod %s/%s has no claim (SpiderEndpoint) yet: multihome-controller makes it", p.Namespace, p.Name)
	default:
		return nil, nil
	}
	if p.Reason != "" {
		return p, nil
	}
	nics, err := nics(o.claim)
	if err != nil {
		p.Reason = err.Error()
		return p, nil //nolint:nilerr // the plugin says why
	}
	if p.Reason, err = a.notOwned(ctx, o.uid, nics); err != nil {
		return nil, err
	}
	if p.Reason == "" {
		p.NICs = nics
	}
	return p, nil
}

// notOwned says which of the addresses isn't the pod's by the API server, "" if all are. It marks
// those that another pod has, too.
func (a *Agent) notOwned(ctx context.Context, uid string, nics []spool.NIC) (string, error) {
	for _, n := range nics {
		for i, x := range n.Addresses {
			ip := &v1alpha1.IPAddress{}
			name := keyOf(x).String()
			switch err := a.Live.Get(ctx, client.ObjectKey{Name: name}, ip); {
			case apierrors.IsNotFound(err):
				return fmt.Sprintf("IPAddress %s of the pod is not there", name), nil
			case err != nil:
				return "", err
			case !ip.HeldBy(uid):
				return fmt.Sprintf("IPAddress %s is not held by the pod", name), nil
			}
			n.Addresses[i].Shared = len(ip.Spec.Holders) > 1
		}
	}
	return "", nil
}

// held reports whether the spool was lost in this boot, and a namespace that isn't known as
// another pod's has one of the pod's addresses.
func (a *Agent) held(ctx context.Context, o observed, all []sandbox) (bool, error) {
	if o.claim == nil && !o.asked {
		return false, nil
	}
	since, err := a.read(lost)
	if err != nil || string(since) != a.BootID {
		return false, err
	}
	var ips v1alpha1.IPAddressList
	if err := a.Live.List(ctx, &ips); err != nil {
		return false, err
	}
	var addresses []netip.Addr
	for i := range ips.Items {
		if addr, err := netip.ParseAddr(ips.Items[i].Spec.Address); err == nil && ips.Items[i].HeldBy(o.uid) {
			addresses = append(addresses, addr)
		}
	}
	if o.claim != nil && o.claim.Status.Current != nil {
		if nics, err := nics(o.claim); err == nil {
			for _, n := range nics {
				for _, x := range n.Addresses {
					addresses = append(addresses, x.Address.Addr())
				}
			}
		}
	}
	if len(addresses) == 0 {
		return false, nil
	}
	found, err := a.Namespaces.Find(addresses)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(found, func(id netns.ID) bool {
		return !slices.ContainsFunc(all, func(s sandbox) bool {
			return s.UID != o.uid && s.Netns.Inode == id.Inode && anyIn(s.Addresses, addresses)
		})
	}), nil
}
