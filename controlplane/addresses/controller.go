// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/controlplane/owners"
	"github.com/multihome/multihome/controlplane/pods"
	"github.com/multihome/multihome/pkg/ipam"
)

// Indexes of the cache.
const (
	byHolder  = "holder"  // of IPAddresses, by NAMESPACE/NAME of the pods that hold them
	bySandbox = "sandbox" // of NodeSpools, by NAMESPACE/NAME of the pods that they name
	byUID     = "uid"     // of IPAddresses and claims, by the UIDs of the pods
)

// again is how long to wait at most for what an event announces.
const again = time.Minute

// addressConflict is the reason of events about addresses that somebody else has, too.
const addressConflict = "AddressConflict"

// steps bounds the steps of one reconciliation.
const steps = 100

// Controller gives addresses to the pods of a cluster. Several may exist, of which one leads.
// The simulator runs it as it is.
type Controller struct {
	Cache  client.Reader
	Live   client.Reader
	Writer client.Client
	// Now returns the time.
	Now func() time.Time
	// Each calls f for 0 to n-1, perhaps at the same time, and returns the first error.
	Each func(n int, f func(i int) error) error
	// Until waits a while until something is so that an event in the cache brings, and reports
	// whether it is.
	Until func(is func() bool) bool
	// Wake has a name of a pod reconciled soon.
	Wake func(types.NamespacedName)
	// Event publishes a warning about a pod, and an address of it (nil for none). Of one address,
	// a warning of the same reason follows as a repetition of the first.
	Event func(pod *corev1.Pod, about *v1alpha1.IPAddress, reason, message string)
	// Identity is a name that no other controller has.
	Identity string
	Settings ipam.Settings
	// Owners finds the application of a pod.
	Owners owners.Finder
	// Restocked is called with the controller's lock held when what subnets can hand out has
	// changed, and must not wait; nil: nobody asks.
	Restocked func()

	synced func(context.Context) bool

	mu          sync.Mutex
	ledger      *ipam.Ledger
	newest      string // version of a claim that was followed; "" for none
	begins      bool   // it waits for the claims that were there before it
	begun       bool   // it has them
	pools       pools
	used        map[string]int             // how many IPAddresses there are of a pool
	quarantined map[string]map[string]bool // the names of those in quarantine, by pool
	macs        macs
	states      map[stateOf]int                         // how many IPAddresses there are, by pool and state
	standing    map[string]int                          // how many claims wait, by the reason
	bound       map[types.UID]time.Time                 // when pods were bound that have no addresses yet
	line        map[types.NamespacedName]ipam.Applicant // pods that wait
	granted     map[types.NamespacedName]grants         // what pods of the line got meanwhile
	seeking     map[types.NamespacedName]bool           // pods that look for pools, or found none
	waits       map[string]time.Time                    // since when a claim waits for its node, by the pod's UID
	lost        map[string]lostAddress                  // by name
	deleted     map[types.UID]bool                      // IPAddresses that this controller deletes
	writes      map[types.NamespacedName]written        // until the cache has them
	inside      map[person]bool                         // identities of which a pod is being given addresses
	given       map[person]map[string]bool              // names of the IPAddresses that identities got, until the cache has them
	nodes       map[string]Node                         // without what they report
	reports     map[string]*v1alpha1.NodeSpool
	reported    map[string]map[ipam.Key]bool // the addresses of reports that count
	attempts    int
	leads       bool
}

// grants are what a pod of the line got.
type grants struct {
	uid string
	got []ipam.Grant
}

// lostAddress is an IPAddress that somebody else deleted.
type lostAddress struct {
	key types.NamespacedName // of its pod
	*v1alpha1.IPAddress
}

