// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// because returns the kernel's error for an operation, with the likely cause and what helps
// appended if reason knows them.
func because(op netstate.Op, err error) error {
	if why := reason(op, err); why != "" {
		return fmt.Errorf("%w: %s", err, why)
	}
	return err
}

// reason returns the meaning of an error number for an operation, "" if the number says
// enough by itself.
func reason(op netstate.Op, err error) string {
	var errno syscall.Errno
	if op.After == nil || !errors.As(err, &errno) {
		return ""
	}
	said := func(words string) bool { return strings.Contains(err.Error(), words) }
	if errno == unix.EPERM {
		return permission(op)
	}
	switch o := op.After.(type) {
	case netstate.Link:
		before, there := op.Before.(netstate.Link)
		if there {
			return linkChange(before, o, errno, said)
		}
		return newLinkReason(o, errno, said)
	case netstate.Route:
		return routeReason(op.NS, o, errno, said)
	case netstate.Addr:
		return addrReason(o, errno)
	case netstate.Rule:
		if errno == unix.EAFNOSUPPORT || errno == unix.EOPNOTSUPP {
			return fmt.Sprintf("the kernel has no policy routing for IPv%d", o.Family)
		}
	case netstate.Sysctl:
		switch errno {
		case unix.EROFS:
			return "/proc/sys is mounted read-only: run the plugins where it is writable, as container runtimes on the node do"
		case unix.EACCES:
			return permission(op)
		}
	}
	return ""
}

// permission returns the reason for EPERM and EACCES. The driver of a VF returns EPERM,
// too.
func permission(op netstate.Op) string {
	if l, ok := op.After.(netstate.Link); ok && op.NS == netstate.Pod && l.Type == "" {
		return "the driver lets only the node change it: for a VF, `ip link set PF vf N trust on`"
	}
	return "plugins need root with CAP_NET_ADMIN"
}

// newLinkReason returns the reason why the kernel didn't make a link.
func newLinkReason(l netstate.Link, errno syscall.Errno, said func(string) bool) string {
	switch {
	case errno == unix.EEXIST && l.Type == "vlan":
		return fmt.Sprintf("%s has a VLAN of that ID, or another link has the name %s", l.Parent, l.Name)
	case errno == unix.EEXIST:
		return fmt.Sprintf("another link has the name %s", l.Name)
	case said("VLANs not supported on device"):
		return fmt.Sprintf("%s does not support VLANs", l.Parent)
	case errno == unix.EOPNOTSUPP:
		return fmt.Sprintf("the kernel has no links of type %s: load its module (modprobe %s), or use a kernel that has it", l.Type, module(l.Type))
	case errno == unix.EBUSY && l.Type == "macvlan":
		// The parent has a receive handler already (netdev_rx_handler_register), such as
		// that of ipvlans, which may be in any namespace.
		return fmt.Sprintf("%s carries ipvlans, or is a port of a bridge or bond: macvlan and ipvlan can't share a parent", l.Parent)
	case errno == unix.EINVAL && l.Type == "macvlan":
		// macvlan_port_create, macvlan_common_newlink of drivers/net/macvlan.c
		return fmt.Sprintf("%s is no Ethernet link, or a macvlan in mode passthru uses it alone: give that macvlan mode bridge, or use another parent", l.Parent)
	}
	return linkChange(netstate.Link{}, l, errno, said)
}

// module returns the name of the kernel module for links of a type.
func module(kind string) string {
	switch kind {
	case "vlan":
		return "8021q"
	case "bond":
		return "bonding"
	}
	return kind
}

