// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// object returns an object as JSON.
func object(t testing.TB, spec any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"metadata": map[string]any{"name": "a"}, "spec": spec})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// changed returns what is wrong with a change.
func changed(kind string, now, was []byte) []netconf.Fault {
	if kind == ipam.ReservedKind {
		var s, former ipam.ReservedSpec
		netconf.Object(now, &s)
		netconf.Object(was, &former)
		return s.Change(former)
	}
	var s, former ipam.PoolSpec
	netconf.Object(now, &s)
	netconf.Object(was, &former)
	return s.Change(former.SubnetSpec, nil)
}

// TestFaults has objects with faults, and all that is said of each: those of
// testdata/faults.yaml, which controlplane/admission gives to an API server, too.
func TestFaults(t *testing.T) {
	text, err := os.ReadFile("testdata/faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Case, Kind string
		Spec, Was  map[string]any
		Faults     []string
	}
	if err := yaml.Unmarshal(text, &table); err != nil || len(table) < 60 {
		t.Fatalf("%d cases: %v", len(table), err)
	}
	for _, tt := range table {
		t.Run(tt.Case, func(t *testing.T) {
			faults := ipam.Lint(tt.Kind, object(t, tt.Spec))
			if tt.Was != nil {
				faults = append(faults, changed(tt.Kind, object(t, tt.Spec), object(t, tt.Was))...)
			}
			for _, want := range tt.Faults {
				found := false
				for _, f := range faults {
					found = found || strings.HasPrefix(f.String(), want)
				}
				if !found {
					t.Errorf("nothing says %q: %v", want, faults)
				}
			}
			if len(faults) != len(tt.Faults) {
				t.Errorf("faults: %v", faults)
			}
		})
	}
}

// TestS00003UsedAddressesStay takes addresses out of a pool's ips in each way, while pods
// use some.
func TestS00003UsedAddressesStay(t *testing.T) {
	was := spec("10.6.0.1-10.6.0.9").SubnetSpec
	was.ExcludeIPs = []string{"10.6.0.8"}
	uses := []ipam.Use{{Addr: netip.MustParseAddr("10.6.0.5"), By: "pod default/web"}, {Addr: netip.MustParseAddr("10.6.0.8"), By: "pod default/old"}}
	for _, tt := range []struct{ name, ips, excludeIPs, want string }{
		{"S00003, excluded", "10.6.0.1-10.6.0.9", "10.6.0.4-10.6.0.8", "[spec.excludeIPs: 10.6.0.5: want it not excluded as long as pod default/web uses it]"},
		{"I00002, removed", "10.6.0.1-10.6.0.4", "10.6.0.8", "[spec.ips: 10.6.0.5: want it in ips as long as pod default/web uses it]"},
		{"only others", "10.6.0.5-10.6.0.9", "10.6.0.6-10.6.0.8", "[]"},
		{"added to", "10.6.0.1-10.6.1.9", "10.6.0.8", "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spec(tt.ips).SubnetSpec
			s.ExcludeIPs = []string{tt.excludeIPs}
			if got := fmt.Sprint(s.Change(was, uses)); got != tt.want {
				t.Errorf("%s: want %s", got, tt.want)
			}
		})
	}
}

// TestX13GreatRanges counts what doesn't fit into a number.
func TestX13GreatRanges(t *testing.T) {
	s := ipam.SubnetSpec{Subnet: "fd00::/8", IPs: []string{"fd00::1-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}, ExcludeIPs: []string{"fd00::5-fd12::"}}
	if faults := s.Validate(); len(faults) > 0 {
		t.Error(faults)
	}
	if n := ipam.Count(s.Total()); n != 1<<63-1 {
		t.Errorf("%d", n)
	}
	s.IPs = []string{"fd00::1-fd00::1:0:0"}
	s.ExcludeIPs = nil
	if n := ipam.Count(s.Total()); n != 1<<32 {
		t.Errorf("%d", n)
	}
}

// FuzzValidate has any object of each kind: nothing panics, each fault has words, and what
// has none is a set of addresses within the subnet, without the gateway.
func FuzzValidate(f *testing.F) {
	for _, s := range []string{
		`{"spec": {"subnet": "10.6.0.1/16", "ips": ["10.6.0.1-10.6.0.5"], "gateway": "10.6.0.9", "vlan": 5, "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.1"}]}}`,
		`{"spec": {"subnet": "fd00::/64", "ipVersion": 6, "ips": ["fd00::1-fd00::ffff"], "excludeIPs": ["fd00::2"], "podAffinity": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}}`,
		`{"spec": {"ips": ["1.1.1.1", "::", "::%a", "::ffff:1.1.1.1", "-", "1.1.1.1-", ""], "namespaceName": ["/"], "multusName": ["/", "a/b"], "nodeName": [""]}}`,
		`{"spec": {"subnet": "0.0.0.0/0", "ips": ["0.0.0.0-255.255.255.255"], "gateway": "::"}}`, `{"spec": 5}`, `[]`,
	} {
		f.Add([]byte(s), []byte(s))
	}
	f.Fuzz(func(t *testing.T, text, former []byte) {
		for _, kind := range []string{ipam.SubnetKind, ipam.PoolKind, ipam.ReservedKind} {
			faults := append(ipam.Lint(kind, text), changed(kind, text, former)...)
			for _, fault := range faults {
				if fault.Path == "" || fault.Message == "" {
					t.Errorf("%s: a fault without words: %q", kind, fault)
				}
			}
		}
		var s ipam.PoolSpec
		if _, faults := netconf.Object(text, &s); len(faults) > 0 {
			return
		}
		for _, fault := range s.Validate() {
			if !fault.Warning {
				return
			}
		}
		total := s.Total()
		for _, r := range total.Ranges() {
			if !s.Prefix().Contains(r.From()) || !s.Prefix().Contains(r.To()) {
				t.Errorf("%s isn't in %s", r, s.Subnet)
			}
		}
		if ipam.Count(total) < 0 {
			t.Error("a negative count")
		}
		standing := ipam.Usable([]ipam.Pool{{Name: "a", Spec: s}}, nil, nil)["a"]
		if standing.Gateway.IsValid() && standing.Free.Contains(standing.Gateway) {
			t.Errorf("the gateway %s is free", standing.Gateway)
		}
		if len(ipam.Without(standing.Free, total).Ranges()) > 0 {
			t.Errorf("%v is free of %v", ipam.Text(standing.Free), s.IPs)
		}
	})
}

// FuzzParseRange reads any text: what it takes, it writes and reads again as the same.
func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"10.6.0.1", "10.6.0.1-10.6.0.9", "fd00::1-fd00::9", "fd00::1-10.6.0.1", "-", "10.6.0.9-10.6.0.1", "::ffff:1.1.1.1", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ipam.ParseRange(text)
		if err != nil {
			return
		}
		if !r.IsValid() || r.From().Is4() != r.To().Is4() || strings.ContainsAny(text, "/% ") {
			t.Errorf("%q is %s", text, r)
		}
		again := ipam.Addresses(ipam.Text(ipam.Addresses([]string{text}))).Ranges()
		if len(again) != 1 || again[0] != r {
			t.Errorf("%q: %v", text, again)
		}
	})
}
