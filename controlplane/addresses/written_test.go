// SPDX-License-Identifier: Apache-2.0

package addresses

import (
	"context"
	"net/netip"
	"strconv"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/ipam"
)

// TestBehind: a name isn't looked at while the cache lacks what was written about it, but not
// for ever.
func TestBehind(t *testing.T) {
	key := types.NamespacedName{Namespace: "ns", Name: "web"}
	claim := func(version string) *v2beta1.SpiderEndpoint {
		return &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
	}
	address := func(version string) *v1alpha1.IPAddress {
		return &v1alpha1.IPAddress{ObjectMeta: metav1.ObjectMeta{Name: "10.6.0.1", ResourceVersion: version}}
	}
	for name, tt := range map[string]struct {
		claim   *v2beta1.SpiderEndpoint
		address *v1alpha1.IPAddress
		after   time.Duration
		want    time.Duration
	}{
		"all is there":            {claim("20"), address("19"), 0, 0},
		"all is newer":            {claim("100"), address("21"), 0, 0},
		"the claim before that":   {claim("9"), address("19"), 0, patience},
		"no claim":                {nil, address("19"), 0, patience},
		"no address":              {claim("20"), nil, 0, patience},
		"the address before that": {claim("20"), address("7"), patience / 4, patience * 3 / 4},
		"too late":                {claim("9"), nil, patience, 0},
		"versions aren't numbers": {claim("a"), address("b"), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Unix(1000, 0)
			c := &Controller{Now: func() time.Time { return now }}
			c.init()
			o := Observed{Key: key, Claim: tt.claim, Addresses: map[string]*v1alpha1.IPAddress{}}
			if tt.address != nil {
				o.Addresses["10.6.0.1"] = tt.address
			}
			if wait := c.behind(o); wait != 0 {
				t.Errorf("nothing was written, and it waits for %v", wait)
			}
			c.wrote(key, claim("20"), []*v1alpha1.IPAddress{address("19")})
			now = now.Add(tt.after)
			if wait := c.behind(o); wait != tt.want {
				t.Errorf("waits for %v, want %v", wait, tt.want)
			}
			if known := len(c.writes) > 0; known != (tt.want > 0) {
				t.Errorf("remembered: %v", known)
			}
		})
	}
}

// TestCaughtUp: nothing is handed out while the cache lacks the claim as the API server has it, and
// at first the newest of all claims.
func TestCaughtUp(t *testing.T) {
	claim := func(version string) *v2beta1.SpiderEndpoint {
		return &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}}
	}
	for name, tt := range map[string]struct {
		followed []string
		all      claimPages
		want     bool
	}{
		"nothing":                           {nil, nil, false},
		"it was followed":                   {[]string{"9", "20"}, claimPages{{"20"}}, true},
		"a newer one, then less":            {[]string{"100", "9"}, claimPages{{"20"}}, true},
		"older ones":                        {[]string{"9", "19"}, claimPages{{"20"}}, false},
		"all that there are":                {[]string{"9", "20", "100"}, claimPages{{"20", "100"}, {"9"}}, true},
		"not the newest, on the first page": {[]string{"9", "20"}, claimPages{{"20", "100"}, {"9"}}, false},
		"not the newest, on the last page":  {[]string{"9", "20"}, claimPages{{"9"}, {"20", "100"}}, false},
		"an older one was deleted":          {[]string{"9", "20"}, claimPages{{"20"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := &Controller{Until: func(is func() bool) bool { return is() }, Live: tt.all}
			c.init()
			for _, version := range tt.followed {
				c.OnClaim(nil, claim(version))
			}
			if err := c.caughtUp(t.Context(), claim("20")); err != nil && !apierrors.IsConflict(err) || (err == nil) != tt.want {
				t.Errorf("caught up: %v: want %v", err, tt.want)
			}
			c.Live = nil // it is asked once
			if tt.want && c.caughtUp(t.Context(), claim("20")) != nil {
				t.Error("not caught up the second time")
			}
		})
	}
}