// init makes what a new controller remembers.
func (c *Controller) init() {
	if c.ledger == nil {
		c.ledger, c.used, c.quarantined = ipam.NewLedger(), map[string]int{}, map[string]map[string]bool{}
		c.states, c.standing, c.bound = map[stateOf]int{}, map[string]int{}, map[types.UID]time.Time{}
		c.line, c.granted = map[types.NamespacedName]ipam.Applicant{}, map[types.NamespacedName]grants{}
		c.seeking, c.writes, c.macs = map[types.NamespacedName]bool{}, map[types.NamespacedName]written{}, newMACs()
		c.inside, c.given = map[person]bool{}, map[person]map[string]bool{}
		c.nodes, c.reports, c.reported = map[string]Node{}, map[string]*v1alpha1.NodeSpool{}, map[string]map[ipam.Key]bool{}
		c.waits, c.lost, c.deleted = map[string]time.Time{}, map[string]lostAddress{}, map[types.UID]bool{}
	}
}

// lead notes that the controller leads: it is called to act.
func (c *Controller) lead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.init()
	c.leads = true
}

// Reconcile brings a name of a pod in line. It decides by the cache, and if there is
// something to do, again by what the API server has, step by step. It returns how long to
// wait before it is to be called again if nothing else happens; 0: not at all.
func (c *Controller) Reconcile(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	c.lead()
	began := c.Now()
	o, err := c.observe(ctx, c.Cache, key)
	if err != nil {
		return 0, err
	}
	if wait := c.behind(o); wait > 0 {
		return wait, nil
	}
	if len(o.Lost) == 0 && Decide(o).Kind == Nothing {
		c.forget(o)
		return 0, nil
	}
	if o, err = c.observe(ctx, c.Live, key); err != nil {
		return 0, err
	}
	c.found(&o)
	for range steps {
		s := Decide(o)
		switch s.Kind {
		case Nothing:
			c.forget(o)
			return 0, nil
		case Wait:
			return grace, nil
		case Allocate:
			if wait, err := c.allocate(ctx, &o, began); wait != 0 || err != nil {
				return wait, err
			}
		case GiveBack:
			if err := c.giveBackAll(ctx, &o, s); err != nil {
				return 0, err
			}
		default:
			if err := c.take(ctx, &o, s); err != nil {
				return 0, err
			}
		}
	}
	return again, nil
}

