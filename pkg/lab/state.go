// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
)

// WriteState writes what a pod, and the node for its pods, hold in the words of
// ip(8): links and addresses, rules, and the routes of every table.
func (l *Lab) WriteState(w io.Writer, pod *Pod) error {
	snap, err := l.observe(pod)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "pod %s: links and addresses\n", pod.Name())
	writeLinks(w, snap)
	fmt.Fprintf(w, "\npod %s: ip rule\n", pod.Name())
	writeRules(w, snap, netstate.Pod)
	fmt.Fprintf(w, "\npod %s: ip route\n", pod.Name())
	writeRoutes(w, snap, netstate.Pod)
	fmt.Fprintf(w, "\nnode: ip rule\n")
	writeRules(w, snap, netstate.Host)
	fmt.Fprintf(w, "\nnode: ip route\n")
	writeRoutes(w, snap, netstate.Host)
	return nil
}

func (l *Lab) observe(pod *Pod) (*netstate.Snapshot, error) {
	snap := netstate.NewSnapshot()
	err := l.Node.Do(func() error {
		k, err := kernel.Open(pod.Path())
		if err != nil {
			return err
		}
		defer k.Close()
		if err := k.ReadPod(snap); err != nil {
			return err
		}
		for _, f := range []netstate.Family{netstate.IPv4, netstate.IPv6} {
			if err := k.Host.ReadRules(snap, f); err != nil {
				return err
			}
			if err := k.Host.ReadRoutes(snap, f, 0, nil); err != nil {
				return err
			}
		}
		return nil
	})
	return snap, err
}

func writeLinks(w io.Writer, snap *netstate.Snapshot) {
	for _, link := range netstate.All[netstate.Link](snap, netstate.Pod) {
		if link.Name == "lo" {
			continue
		}
		fmt.Fprintf(w, "  %s: %s address %s mtu %d\n", link.Name, link.Type, link.MAC, link.MTU)
		for _, addr := range netstate.All[netstate.Addr](snap, netstate.Pod) {
			if addr.Dev == link.Name {
				fmt.Fprintf(w, "    %s\n", addr.Prefix)
			}
		}
	}
}

func writeRules(w io.Writer, snap *netstate.Snapshot, ns netstate.NS) {
	rules := netstate.All[netstate.Rule](snap, ns)
	slices.SortStableFunc(rules, func(a, b netstate.Rule) int {
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Priority, b.Priority))
	})
	for _, rule := range rules {
		fmt.Fprintf(w, "  IPv%d  %s\n", rule.Family, rule)
	}
}

// writeRoutes leaves out what the kernel keeps for itself: the local table and
// the link-local and multicast routes of each link.
func writeRoutes(w io.Writer, snap *netstate.Snapshot, ns netstate.NS) {
	tables := map[int][]netstate.Route{}
	for _, r := range netstate.All[netstate.Route](snap, ns) {
		if dst := r.Dst.Addr(); r.Table == netstate.TableLocal || dst.IsLinkLocalUnicast() || dst.IsMulticast() {
			continue
		}
		number := r.Table
		r.Table = netstate.TableMain // the heading says it
		tables[number] = append(tables[number], r)
	}
	for _, number := range slices.Sorted(maps.Keys(tables)) {
		name := fmt.Sprint(number)
		if number == netstate.TableMain {
			name = "main"
		}
		fmt.Fprintf(w, "  table %s\n", name)
		slices.SortStableFunc(tables[number], func(a, b netstate.Route) int {
			return cmp.Or(a.Dst.Addr().Compare(b.Dst.Addr()), cmp.Compare(a.Dst.Bits(), b.Dst.Bits()))
		})
		for _, r := range tables[number] {
			fmt.Fprintf(w, "    %s\n", r)
		}
	}
}
