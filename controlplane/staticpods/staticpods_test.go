// SPDX-License-Identifier: Apache-2.0

package staticpods_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/staticpods"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// claim returns the claim of a pod with NICs on VLANSubnets, and one of another kind.
func claim(ns, uid string, ips ...string) *v2beta1.SpiderEndpoint {
	c := &v2beta1.SpiderEndpoint{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "samplepod1"}}
	c.Spec.PodUID, c.Spec.NodeName, c.Spec.Since = uid, "node1", metav1.Now()
	c.Spec.NICs = []v2beta1.EndpointNIC{{Interface: "net1", Network: "lan"}}
	c.Status.Phase = v2beta1.Allocated
	c.Status.Current = &v2beta1.PodCurrent{UID: uid, Node: "node1", IPs: []v2beta1.NICAddresses{{Interface: "net1", IPv4: "10.6.0.5/16"}}}
	for i, ip := range ips {
		nic := []string{"net2", "net3"}[i]
		c.Spec.NICs = append(c.Spec.NICs, v2beta1.EndpointNIC{Interface: nic, Network: "static", Static: &ipam.StaticNIC{VLANSubnet: []string{"mv1.100", "mv2"}[i]}})
		c.Status.Current.IPs = append(c.Status.Current.IPs, v2beta1.NICAddresses{Interface: nic, IPv4: ip, MAC: []string{"0a:00:27:00:00:00", ""}[i]})
	}
	return c
}

// withMACs returns the claim of a pod with two NICs on VLANSubnets, which have these MACs.
func withMACs(macs ...string) *v2beta1.SpiderEndpoint {
	c := claim("ns", "u", "192.168.1.100/24", "10.0.0.5/8")
	for i, mac := range macs {
		c.Status.Current.IPs[1+i].MAC = mac
	}
	return c
}

// TestRecord: what a record says, and when there is none.
func TestRecord(t *testing.T) {
	for _, x := range []struct {
		claim *v2beta1.SpiderEndpoint
		want  string
	}{
		{nil, ""},
		{claim("ns", "u"), ""},
		{claim("ns", "u", "192.168.1.100/24"), "ns samplepod1 u mv1.100 192.168.1.100/24 0a:00:27:00:00:00"},
		{claim("ns", "u", "192.168.1.100/24", "10.0.0.5/8"), "ns samplepod1 u mv1.100,mv2 192.168.1.100/24,10.0.0.5/8 0a:00:27:00:00:00,"},
		{withMACs("", "0a:00:27:00:00:00"), "ns samplepod1 u mv1.100,mv2 192.168.1.100/24,10.0.0.5/8 ,0a:00:27:00:00:00"},
		{withMACs("", ""), "ns samplepod1 u mv1.100,mv2 192.168.1.100/24,10.0.0.5/8 "},
	} {
		got := ""
		if r := staticpods.Record(x.claim); r != nil {
			got = strings.Join([]string{r.Spec.PodNamespace, r.Spec.PodName, r.Spec.PodID, r.Spec.VLAN, r.Spec.IP, r.Spec.MAC}, " ")
		}
		if got != x.want {
			t.Errorf("got %q, want %q", got, x.want)
		}
	}
}

// TestX23SameName: a record that nobody removed when its pod was deleted, because no controller
// ran, is another one when a pod of the name has addresses, and goes with its claim.
func TestX23SameName(t *testing.T) {
	c := testcluster.Client(t)
	ns := testcluster.Namespace(t, c)
	old := staticpods.Record(claim(ns, "former", "192.168.1.7/24"))
	old.OwnerReferences = nil
	if err := c.Create(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	now := claim(ns, "new", "192.168.1.100/24")
	status := now.Status
	if err := c.Create(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	now.Status = status
	if err := c.Status().Update(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(testcluster.Config(t), ctrl.Options{
		Scheme: testcluster.Scheme(t), Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := staticpods.Add(mgr); err != nil {
		t.Fatal(err)
	}
	go func() { _ = mgr.Start(t.Context()) }()
	key := client.ObjectKeyFromObject(now)
	eventually(t, func() error {
		got := &staticmacvlan.StaticPod{}
		if err := c.Get(t.Context(), key, got); err != nil {
			return err
		}
		if got.UID == old.UID || got.Spec.PodID != "new" || got.Spec.IP != "192.168.1.100/24" {
			return errors.New("it is the former pod's: " + got.Spec.PodID + " " + got.Spec.IP)
		}
		return nil
	})
	// Somebody's edit is undone.
	got := &staticmacvlan.StaticPod{}
	if err := c.Get(t.Context(), key, got); err != nil {
		t.Fatal(err)
	}
	got.Spec.IP = "192.168.1.1/24"
	if err := c.Update(t.Context(), got); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if err := c.Get(t.Context(), key, got); err != nil || got.Spec.IP != "192.168.1.100/24" {
			return errors.New("it is as somebody wrote it")
		}
		return nil
	})
	if err := c.Delete(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if err := c.Get(t.Context(), key, got); !apierrors.IsNotFound(err) {
			return errors.New("the record is there without its claim")
		}
		return nil
	})
}

func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for range 600 {
		if err = f(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(err)
}