// forget forgets what was remembered about a name for which nothing is to be done.
func (c *Controller) forget(o Observed) {
	c.leave(o.Key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if o.Pod != nil {
		delete(c.bound, o.Pod.UID)
	}
	for _, message := range o.Conflicts() {
		c.tell(o.Pod, nil, addressConflict, message)
	}
	for _, s := range o.Stays() {
		c.tell(o.Pod, s.Address, addressConflict, s.Message)
	}
}

// found forgets the lost IPAddresses that needn't be made again.
func (c *Controller) found(o *Observed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	named := Named(o.Claim)
	o.Lost = slices.DeleteFunc(o.Lost, func(a *v1alpha1.IPAddress) bool {
		if o.missed(a) || named[a.Name] != nil && o.Addresses[a.Name] == nil { // promised, until its claim has it again or is gone
			return false
		}
		delete(c.lost, a.Name)
		c.free(keyOf(a))
		return true
	})
}

func (c *Controller) tell(pod *corev1.Pod, about *v1alpha1.IPAddress, reason, message string) {
	if c.Event != nil && pod != nil {
		c.Event(pod, about, reason, message)
	}
}

// take takes a step that needs no addresses from a pool, and mends what was observed by what
// it did.
func (c *Controller) take(ctx context.Context, o *Observed, s Step) error {
	log := ctrl.LoggerFrom(ctx)
	switch s.Kind {
	case CreateClaim:
		claim := s.Claim.DeepCopy()
		if err := c.Writer.Create(ctx, claim); err != nil {
			return err
		}
		log.Info("made the claim", "podUID", claim.Spec.PodUID, "node", claim.Spec.NodeName, "nics", len(claim.Spec.NICs))
		o.Claim = claim
	case UpdateClaim:
		claim := s.Claim.DeepCopy()
		if err := c.Writer.Update(ctx, claim); err != nil {
			return err
		}
		o.Claim = claim
	case MarkReleasing:
		claim := s.Claim.DeepCopy()
		if err := c.Writer.Status().Update(ctx, claim); err != nil {
			return err
		}
		o.Claim = claim
	case Tell:
		return c.say(ctx, o, s.Reason, s.Message)
	case DeleteClaim:
		err := c.Writer.Delete(ctx, s.Claim, client.Preconditions{UID: ptr.To(s.Claim.UID), ResourceVersion: ptr.To(s.Claim.ResourceVersion)})
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		log.Info("released the claim", "podUID", s.Claim.Spec.PodUID)
		metrics.Collected(metrics.Released)
		c.leave(o.Key)
		o.Claim = nil
		c.unlose(o, s.Claim.Spec.PodUID)
	case CreateAddress:
		a := s.Address.DeepCopy()
		a.ObjectMeta = metav1.ObjectMeta{Name: a.Name}
		log.Info("making an IPAddress again that is in use", "address", a.Name)
		if err := c.Writer.Create(ctx, a); err != nil {
			return err
		}
		metrics.Collected(metrics.Remade)
		o.Addresses[a.Name] = a
	case UpdateAddress:
		a := s.Address.DeepCopy()
		if err := c.Writer.Update(ctx, a); err != nil {
			return err
		}
		o.Addresses[a.Name] = a
	case Quarantine:
		return c.quarantine(ctx, o, s)
	case Ask:
		return c.ask(ctx, o, s.Node, s.UID)
	}
	return nil
}

// giveBackAll takes a step that gives an address back, and those that follow and do the same.
func (c *Controller) giveBackAll(ctx context.Context, o *Observed, s Step) error {
	var all []Step
	for s.Kind == GiveBack {
		all = append(all, s)
		delete(o.Addresses, s.Address.Name)
		s = Decide(*o)
	}
	return c.Each(len(all), func(i int) error { return c.giveBack(ctx, all[i].Address, all[i].UID) })
}

// unlose forgets the lost IPAddresses of a pod whose claim is released: nothing uses them.
func (c *Controller) unlose(o *Observed, uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o.Lost = slices.DeleteFunc(o.Lost, func(a *v1alpha1.IPAddress) bool {
		if a.Spec.Holders[0].PodUID != uid {
			return false
		}
		delete(c.lost, a.Name)
		c.free(keyOf(a))
		return true
	})
}

// giveBack takes an IPAddress from a pod, as it was observed: it is kept for its owner, or
// deleted.
func (c *Controller) giveBack(ctx context.Context, a *v1alpha1.IPAddress, uid string) error {
	if next := Returned(a, uid, metav1.NewTime(c.Now())); next != nil {
		err := c.Writer.Update(ctx, next)
		if err == nil {
			c.mu.Lock()
			c.free(keyOf(a))
			c.mu.Unlock()
		}
		return client.IgnoreNotFound(err)
	}
	return c.Delete(ctx, a)
}

// Delete deletes an IPAddress as it was observed.
func (c *Controller) Delete(ctx context.Context, a *v1alpha1.IPAddress) error {
	c.mu.Lock()
	c.deleted[a.UID] = true
	c.mu.Unlock()
	err := client.IgnoreNotFound(c.Writer.Delete(ctx, a, client.Preconditions{UID: ptr.To(a.UID), ResourceVersion: ptr.To(a.ResourceVersion)}))
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		// The cache may never see what it was, or saw meanwhile that another controller deleted it.
		delete(c.lost, a.Name)
		c.free(keyOf(a))
	case apierrors.IsConflict(err):
		delete(c.deleted, a.UID)
	}
	return err
}

// ask asks a node to withdraw what a pod had.
func (c *Controller) ask(ctx context.Context, o *Observed, node, uid string) error {
	spool := &v1alpha1.NodeSpool{}
	err := c.Live.Get(ctx, client.ObjectKey{Name: node}, spool)
	switch {
	case apierrors.IsNotFound(err):
		spool.Name, spool.Spec.Ask = node, []string{uid}
		err = c.Writer.Create(ctx, spool)
	case err == nil && !slices.Contains(spool.Spec.Ask, uid):
		spool.Spec.Ask = append(spool.Spec.Ask, uid)
		err = c.Writer.Update(ctx, spool)
	}
	if err != nil {
		return err
	}
	metrics.Collected(metrics.Asked)
	n := o.Nodes[node]
	n.Spool = spool
	o.Nodes[node] = n
	return nil
}