// linkChange returns the reason why the kernel didn't set an attribute of a link.
func linkChange(before, l netstate.Link, errno syscall.Errno, said func(string) bool) string {
	mac := l.MAC != before.MAC
	switch {
	case errno == unix.EADDRINUSE: // macvlan_addr_busy
		on := "its parent"
		if l.Parent != "" {
			on = l.Parent
		}
		return fmt.Sprintf("another macvlan on %s, or %s itself, has address %s already: each needs one of its own (`ip -d link show type macvlan`, in every pod)", on, on, l.MAC)
	case errno == unix.ENETDOWN && l.Parent != "":
		return fmt.Sprintf("its parent is down: ip link set %s up", l.Parent)
	case said("mtu less than device minimum"), said("mtu greater than device maximum"),
		l.MTU != 0 && l.MTU != before.MTU && (errno == unix.ERANGE || errno == unix.EINVAL): // vlan_dev_change_mtu, macvlan_change_mtu
		most := ""
		if l.Parent != "" {
			most = fmt.Sprintf(", at most that of %s", l.Parent)
		}
		return fmt.Sprintf("the link can't have mtu %d: want one that its type allows%s", l.MTU, most)
	case mac && before.Name != "" && errno == unix.EOPNOTSUPP:
		return fmt.Sprintf("a link of type %s has its parent's MAC: leave podMACPrefix out", l.Type)
	case mac && errno == unix.EADDRNOTAVAIL:
		return fmt.Sprintf("%s is no unicast MAC: want one whose first byte is even", l.MAC)
	case mac && before.Name != "" && errno == unix.EBUSY:
		return "the driver can't change the MAC of a link that is up: leave podMACPrefix out, or give the MAC to the plugin that makes the NIC"
	case l.Master != before.Master && l.Master != "" && (errno == unix.EBUSY || errno == unix.EINVAL || errno == unix.EOPNOTSUPP):
		return fmt.Sprintf("%s does not accept this link as a port: it must be an Ethernet link, not a loopback, and not already a port or parent of %s", l.Master, l.Master)
	}
	return ""
}

// routeReason returns the reason why the kernel didn't make a route. The gateways and
// sources of routes come from configurations and prevResults.
func routeReason(ns netstate.NS, r netstate.Route, errno syscall.Errno, said func(string) bool) string {
	of := "the pod"
	if ns == netstate.Host {
		of = "the node"
	}
	switch {
	case said("Invalid prefsrc address"), said("Invalid source address"):
		return fmt.Sprintf("%s has no address %s that %s can send from (an address in a VRF does not count): want another in nodeAddresses, or \"auto\"", of, r.Src, r.Dev)
	case said("Gateway can not be a local address"): // IPv6 only: IPv4 accepts it (fib_check_nh_v4_gw)
		return fmt.Sprintf("gateway %s is an address of %s itself: want the router's", r.Via, of)
	case said("Invalid gateway address"), r.Via.IsValid() && errno == unix.EINVAL && said("Nexthop has invalid gateway"):
		return fmt.Sprintf("gateway %s is no address of a host", r.Via)
	case errno == unix.ENETDOWN:
		return fmt.Sprintf("link %s is down: ip link set %s up", r.Dev, r.Dev)
	case r.Via.IsValid() && (errno == unix.ENETUNREACH || errno == unix.EHOSTUNREACH):
		return fmt.Sprintf("gateway %s is in no subnet of %s: want a router there, in the configuration or from the IPAM", r.Via, r.Dev)
	case r.IPv6() && errno == unix.EACCES:
		return fmt.Sprintf("IPv6 is off on %s: sysctl -w net.ipv6.conf.%s.disable_ipv6=0 in %s", r.Dev, r.Dev, of)
	case r.IPv6() && (errno == unix.ENODEV || errno == unix.EAFNOSUPPORT || errno == unix.EOPNOTSUPP):
		return fmt.Sprintf("%s has no IPv6: its mtu is less than 1280 (RFC 8200, 5), or the kernel has none", r.Dev)
	case errno == unix.EEXIST:
		return fmt.Sprintf("table %d has another route to %s", r.Table, r.Dst)
	}
	return ""
}

// addrReason returns the reason why the kernel didn't add an address.
func addrReason(a netstate.Addr, errno syscall.Errno) string {
	six := a.Prefix.Addr().Is6()
	switch {
	case six && errno == unix.EACCES:
		return fmt.Sprintf("IPv6 is off on %s: sysctl -w net.ipv6.conf.%s.disable_ipv6=0", a.Dev, a.Dev)
	case six && (errno == unix.ENOBUFS || errno == unix.EINVAL || errno == unix.ENODEV || errno == unix.EAFNOSUPPORT || errno == unix.EOPNOTSUPP):
		return fmt.Sprintf("%s has no IPv6: its mtu is less than 1280 (RFC 8200, 5), or the kernel has none", a.Dev)
	case errno == unix.EADDRNOTAVAIL || errno == unix.EINVAL:
		return fmt.Sprintf("%s is no address of a host", a.Prefix.Addr())
	}
	return ""
}
