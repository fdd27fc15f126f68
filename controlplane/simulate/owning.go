// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"context"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"

	controller "github.com/multihome/multihome/controlplane/addresses"
	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/applications"
	"github.com/multihome/multihome/controlplane/identities"
	poolsof "github.com/multihome/multihome/controlplane/pools"
	"github.com/multihome/multihome/pkg/ipam"
)

// owning is what a controller has besides in a world with applications: what gives these their
// pools, frees what was kept for identities, and counts. Its queue has names with these words
// before them.
type owning struct {
	p            *process
	applications *applications.Reconciler
	identities   *identities.Collector
	pools        *poolsof.Reconciler
}

const (
	application = "application "
	identity    = "identity "
	allPools    = "pools"
)

// newOwning returns what a process has besides, which gets its addresses from stock.
func newOwning(p *process, stock *controller.Controller) *owning {
	o := &owning{p: p, identities: &identities.Collector{Cache: stock.Cache, Live: stock.Live, Writer: stock.Writer}}
	o.applications = &applications.Reconciler{
		Cache: stock.Cache, Live: stock.Live, Writer: stock.Writer, Stock: stock, Now: stock.Now, Each: stock.Each,
		Number: ipam.Number{N: 1, More: true},
		Event: func(about ipam.Application, reason, message string) {
			p.w.note("%s: event on %s: %s: %s", p.name, about, reason, message)
			p.w.said[about.UID+" "+reason] = true
		},
	}
	o.pools = &poolsof.Reconciler{Cache: stock.Cache, Live: stock.Live, Writer: stock.Writer, Now: stock.Now}
	stock.Restocked = o.all
	return o
}

// handle looks at something of the queue, and reports whether it is one of these, and whether to
// look again later.
func (o *owning) handle(what string) (mine, again bool) {
	ctx := context.Background()
	if text, is := strings.CutPrefix(what, application); is {
		part := strings.Split(text, "/")
		wait, err := o.applications.Reconcile(ctx, applications.Key{Group: part[0], Kind: part[1], Namespace: part[2], Name: part[3]})
		return true, err != nil || wait > 0 && o.p.w.protects(AskedAgain)
	}
	if text, is := strings.CutPrefix(what, identity); is {
		part := strings.Split(text, "/")
		wait, err := o.identities.Reconcile(ctx, identities.Key{Kind: part[0], Namespace: part[1], Name: part[2]})
		return true, err != nil || wait > 0
	}
	if what == allPools {
		result, err := o.pools.Reconcile(ctx, ctrl.Request{})
		return true, err != nil || result.RequeueAfter > 0
	}
	return false, false
}

// on puts what an event is about into the queue, as the watches of the three packages do.
func (o *owning) on(k kind, e event) {
	switch k {
	case addresses, pools, subnets, reserved:
		o.p.add(allPools)
	}
	switch k {
	case pools:
		o.ofPool(e)
		o.kept()
	case subnets:
		if e.former == nil || e.now == nil || e.former.GetGeneration() != e.now.GetGeneration() {
			o.all()
		}
		o.kept()
	case addresses:
		o.ofAddress(e)
	case deployments, statefulSets:
		o.ofWorkload(k, e)
	}
}

// ofPool has the application of a pool looked at.
func (o *owning) ofPool(e event) {
	if e.former != nil && e.now != nil && !o.p.w.protects(GivenBack) { // its counts say so, too
		return
	}
	for _, pool := range e.both() {
		if is := ipam.AutoPoolOf(pool.GetAnnotations()); is != nil {
			o.p.add(application + applications.KeyOf(is.Application).String())
		}
	}
}

// ofAddress has the application of an address looked at, and its identity.
func (o *owning) ofAddress(e event) {
	counts := e.former == nil || e.now == nil
	if !counts {
		was, is := e.former.(*v1alpha1.IPAddress).Spec, e.now.(*v1alpha1.IPAddress).Spec
		counts = is.State != v1alpha1.Allocated || was.Pool != is.Pool || (was.Application == nil) != (is.Application == nil)
		counts = counts && o.p.w.protects(GivenBack)
	}
	for _, x := range e.both() {
		a := x.(*v1alpha1.IPAddress)
		if counts {
			o.ofMember(a)
		}
		id := a.Spec.Identity
		if id == nil {
			continue
		}
		if a.Spec.State == v1alpha1.Reserved {
			o.p.add(identity + identities.KeyOf(id).String())
		}
		if id.Kind == identities.VirtualMachine { // its pods may wait for each other
			for _, key := range sortedKeys(o.p.view.objects[claims]) {
				if c := o.p.view.objects[claims][key]; len(entries(c, identities.ByOwner)) > 0 && entries(c, identities.ByOwner)[0] == identities.KeyOf(id).String() {
					o.p.add(key.String())
				}
			}
		}
	}
}

// ofMember has the application looked at in whose pool an address is.
func (o *owning) ofMember(a *v1alpha1.IPAddress) {
	of := entries(a, "application")
	if pool := o.p.view.objects[pools][types.NamespacedName{Name: a.Spec.Pool}]; len(of) == 0 && pool != nil {
		of = entries(pool, "application")
	}
	for _, key := range of {
		o.p.add(application + key)
	}
}

// ofWorkload has a workload looked at whose pods name subnets, and the identities of one that has some.
func (o *owning) ofWorkload(k kind, e event) {
	for _, x := range e.both() {
		key := applications.Key{Group: appsv1.GroupName, Kind: "Deployment", Namespace: x.GetNamespace(), Name: x.GetName()}
		if k == statefulSets {
			key.Kind = identities.StatefulSet
			o.p.add(identity + identities.Key{Kind: key.Kind, Namespace: key.Namespace, Name: key.Name}.String())
		}
		if ipam.WantsSubnets(templateOf(x).Annotations) {
			o.p.add(application + key.String())
		}
	}
}

// all has all applications looked at that have pools.
func (o *owning) all() {
	for _, key := range sortedKeys(o.p.view.objects[pools]) {
		o.ofPool(event{key, nil, o.p.view.objects[pools][key]})
	}
}

// kept has all identities looked at for which an address is kept.
func (o *owning) kept() {
	for _, key := range sortedKeys(o.p.view.objects[addresses]) {
		if id := o.p.view.objects[addresses][key].(*v1alpha1.IPAddress).Spec.Identity; id != nil {
			o.p.add(identity + identities.KeyOf(id).String())
		}
	}
}
