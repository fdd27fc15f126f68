// SPDX-License-Identifier: Apache-2.0

package addresses_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/multihome/multihome/controlplane/api/staticmacvlan"
	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/ipam"
)

// table returns what kubectl get prints without -o wide, a line for each object.
func (b *bench) table(path string) string {
	b.Helper()
	conf := testcluster.Config(b)
	c, err := rest.HTTPClientFor(conf)
	if err != nil {
		b.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, conf.Host+"/apis/"+staticmacvlan.GroupVersion.String()+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	resp, err := c.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.Fatal(err)
	}
	var t metav1.Table
	if err := json.Unmarshal(body, &t); err != nil {
		b.Fatalf("%s: %v", body, err)
	}
	var head []string
	for _, d := range t.ColumnDefinitions {
		if d.Priority == 0 {
			head = append(head, strings.ToUpper(d.Name))
		}
	}
	lines := []string{strings.Join(head, " ")}
	for _, r := range t.Rows {
		var cells []string
		for i, cell := range r.Cells {
			if t.ColumnDefinitions[i].Priority == 0 {
				cells = append(cells, fmt.Sprint(cell))
			}
		}
		lines = append(lines, strings.Join(cells, " "))
	}
	return strings.Join(lines, "\n")
}

// TestS4Example: the files of examples/static-macvlan work as they are, and kubectl prints the
// columns of the seed. A VLANSubnet with a namespace is taken, too.
func TestS4Example(t *testing.T) {
	b := newBench(t)
	b.Node("node1")
	b.start(nil)
	for _, file := range []string{"static-macvlan-cni", "vlan-subnet", "pod-1", "pod-2"} {
		text, err := os.ReadFile(filepath.Join("../../examples/static-macvlan", file+".yml"))
		if err != nil {
			t.Fatal(err)
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, o); err != nil {
			t.Fatal(err)
		}
		o.SetNamespace(b.NS)
		if o.GetKind() == "Pod" {
			if err := unstructured.SetNestedField(o.Object, "node1", "spec", "nodeName"); err != nil {
				t.Fatal(err)
			}
		}
		b.Create(o)
	}
	if got := b.ready("samplepod1"); got != "net1 192.168.1.100/24" {
		t.Errorf("samplepod1 has %s", got)
	}
	if got := b.ready("samplepod2"); got != "net1 192.168.1.1/24" {
		t.Errorf("samplepod2 has %s", got)
	}
	if got, want := b.table("/vlansubnets"), "NAME MASTER CIDR\nmv1.100 eth0 192.168.1.0/24"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, want := b.table("/namespaces/"+b.NS+"/staticpods"), "NAME VLAN POD-ID IP MAC"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestVLANSubnetRules: what the definition refuses, without a webhook.
func TestVLANSubnetRules(t *testing.T) {
	b := newBench(t)
	good := ipam.VLANSubnetSpec{Master: "eth0", VLAN: 100, CIDR: "192.168.1.0/24"}
	refused := func(name, want string, change func(*ipam.VLANSubnetSpec)) {
		t.Helper()
		v := &staticmacvlan.VLANSubnet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: good}
		change(&v.Spec)
		if err := b.C.Create(t.Context(), v); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	refused("a-long-name-of-a-vlan", "want at most 15 bytes", func(*ipam.VLANSubnetSpec) {})
	refused("eth0", "want another name than that of master", func(*ipam.VLANSubnetSpec) {})
	refused("a", "want the name of a link of the nodes", func(s *ipam.VLANSubnetSpec) { s.Master = "a/b" })
	refused("a", "4094", func(s *ipam.VLANSubnetSpec) { s.VLAN = 4095 })
	refused("a", "want a CIDR", func(s *ipam.VLANSubnetSpec) { s.CIDR = "192.168.1.0" })
	refused("a", "want an address of cidr 192.168.1.0/24", func(s *ipam.VLANSubnetSpec) { s.Gateway = "10.0.0.1" })
	refused("a", "want rangeStart and rangeEnd in cidr 192.168.1.0/24", func(s *ipam.VLANSubnetSpec) {
		s.Ranges = []ipam.VLANRange{{RangeStart: "192.168.1.5", RangeEnd: "192.168.2.5"}}
	})
	refused("a", "gw: want addresses of cidr", func(s *ipam.VLANSubnetSpec) { s.Routes = []ipam.Route{{Dst: "10.7.0.0/16", Gw: "10.0.0.1"}} })
	refused("a", "mode", func(s *ipam.VLANSubnetSpec) { s.Mode = "l2" })
	v := b.vlanSubnet("mv1.100", 100, "192.168.1.0/24")
	v.Spec.CIDR = "192.168.2.0/24"
	v.Spec.Gateway = ""
	if err := b.C.Update(t.Context(), v); err == nil || !strings.Contains(err.Error(), "want 192.168.1.0/24, as it was") {
		t.Errorf("%v", err)
	}
	v.Spec.CIDR, v.Spec.VLAN = "192.168.1.0/24", 200
	if err := b.C.Update(t.Context(), v); err == nil || !strings.Contains(err.Error(), "make another VLANSubnet for another VLAN") {
		t.Errorf("%v", err)
	}
}
