// SPDX-License-Identifier: Apache-2.0

package ipam_test

import (
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/pkg/ipam"
)

// A pod with an overlay's NIC and one on the LAN. When its claim is made, Attachments and
// NICs say what it wants; at each attempt, Candidates says from which pools.
func Example() {
	pod := ipam.PodFacts{
		Namespace: "shop", Name: "web-0", NodeName: "node1",
		Annotations: map[string]string{
			ipam.NetworksAnnotation: "kube-system/lan@net1",
			ipam.IPPoolsAnnotation:  `[{"interface": "net1", "ipv4": ["rack-*", "spare"]}]`,
			ipam.RoutesAnnotation:   `[{"dst": "10.7.0.0/16", "gw": "10.6.0.254"}]`,
		},
	}
	attachments, err := ipam.Attachments(pod, ipam.Settings{})
	if err != nil {
		fmt.Println(err)
		return
	}
	configs := map[string]string{"kube-system/lan": `{"name": "lan", "type": "macvlan", "ipam": {"type": "spiderpool"}}`}
	intent, err := ipam.NICs(pod, nil, attachments, configs)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("late:", intent.Late)

	pools := ipam.NewPools([]ipam.PoolView{
		{Name: "spare", Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16"}}},
		{Name: "rack-b", Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16"}, NodeName: []string{"node2"}}},
		{Name: "rack-a", Spec: ipam.PoolSpec{SubnetSpec: ipam.SubnetSpec{Subnet: "10.6.0.0/16"}, NodeName: []string{"node1"}}},
	})
	for _, n := range intent.NICs {
		needs, rejected := ipam.Candidates(n, pools, ipam.Place{Pod: pod})
		fmt.Println(n.Interface, n.NAD, "tries", needs[0].Pools)
		fmt.Println(ipam.Explain(n, needs[0], rejected))
	}
	routes, left := ipam.AnswerRoutes(intent.NICs, []ipam.Got{{Interface: "net1", Subnet: netip.MustParsePrefix("10.6.0.0/16")}})
	fmt.Println(routes["net1"], left)
	// Output:
	// late: [eth0]
	// net1 kube-system/lan tries [rack-a spare]
	// no IPv4 pool for net1 (annotation ipam.spidernet.io/ippools of the pod): pool rack-b: spec.nodeName is node2, and the node is node1
	// [{10.7.0.0/16 10.6.0.254}] []
}
