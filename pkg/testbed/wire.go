// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Route is a unicast route. Without Via, its destination is on the link.
type Route struct {
	Dst netip.Prefix
	Via netip.Addr
	Dev string
}

// ConnectVeth connects two namespaces by a veth pair, with both ends up.
func ConnectVeth(a *Netns, nameA string, b *Netns, nameB string) error {
	err := a.netlink(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: nameA},
			PeerName:      nameB,
			PeerNamespace: netlink.NsFd(b.file.Fd()),
		})
	})
	if err != nil {
		return fmt.Errorf("veth %s in %s, %s in %s: %w", nameA, a.name, nameB, b.name, err)
	}
	if err := a.SetUp(nameA); err != nil {
		return err
	}
	return b.SetUp(nameB)
}

// AddBridge makes a bridge and sets it up. It has no STP, so it forwards at once.
func (n *Netns) AddBridge(name string) error {
	err := n.netlink(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}})
	})
	if err != nil {
		return fmt.Errorf("bridge %s in %s: %w", name, n.name, err)
	}
	return n.SetUp(name)
}

// AddMacvlan makes a macvlan in bridge mode on the link parent of this namespace, in the
// namespace pod, and sets it up.
func (n *Netns) AddMacvlan(parent string, pod *Netns, name string) error {
	err := n.onLink(parent, "add macvlan "+name, func(h *netlink.Handle, l netlink.Link) error {
		return h.LinkAdd(&netlink.Macvlan{
			LinkAttrs: netlink.LinkAttrs{
				Name:        name,
				ParentIndex: l.Attrs().Index,
				Namespace:   netlink.NsFd(pod.file.Fd()),
			},
			Mode: netlink.MACVLAN_MODE_BRIDGE,
		})
	})
	if err != nil {
		return err
	}
	return pod.SetUp(name)
}

// AddVLAN makes a VLAN on a link and sets it up.
func (n *Netns) AddVLAN(parent, name string, id int) error {
	err := n.onLink(parent, "add vlan "+name, func(h *netlink.Handle, l netlink.Link) error {
		return h.LinkAdd(&netlink.Vlan{
			LinkAttrs:    netlink.LinkAttrs{Name: name, ParentIndex: l.Attrs().Index},
			VlanId:       id,
			VlanProtocol: netlink.VLAN_PROTOCOL_8021Q,
		})
	})
	if err != nil {
		return err
	}
	return n.SetUp(name)
}

// KnowsLinks reports whether this kernel has, or can load, a driver for a type of link. The
// type is named as in ip-link(8).
func KnowsLinks(kind string) (bool, error) {
	n, err := NewNetns("trial")
	if err != nil {
		return false, err
	}
	defer n.Close()
	err = n.netlink(func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: "trial"}, LinkType: kind})
	})
	// Other errors come from the driver, which may miss a parent.
	return !errors.Is(err, unix.EOPNOTSUPP), nil
}

// SetMaster makes a link a port of a bridge in the same namespace.
func (n *Netns) SetMaster(link, bridge string) error {
	return n.onLink(link, "set master "+bridge, func(h *netlink.Handle, l netlink.Link) error {
		master, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		return h.LinkSetMaster(l, master)
	})
}

// SetUp sets a link up.
func (n *Netns) SetUp(link string) error {
	return n.onLink(link, "set up", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetUp(l) })
}

// SetDown sets a link down.
func (n *Netns) SetDown(link string) error {
	return n.onLink(link, "set down", func(h *netlink.Handle, l netlink.Link) error { return h.LinkSetDown(l) })
}

// DeleteLink removes a link.
func (n *Netns) DeleteLink(link string) error {
	return n.onLink(link, "delete", func(h *netlink.Handle, l netlink.Link) error { return h.LinkDel(l) })
}

// MAC returns the hardware address of a link.
func (n *Netns) MAC(link string) (mac net.HardwareAddr, err error) {
	err = n.onLink(link, "read", func(_ *netlink.Handle, l netlink.Link) error {
		mac = l.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// AddAddrs adds addresses to a link, without duplicate address detection.
func (n *Netns) AddAddrs(link string, prefixes ...netip.Prefix) error {
	for _, p := range prefixes {
		err := n.onLink(link, "add address "+p.String(), func(h *netlink.Handle, l netlink.Link) error {
			addr := &netlink.Addr{IPNet: ipNet(p)}
			if p.Addr().Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			return h.AddrAdd(l, addr)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// AddRoutes adds routes to table main.
func (n *Netns) AddRoutes(routes ...Route) error {
	for _, r := range routes {
		err := n.onLink(r.Dev, fmt.Sprintf("add route %s via %s", r.Dst, r.Via), func(h *netlink.Handle, l netlink.Link) error {
			route := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: ipNet(r.Dst)}
			if r.Via.IsValid() {
				route.Gw = r.Via.AsSlice()
			} else {
				route.Scope = netlink.SCOPE_LINK
			}
			return h.RouteAdd(route)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// EnableForwarding makes the namespace forward IPv4 and IPv6 packets.
func (n *Netns) EnableForwarding() error {
	if err := n.SetSysctl("ipv4/ip_forward", "1"); err != nil {
		return err
	}
	return n.setIPv6("conf/all/forwarding", "1")
}

// netlink runs f with a netlink handle of the namespace.
func (n *Netns) netlink(f func(*netlink.Handle) error) error {
	var h *netlink.Handle
	err := n.Do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h)
}

// onLink runs f with a link that it finds by name. what describes the operation in errors.
func (n *Netns) onLink(link, what string, f func(*netlink.Handle, netlink.Link) error) error {
	err := n.netlink(func(h *netlink.Handle) error {
		l, err := h.LinkByName(link)
		if err != nil {
			return err
		}
		return f(h, l)
	})
	if err != nil {
		return fmt.Errorf("link %s in %s: %s: %w", link, n.name, what, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
