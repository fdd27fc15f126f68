// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/nettest"
)

// others change what is theirs on a node, each sort of object some hundred times a
// second, beside some hundred that stay: a dump of them takes several messages, and what
// changes in between interrupts it.
type others struct {
	node    *nettest.Netns
	sorts   []sortOfOthers
	wg      sync.WaitGroup
	stopped chan struct{}

	changes, interrupted atomic.Int64
}

// sortOfOthers makes and removes numbered objects of one sort, and lists them.
type sortOfOthers struct {
	stay     int
	add, del func(h *netlink.Handle, i int) error
	list     func(h *netlink.Handle) error
}

// holder is the link that the others' addresses are on, and their routes go by;
// its name says that they are not the node's.
const holder = "kube-ipvs0"

// othersTable is where their rules lead.
const othersTable = 77

func startOthers(t *testing.T, node *nettest.Netns) *others {
	t.Helper()
	o := &others{node: node, stopped: make(chan struct{})}
	if err := node.AddBridge(holder); err != nil {
		t.Fatal(err)
	}
	var index int
	err := o.with(func(h *netlink.Handle) error {
		l, err := h.LinkByName(holder)
		if err == nil {
			index = l.Attrs().Index
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	o.sorts = []sortOfOthers{linksOfOthers()}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		o.sorts = append(o.sorts,
			addrsOfOthers(family, index),
			routesOfOthers(family, index, unix.RT_TABLE_MAIN), routesOfOthers(family, index, othersTable),
			rulesOfOthers(family, 900, 0), // before ours
			rulesOfOthers(family, 2000, 400))
	}
	for _, sort := range o.sorts {
		err := o.with(func(h *netlink.Handle) error {
			for i := range sort.stay {
				if err := sort.add(h, i); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sort := range o.sorts {
		o.wg.Go(func() { o.change(t, sort) })
		o.wg.Go(func() { o.watch(t, sort) })
	}
	return o
}

// with runs f with a handle of its own.
func (o *others) with(f func(*netlink.Handle) error) error {
	var h *netlink.Handle
	err := o.node.Do(func() (err error) { h, err = netlink.NewHandle(unix.NETLINK_ROUTE); return err })
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// change makes and removes one object after the other.
func (o *others) change(t *testing.T, sort sortOfOthers) {
	err := o.with(func(h *netlink.Handle) error {
		for i := 0; ; i++ {
			select {
			case <-o.stopped:
				return nil
			case <-time.After(time.Millisecond): // pods are to have a share of the processor
			}
			n := sort.stay + i%50
			if err := errors.Join(sort.add(h, n), sort.del(h, n)); err != nil {
				return err
			}
			o.changes.Add(2)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// watch counts the dumps that are interrupted.
func (o *others) watch(t *testing.T, sort sortOfOthers) {
	err := o.with(func(h *netlink.Handle) error {
		for {
			select {
			case <-o.stopped:
				return nil
			case <-time.After(10 * time.Millisecond):
			}
			err := sort.list(h)
			if errors.Is(err, netlink.ErrDumpInterrupted) {
				o.interrupted.Add(1)
			} else if err != nil {
				return err
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// stop takes away all that is the others', and returns how often they changed
// something, and how many dumps that interrupted.
func (o *others) stop(t *testing.T) (changes, interrupted int64) {
	t.Helper()
	close(o.stopped)
	o.wg.Wait()
	for _, sort := range slices.Backward(o.sorts) { // routes go with the last address
		err := o.with(func(h *netlink.Handle) (err error) {
			for i := range sort.stay {
				err = errors.Join(err, sort.del(h, i))
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if err := o.node.DeleteLink(holder); err != nil {
		t.Error(err)
	}
	return o.changes.Load(), o.interrupted.Load()
}

// linksOfOthers have no addresses, and names that may be the node's own.
func linksOfOthers() sortOfOthers {
	link := func(i int) netlink.Link {
		return &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprint("lan", i), Flags: net.FlagUp}}
	}
	return sortOfOthers{
		stay: 50,
		add:  func(h *netlink.Handle, i int) error { return h.LinkAdd(link(i)) },
		del:  func(h *netlink.Handle, i int) error { return h.LinkDel(link(i)) },
		list: func(h *netlink.Handle) error { _, err := h.LinkList(); return err },
	}
}

func addrsOfOthers(family, index int) sortOfOthers {
	l := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: index}}
	addr := func(i int) *netlink.Addr {
		a := &netlink.Addr{IPNet: numbered(family, i)}
		if family == unix.AF_INET6 {
			a.Flags = unix.IFA_F_NODAD
		}
		return a
	}
	return sortOfOthers{
		stay: 400,
		add:  func(h *netlink.Handle, i int) error { return h.AddrAdd(l, addr(i)) },
		del:  func(h *netlink.Handle, i int) error { return h.AddrDel(l, addr(i)) },
		list: func(h *netlink.Handle) error { _, err := h.AddrList(nil, family); return err },
	}
}

func routesOfOthers(family, index, table int) sortOfOthers {
	route := func(i int) *netlink.Route {
		return &netlink.Route{LinkIndex: index, Table: table, Dst: numbered(family, i+1<<14), Scope: netlink.SCOPE_LINK}
	}
	return sortOfOthers{
		stay: 400,
		add:  func(h *netlink.Handle, i int) error { return h.RouteAdd(route(i)) },
		del:  func(h *netlink.Handle, i int) error { return h.RouteDel(route(i)) },
		list: func(h *netlink.Handle) error { _, err := h.RouteList(nil, family); return err },
	}
}

func rulesOfOthers(family, priority, stay int) sortOfOthers {
	rule := func(i int) *netlink.Rule {
		r := netlink.NewRule()
		r.Family, r.Priority, r.Table, r.Src = family, priority, othersTable, numbered(family, i)
		return r
	}
	return sortOfOthers{
		stay: stay,
		add:  func(h *netlink.Handle, i int) error { return h.RuleAdd(rule(i)) },
		del:  func(h *netlink.Handle, i int) error { return h.RuleDel(rule(i)) },
		list: func(h *netlink.Handle) error { _, err := h.RuleList(family); return err },
	}
}

// numbered is a single address that nobody else has.
func numbered(family, i int) *net.IPNet {
	if family == unix.AF_INET6 {
		return &net.IPNet{IP: net.ParseIP(fmt.Sprintf("fd00:77::%x", i+1)), Mask: net.CIDRMask(128, 128)}
	}
	return &net.IPNet{IP: net.IPv4(10, 77, byte((i+1)>>8), byte(i+1)), Mask: net.CIDRMask(32, 32)}
}
