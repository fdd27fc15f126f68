// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestSettings writes each setting of a link, by /proc/sys and as an operation and
// back: what is read of all of them is each time what /proc/sys has.
func TestSettings(t *testing.T) {
	node, err := testbed.NewNetns("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	const dev = "lo"
	all := []netstate.Sysctl{
		{Family: netstate.IPv4, Dev: dev, Name: "rp_filter", Value: 2},
		{Family: netstate.IPv4, Dev: dev, Name: "arp_announce", Value: 2},
		{Family: netstate.IPv4, Dev: dev, Name: "arp_ignore", Value: 8},
		{Family: netstate.IPv4, Dev: dev, Name: "arp_notify", Value: 1},
		{Family: netstate.IPv4, Dev: dev, Name: "log_martians", Value: 1}, // by its file alone
		{Family: netstate.IPv6, Dev: dev, Name: "accept_ra", Value: 2},
		{Family: netstate.IPv6, Dev: dev, Name: "accept_ra_defrtr", Value: 0},
		{Family: netstate.IPv6, Dev: dev, Name: "disable_ipv6", Value: 1},
		{Family: netstate.IPv6, Dev: dev, Name: "ndisc_notify", Value: 1},
		{Family: netstate.IPv4, Dev: "all", Name: "rp_filter", Value: 2},
	}
	metric := netstate.Sysctl{Family: netstate.IPv6, Dev: dev, Name: "ra_defrtr_metric", Value: 2048} // since Linux 5.12
	_, err = node.Sysctl(strings.TrimPrefix(metric.Path(), "net/"))
	hasMetric := err == nil
	if hasMetric {
		all = append(all, metric)
	}
	value := func(c netstate.Sysctl) int {
		text, err := node.Sysctl(strings.TrimPrefix(c.Path(), "net/"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	check := func(k *kernel.Namespaces, after string) {
		t.Helper()
		snap := netstate.NewSnapshot()
		for _, c := range all {
			if err := k.Host.ReadSysctl(snap, c); err != nil {
				t.Fatal(err)
			}
			if have, _ := netstate.Get(snap, netstate.Host, c); have.Value != value(c) {
				t.Errorf("after %s: read %s, want %d", after, have, value(c))
			}
		}
	}
	err = node.Do(func() error {
		k, err := kernel.OpenHost()
		if err != nil {
			return err
		}
		defer k.Close()
		if err := k.Host.ReadLink(netstate.NewSnapshot(), dev); err != nil {
			return err
		}
		if _, known := k.Host.Known(metric); known != hasMetric {
			t.Errorf("the kernel has %s: %t, and says so: %t", metric, hasMetric, known)
		}
		for _, set := range all {
			before := set
			before.Value = value(set)
			if before.Value == set.Value {
				t.Errorf("%s from the start", set)
			}
			if err := node.SetSysctl(strings.TrimPrefix(set.Path(), "net/"), strconv.Itoa(set.Value)); err != nil {
				return err
			}
			if err := k.Host.ReadLink(netstate.NewSnapshot(), dev); err != nil {
				return err
			}
			check(k, "sysctl -w "+set.String())
			for _, op := range []netstate.Op{
				{NS: netstate.Host, Before: set, After: before},
				{NS: netstate.Host, Before: before, After: set},
				{NS: netstate.Host, Before: set, After: before},
			} {
				if err := k.Apply([]netstate.Op{op}); err != nil {
					return err
				}
				if want := op.After.(netstate.Sysctl); value(want) != want.Value {
					t.Errorf("%s: it is %d", op.Describe(), value(want))
				}
				check(k, op.Describe())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
