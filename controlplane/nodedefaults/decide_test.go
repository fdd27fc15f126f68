// SPDX-License-Identifier: Apache-2.0

package nodedefaults

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/netconf"
)

func TestDecide(t *testing.T) {
	own := []netip.Prefix{netip.MustParsePrefix("10.6.168.123/16")}
	synced := v2beta1.SpiderCoordinatorStatus{Phase: v2beta1.Synced, ServiceCIDR: []string{"10.96.0.0/12", "fd00:10:96::/108"}, OverlayPodCIDR: []string{"10.244.0.0/16"}}
	kept := synced
	kept.Phase = v2beta1.NotReady
	lists := `"overlayPodCIDR":["10.244.0.0/16"],"serviceCIDR":["10.96.0.0/12","fd00:10:96::/108"]`
	for name, tt := range map[string]struct {
		spec   netconf.ClusterCoordinator
		status v2beta1.SpiderCoordinatorStatus
		want   string // "": the file stays
		fault  string
	}{
		"new":                {},
		"nothing found":      {status: v2beta1.SpiderCoordinatorStatus{Phase: v2beta1.NotReady, Reason: "no service CIDRs"}},
		"found":              {status: synced, want: "{" + lists + "}"},
		"the last good list": {status: kept, want: "{" + lists + "}"},
		"one of two":         {status: v2beta1.SpiderCoordinatorStatus{Phase: v2beta1.NotReady, ServiceCIDR: []string{"10.96.0.0/12"}}, want: `{"serviceCIDR":["10.96.0.0/12"]}`},
		"no other network":   {status: v2beta1.SpiderCoordinatorStatus{Phase: v2beta1.Synced}, want: "{}"},
		"settings": {
			spec: netconf.ClusterCoordinator{
				Coordinator: netconf.Coordinator{
					Mode: "underlay", PodCIDRType: "auto", HijackCIDR: []string{"169.254.20.10"}, PodMACPrefix: "0a:1b", TunePodRoutes: new(false), PodDefaultRouteNIC: "net1",
					HostRuleTable: new(600), PodRPFilter: new(-7), TxQueueLen: new(0), VethLinkAddress: "169.254.200.1", VethMTU: new(1400), DetectIPConflict: new(true), DetectGateway: new(false),
					PolicyRoutes: []netconf.PolicyRoute{{Dst: "192.168.0.0/16", Gw: "10.6.0.2"}},
				},
				Mend: new(false),
			},
			status: synced,
			want: `{"detectGateway":false,"detectIPConflict":true,"hijackCIDR":["169.254.20.10/32"],"hostRuleTable":600,"mend":false,"mode":"underlay",` +
				`"overlayPodCIDR":["10.244.0.0/16"],"podDefaultRouteNic":"net1","podMACPrefix":"0a:1b","podRPFilter":-1,` +
				`"policyRoutes":[{"dst":"192.168.0.0/16","gw":"10.6.0.2"}],"serviceCIDR":["10.96.0.0/12","fd00:10:96::/108"],` +
				`"tunePodRoutes":false,"txQueueLen":0,"vethLinkAddress":"169.254.200.1","vethMTU":1400}`,
		},
		"the node's own subnet": {
			spec: netconf.ClusterCoordinator{Coordinator: netconf.Coordinator{HijackCIDR: []string{"10.6.7.0/24"}}}, status: synced,
			fault: "SpiderCoordinator default: hijackCIDR: 10.6.7.0/24: it overlaps 10.6.168.123/16, a subnet of the node itself",
		},
		"a default route": {
			spec: netconf.ClusterCoordinator{Coordinator: netconf.Coordinator{HijackCIDR: []string{"0.0.0.0/0"}}}, status: synced,
			fault: "is the default route",
		},
		"a value that is none": {
			spec: netconf.ClusterCoordinator{Coordinator: netconf.Coordinator{VethMTU: new(1)}}, status: synced,
			fault: "SpiderCoordinator default: vethMTU: 1: want a number from 68 to 65535",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := &v2beta1.SpiderCoordinator{Spec: tt.spec, Status: tt.status}
			c.Name = Name
			keys, err := Decide(c, own)
			got := ""
			if keys != nil {
				text, err := json.Marshal(keys)
				if err != nil {
					t.Fatal(err)
				}
				got = string(text)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err != nil) != (tt.fault != "") || err != nil && !strings.Contains(err.Error(), tt.fault) {
				t.Errorf("got %v, want %q", err, tt.fault)
			}
		})
	}
}