// ReconcileNode takes back what a node was asked and what doesn't matter any more.
func (c *Controller) ReconcileNode(ctx context.Context, node string) error {
	spool, err := get(ctx, c.Cache, client.ObjectKey{Name: node}, &v1alpha1.NodeSpool{})
	if err != nil || spool == nil || len(spool.Spec.Ask) == 0 {
		return err
	}
	next := spool.DeepCopy()
	next.Spec.Ask = nil
	for _, uid := range spool.Spec.Ask {
		var held v1alpha1.IPAddressList
		var claims v2beta1.SpiderEndpointList
		for _, list := range []client.ObjectList{&held, &claims} {
			if err := c.Cache.List(ctx, list, client.MatchingFields{byUID: uid}); err != nil {
				return err
			}
		}
		if len(held.Items)+len(claims.Items) > 0 {
			next.Spec.Ask = append(next.Spec.Ask, uid)
		}
	}
	if len(next.Spec.Ask) == len(spool.Spec.Ask) {
		return nil
	}
	return client.IgnoreNotFound(c.Writer.Update(ctx, next))
}

// say writes the claim's condition, and an event on the pod.
func (c *Controller) say(ctx context.Context, o *Observed, reason, message string) error {
	next := o.Claim.DeepCopy()
	if next.Status.Current == nil { // what the pod has, it keeps, whatever a further NIC lacks
		next.Status.Phase = v2beta1.Pending
		if reason == v2beta1.Invalid {
			next.Status.Phase = v2beta1.Failed
		}
	}
	if c.saidSo(o, reason, message) {
		return nil
	}
	changed := meta.SetStatusCondition(&next.Status.Conditions, metav1.Condition{
		Type: v2beta1.Ready, Status: metav1.ConditionFalse, Reason: reason, Message: message,
		ObservedGeneration: next.Generation, LastTransitionTime: metav1.NewTime(c.Now()),
	})
	if !changed {
		return nil
	}
	if err := c.Writer.Status().Update(ctx, next); err != nil {
		return err
	}
	o.Claim = next
	c.tell(o.Pod, nil, reason, message+advice[reason])
	return nil
}

// advice is what an event of a reason adds: what helps, as far as the message doesn't say it.
var advice = map[string]string{
	exhausted:       "; the pod waits until one is free: give the pool more addresses, or the network a further pool",
	noPool:          "; the pod waits: make a pool that it may use, or name another one",
	v2beta1.Waiting: "; the pod waits for it",
	v2beta1.Invalid: ": correct it, and make the pod anew if it still doesn't start",
}

// Reasons of a claim that waits for pools.
const (
	exhausted = "PoolExhausted"
	noPool    = "NoPool"
)

var counts = regexp.MustCompile(`[0-9]+ of [0-9]+`)

// saidSo reports whether the claim says the same already, but for numbers that change all the
// time.
func (c *Controller) saidSo(o *Observed, reason, message string) bool {
	now := meta.FindStatusCondition(o.Claim.Status.Conditions, v2beta1.Ready)
	return now != nil && now.Status == metav1.ConditionFalse && now.Reason == reason && now.ObservedGeneration == o.Claim.Generation &&
		counts.ReplaceAllString(now.Message, "") == counts.ReplaceAllString(message, "")
}