// TestBeginsOnce: of the pods that want addresses at first, one has the claims listed, and if that
// fails, another one.
func TestBeginsOnce(t *testing.T) {
	c := &Controller{Until: func(is func() bool) bool { return is() }}
	c.init()
	c.begins = true
	if err := c.begin(t.Context()); !apierrors.IsConflict(err) {
		t.Errorf("another one asks: %v", err)
	}
	c.begins, c.Live = false, noAnswer{}
	if err := c.begin(t.Context()); !apierrors.IsTimeout(err) {
		t.Errorf("the API server doesn't answer: %v", err)
	}
	c.Live = claimPages{}
	if err := c.begin(t.Context()); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

// TestConfirm: a controller that made an IPAddress long after it decided to looks whether a claim that it didn't
// know names the address. Then it gives it back. A new attempt doesn't take such an address either.
func TestConfirm(t *testing.T) {
	for name, tt := range map[string]struct {
		names    string
		live     client.Reader
		conflict bool
		deleted  bool
	}{
		"a claim names it":                 {"10.6.0.1", claimPages{{"20"}}, true, true},
		"a claim names another one":        {"10.6.0.2", claimPages{{"20"}}, false, false},
		"a claim isn't in the cache yet":   {"10.6.0.2", claimPages{{"21"}}, true, false},
		"the API server gives no answer":   {"10.6.0.1", noAnswer{}, false, false},
		"it has no claims, and one was it": {"10.6.0.1", claimPages{}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			writes := &deletions{}
			c := &Controller{Now: func() time.Time { return time.Time{} }, Until: func(is func() bool) bool { return is() }, Live: tt.live, Writer: writes}
			c.init()
			c.OnClaim(nil, &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Name: "other", ResourceVersion: "20"}, Status: v2beta1.SpiderEndpointStatus{
				Current: &v2beta1.PodCurrent{IPs: []v2beta1.NICAddresses{{Interface: "net1", IPv4: tt.names + "/16", IPv4Pool: "lan"}}},
			}})
			k := ipam.Key{Addr: netip.MustParseAddr("10.6.0.1")}
			o := &Observed{Claim: &v2beta1.SpiderEndpoint{Spec: v2beta1.SpiderEndpointSpec{PodUID: "1"}}, Addresses: map[string]*v1alpha1.IPAddress{}}
			a := Address(k, "lan", v1alpha1.Holder{PodUID: "1", Interface: "net1"})
			o.Addresses[a.Name] = a
			held, _ := adopt(o, []ipam.Need{{Interface: "net1", Pools: []string{"lan"}}}, c.namedByAnother)
			if named := tt.names == "10.6.0.1"; (len(held) == 0) != named {
				t.Errorf("a new attempt takes %v", held)
			}
			err := c.confirm(t.Context(), o, []*v1alpha1.IPAddress{a})
			if apierrors.IsConflict(err) != tt.conflict || writes.n > 0 != tt.deleted || err == nil != (name == "a claim names another one") {
				t.Errorf("%v, %d deletions", err, writes.n)
			}
		})
	}
}

// deletions are an API server on which objects are deleted.
type deletions struct {
	client.Client
	n int
}

func (d *deletions) Delete(context.Context, client.Object, ...client.DeleteOption) error {
	d.n++
	return nil
}

// claimPages are the versions of the claims that the API server has, page by page.
type claimPages [][]string

func (claimPages) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	panic("not asked for")
}

func (pages claimPages) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(opts)
	at, _ := strconv.Atoi(o.Continue)
	if at+1 < len(pages) {
		into.SetContinue(strconv.Itoa(at + 1))
	}
	if at < len(pages) {
		for _, version := range pages[at] {
			into.(*metav1.PartialObjectMetadataList).Items = append(into.(*metav1.PartialObjectMetadataList).Items,
				metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}})
		}
	}
	return nil
}

// noAnswer is an API server that doesn't answer.
type noAnswer struct{ claimPages }

func (noAnswer) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return apierrors.NewTimeoutError("no answer", 1)
}

var (
	first, second = types.NamespacedName{Name: "first"}, types.NamespacedName{Name: "second"}
	both          = []ipam.Need{{Interface: "net1", Pools: []string{"lan"}}, {Interface: "net2", Pools: []string{"lan"}}}
)

// queue returns a controller with a pool of two addresses, which two pods want, each both of them. The
// first was granted them.
func queue() *Controller {
	c := &Controller{Now: func() time.Time { return time.Time{} }, Wake: func(types.NamespacedName) {}}
	c.init()
	c.ledger.SetPools(map[string]ipam.Stock{"lan": {Free: ipam.Addresses([]string{"10.6.0.1", "10.6.0.2"})}})
	for _, key := range []types.NamespacedName{first, second} {
		c.line[key] = ipam.Applicant{ID: key.Name, Needs: both}
		c.serve(types.NamespacedName{})
	}
	return c
}

// TestGrantNamed: a pod doesn't take what it was granted if a claim turned up that names it.
func TestGrantNamed(t *testing.T) {
	for name, named := range map[string]bool{"one is named": true, "none is": false} {
		t.Run(name, func(t *testing.T) {
			c := queue()
			if named {
				c.ledger.Name(ipam.Key{Addr: netip.MustParseAddr("10.6.0.2")})
			}
			got, lack := c.apply(&Observed{Key: first, Claim: &v2beta1.SpiderEndpoint{Spec: v2beta1.SpiderEndpointSpec{PodUID: first.Name}}}, both)
			if (len(got) == 0) != named || (len(lack) > 0) != named {
				t.Errorf("the pod takes %v and lacks %v", got, lack)
			}
		})
	}
}

// TestTakeBack: what a pod gives back to the line is the line's, all of it.
func TestTakeBack(t *testing.T) {
	c := queue()
	// An event about the second address says that it is free.
	c.ledger.Clear(ipam.Key{Addr: netip.MustParseAddr("10.6.0.2")}, ipam.Promise)
	c.quit(first)
	got := c.granted[second].got
	if len(got) != 2 {
		t.Fatalf("the second pod is granted %v: want both addresses", got)
	}
	for _, g := range got {
		if !c.ledger.Taken(g.Key) {
			t.Errorf("%s isn't promised to the second pod any more", g.Key)
		}
	}
}
