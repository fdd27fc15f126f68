// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"net/netip"
	"slices"
)

// Got is what a NIC has of one family.
type Got struct {
	Interface string
	Subnet    netip.Prefix // of the pool
	Routes    []Route      // of the pool
}

// AnswerRoutes returns the routes of each NIC, by interface: those of its pools, and those of
// the pod's annotation whose gateway is in one of its subnets. A route of the annotation
// replaces one of a pool with the same destination. It goes to the first NIC that has the
// gateway's subnet, in the order of nics; left has those that none has. The default
// route to the pools' gateways isn't among the routes: it follows from gateway and
// CleanGateway.
func AnswerRoutes(nics []NIC, got []Got) (routes map[string][]Route, left []Route) {
	routes = map[string][]Route{}
	for _, g := range got {
		for _, r := range g.Routes {
			routes[g.Interface] = put(routes[g.Interface], r)
		}
	}
	taken := map[Route]bool{}
	for _, n := range nics {
		for _, r := range n.Routes {
			gw, _ := netip.ParseAddr(r.Gw)
			if !taken[r] && slices.ContainsFunc(got, func(g Got) bool { return g.Interface == n.Interface && g.Subnet.Contains(gw) }) {
				routes[n.Interface] = put(routes[n.Interface], r)
				taken[r] = true
			}
		}
	}
	for _, n := range nics {
		for _, r := range n.Routes {
			if !taken[r] && !slices.Contains(left, r) {
				left = append(left, r)
			}
		}
	}
	return routes, left
}

// put adds a route, in the place of one with the same destination.
func put(routes []Route, r Route) []Route {
	for i, o := range routes {
		if prefixOf(o.Dst) == prefixOf(r.Dst) {
			routes[i] = r
			return routes
		}
	}
	return append(routes, r)
}