// observe reads what is known about a name: from the cache, or from the API server. Which
// objects there are to read, the cache says in both cases.
func (c *Controller) observe(ctx context.Context, from client.Reader, key types.NamespacedName) (Observed, error) {
	o := Observed{Key: key, Addresses: map[string]*v1alpha1.IPAddress{}, Migrates: map[string]bool{}, Nodes: map[string]Node{}}
	claim, err := get(ctx, from, key, &v2beta1.SpiderEndpoint{})
	if err != nil {
		return o, err
	}
	o.Claim = claim
	if o.Pod, err = get(ctx, from, key, &corev1.Pod{}); err != nil {
		return o, err
	}
	nodes := map[string]bool{}
	if o.Pod != nil && o.Pod.Spec.NodeName != "" {
		nodes[o.Pod.Spec.NodeName] = true
	}
	if o.Claim != nil {
		nodes[o.Claim.Spec.NodeName] = true
	}
	if err := c.observeAddresses(ctx, from, &o, nodes); err != nil {
		return o, err
	}
	var spools v1alpha1.NodeSpoolList
	if err := c.Cache.List(ctx, &spools, client.MatchingFields{bySandbox: key.String()}); err != nil {
		return o, err
	}
	for i := range spools.Items {
		nodes[spools.Items[i].Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		if o.Nodes[name], err = c.observeNode(ctx, from, name); err != nil {
			return o, err
		}
	}
	if err := c.observeSpools(ctx, from, &o); err != nil {
		return o, err
	}
	if Alive(o.Pod) && o.Claim == nil && from == c.Live { // for the claim that is to be made
		if o.Identity, err = identities.Find(ctx, c.Live, o.Pod); err != nil {
			return o, err
		}
	}
	if Alive(o.Pod) && (o.Claim == nil || o.Claim.Spec.PodUID == pods.UID(o.Pod)) {
		if err := c.wishes(ctx, &o); err != nil {
			return o, err
		}
	}
	if o.Claim != nil {
		o.Waited = c.waited(o.Claim.Spec.PodUID, Alive(o.Pod) && pods.UID(o.Pod) == o.Claim.Spec.PodUID)
	}
	return o, nil
}

// get reads an object; nil if there is none.
func get[T client.Object](ctx context.Context, from client.Reader, key client.ObjectKey, into T) (T, error) {
	var none T
	switch err := from.Get(ctx, key, into); {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return none, err
	}
	return into, nil
}

// namespace reads a namespace of Kubernetes; nil if there is none. The cache may have a pod before its
// namespace, and no event would tell of that.
func (c *Controller) namespace(ctx context.Context, name string) (*corev1.Namespace, error) {
	key := client.ObjectKey{Name: name}
	if n, err := get(ctx, c.Cache, key, &corev1.Namespace{}); err != nil || n != nil {
		return n, err
	}
	return get(ctx, c.Live, key, &corev1.Namespace{})
}

// observeAddresses reads the IPAddresses that pods of the name hold, and those that its claim
// names.
func (c *Controller) observeAddresses(ctx context.Context, from client.Reader, o *Observed, nodes map[string]bool) error {
	var held v1alpha1.IPAddressList
	if err := c.Cache.List(ctx, &held, client.MatchingFields{byHolder: o.Key.String()}); err != nil {
		return err
	}
	for i := range held.Items {
		o.Addresses[held.Items[i].Name] = &held.Items[i]
	}
	// A pod that runs has addresses, whatever became of its claim: it must not get others
	// because the cache is late.
	if from == c.Live && Alive(o.Pod) && o.Pod.Status.Phase == corev1.PodRunning && (o.Claim == nil || o.Claim.Status.Current == nil) {
		var all v1alpha1.IPAddressList
		if err := c.Live.List(ctx, &all); err != nil {
			return err
		}
		for i := range all.Items {
			if all.Items[i].HeldBy(pods.UID(o.Pod)) {
				o.Addresses[all.Items[i].Name] = &all.Items[i]
			}
		}
	}
	for name := range Named(o.Claim) {
		if _, known := o.Addresses[name]; !known {
			o.Addresses[name] = nil
		}
	}
	c.mu.Lock()
	for _, l := range c.lost {
		if l.key == o.Key {
			o.Lost = append(o.Lost, l.IPAddress)
			if _, known := o.Addresses[l.Name]; !known {
				o.Addresses[l.Name] = nil
			}
		}
	}
	c.mu.Unlock()
	for _, l := range o.Lost {
		nodes[l.Spec.Holders[0].Node] = true
	}
	slices.SortFunc(o.Lost, func(a, b *v1alpha1.IPAddress) int { return keyOf(a).Compare(keyOf(b)) })
	names := slices.Sorted(maps.Keys(o.Addresses))
	read := make([]*v1alpha1.IPAddress, len(names))
	err := c.Each(len(names), func(i int) (err error) {
		if read[i] = o.Addresses[names[i]]; from == c.Live || read[i] == nil {
			read[i], err = get(ctx, from, client.ObjectKey{Name: names[i]}, &v1alpha1.IPAddress{})
		}
		return err
	})
	if err != nil {
		return err
	}
	for i, name := range names {
		o.Addresses[name] = read[i]
		if read[i] != nil {
			for _, h := range read[i].Spec.Holders {
				nodes[h.Node] = true
			}
		}
	}
	return c.observeMigration(ctx, o)
}

// observeMigration looks whether the holders of the addresses that the claim names, and its pod doesn't hold, are
// of the pod's instance of a virtual machine.
func (c *Controller) observeMigration(ctx context.Context, o *Observed) error {
	for _, name := range slices.Sorted(maps.Keys(Named(o.Claim))) {
		a := o.Addresses[name]
		if o.Pod == nil || a == nil || a.HeldBy(o.Claim.Spec.PodUID) || !shared(a) {
			continue
		}
		is, err := c.migrates(ctx, o.Pod, a.Spec.Holders[0])
		if err != nil {
			return err
		}
		o.Migrates[name] = is
	}
	return nil
}

// observeNode reads a node, and what its agent says.
func (c *Controller) observeNode(ctx context.Context, from client.Reader, name string) (Node, error) {
	node, err := get(ctx, from, client.ObjectKey{Name: name}, &corev1.Node{})
	if err != nil {
		return Node{}, err
	}
	n := nodeOf(node)
	n.Spool, err = get(ctx, from, client.ObjectKey{Name: name}, &v1alpha1.NodeSpool{})
	return n, err
}

// nodeOf returns what a Node says; nil: there is none.
func nodeOf(n *corev1.Node) Node {
	if n == nil {
		return Node{Gone: true}
	}
	return Node{MachineID: n.Status.NodeInfo.MachineID, Fenced: fenced(n)}
}

// fenced reports whether a node is marked as one that runs nothing any more.
func fenced(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
}

// observeSpools picks what the nodes report about pods of the name.
func (c *Controller) observeSpools(ctx context.Context, from client.Reader, o *Observed) error {
	for _, name := range slices.Sorted(maps.Keys(o.Nodes)) {
		n := o.Nodes[name]
		if n.Spool == nil {
			continue
		}
		for _, x := range n.Spool.Status.Conflicts {
			if x.Namespace == o.Key.Namespace && x.Pod == o.Key.Name {
				o.Reported = append(o.Reported, Reported{Node: name, MachineID: n.Spool.Status.MachineID, Conflict: x})
			}
		}
		for _, s := range n.Spool.Status.Sandboxes {
			if s.Namespace != o.Key.Namespace || s.Pod != o.Key.Name {
				continue
			}
			o.Sandboxes = append(o.Sandboxes, Sandbox{Node: name, MachineID: n.Spool.Status.MachineID, Sandbox: s})
			for _, h := range s.Addresses {
				k, ok := keyOfHeld(h)
				if _, known := o.Addresses[k.String()]; !ok || known {
					continue
				}
				a, err := get(ctx, from, client.ObjectKey{Name: k.String()}, &v1alpha1.IPAddress{})
				if err != nil {
					return err
				}
				o.Addresses[k.String()] = a
			}
		}
	}
	c.crowd(o)
	slices.SortFunc(o.Sandboxes, func(a, b Sandbox) int {
		return slices.Compare([]string{a.Node, a.PodUID, a.Interface}, []string{b.Node, b.PodUID, b.Interface})
	})
	return nil
}

// waited returns how long a claim whose pod is gone has been waiting for its node.
func (c *Controller) waited(uid string, alive bool) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if alive {
		delete(c.waits, uid)
		return 0
	}
	since, known := c.waits[uid]
	if !known {
		since = c.Now()
		c.waits[uid] = since
	}
	return c.Now().Sub(since)
}

// keyOf returns the key of an IPAddress.
func keyOf(a *v1alpha1.IPAddress) ipam.Key {
	k, _ := keyOfHeld(v1alpha1.Held{Address: a.Spec.Address, Network: a.Spec.Network})
	return k
}

// newAttempt returns a name for an attempt to take addresses, which no other attempt has.
func (c *Controller) newAttempt() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	return fmt.Sprintf("%s-%d", c.Identity, c.attempts)
}
