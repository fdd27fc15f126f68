// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// notTheNodes are the links whose addresses are not the node's own: kube-proxy's
// and other holders of service addresses, the host ends of pods, and the
// bridges and tunnels of container networks.
var notTheNodes = []string{
	"lo", "kube-ipvs*", "dummy*", "nodelocaldns*",
	"veth*", "cali*", "lxc*", "eni*", "azv*", "gke*",
	"cni*", "cbr*", "docker*", "br-*", "podman*", "virbr*", "lxcbr*", "kube-bridge",
	"flannel*", "cilium*", "vxlan.calico", "tunl*", "weave*", "antrea-gw*", "ovn-k8s*", "vx-submariner",
}

// NodeAddrs returns the addresses by which pods reach their node: of each
// family first the one the kernel would send from towards the pod's first
// address, then the global addresses of every link that is up and the node's
// own, sorted.
//
// The number of addresses and links on the node is not felt: the dump of
// RTM_GETNETCONF is short, and addresses are asked for only of links that are
// not left out by name.
func (k *Kernel) NodeAddrs(pod []netip.Addr) ([]netip.Addr, error) {
	var first, rest []netip.Addr
	for _, p := range pod {
		src, err := k.Host.sourceTowards(p)
		if err != nil {
			return nil, err
		}
		if src.IsValid() && !src.IsLinkLocalUnicast() && !slices.Contains(first, src) {
			first = append(first, src)
		}
	}
	indexes, err := k.Host.configuredLinks()
	if err != nil {
		return nil, err
	}
	for _, index := range indexes {
		name, ok, err := k.Host.nameOf(index)
		if err != nil {
			return nil, err
		}
		if !ok || matches(notTheNodes, name) {
			continue
		}
		own, err := k.Host.ownAddrs(name, index)
		if err != nil {
			return nil, err
		}
		rest = append(rest, own...)
	}
	slices.SortFunc(rest, netip.Addr.Compare)
	for _, a := range slices.Compact(rest) {
		if !slices.Contains(first, a) {
			first = append(first, a)
		}
	}
	return first, nil
}

// ownAddrs returns the global addresses of a link that is up and of a kind that
// can carry the node's own.
func (s *Space) ownAddrs(name string, index int) ([]netip.Addr, error) {
	list, err := s.addrs(index)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, a := range list {
		if a.scope == unix.RT_SCOPE_UNIVERSE && !a.Tentative && !a.failed && !a.temporary {
			out = append(out, a.Prefix.Addr())
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	l, ok, err := s.fetchLink(name)
	if err != nil || !ok || !l.Up || l.Type == "dummy" || l.Link.Owned() {
		return nil, err
	}
	return out, nil
}

// configuredLinks lists the ifindexes of all links that IPv4 is configured on,
// which are all with an MTU of 68 or more. It is the shortest list of links the
// kernel has: some forty bytes each, against over a thousand in RTM_GETLINK.
func (s *Space) configuredLinks() ([]int, error) {
	const (
		netconfIfindex = 1 // NETCONFA_IFINDEX of linux/netconf.h
	)
	list, err := dump(s.conn, request(unix.RTM_GETNETCONF, 0, netconfMsg{unix.AF_INET}), func(b []byte) (int, bool) {
		index := 0
		attrs(b[netconfMsg{}.Len():], func(typ uint16, v []byte) {
			if typ == netconfIfindex {
				index = int(int32(binary.NativeEndian.Uint32(v)))
			}
		})
		return index, index > 0 // -1 and -2 stand for all and default
	})
	if err != nil {
		return nil, fmt.Errorf("%s: list configured links: %w", s.ns, err)
	}
	return list, nil
}

// netconfMsg is struct netconfmsg of linux/netconf.h, padded as netlink pads.
type netconfMsg struct{ family uint8 }

func (m netconfMsg) Len() int          { return unix.NLMSG_ALIGNTO }
func (m netconfMsg) Serialize() []byte { return []byte{m.family, 0, 0, 0} }

// nameOf returns a link's name by SIOCGIFNAME, the cheapest request there is
// for it. ok is false for a link that has gone in the meantime.
func (s *Space) nameOf(index int) (name string, ok bool, err error) {
	if n, ok := s.name[index]; ok {
		return n, true, nil
	}
	req, err := unix.NewIfreq("?") // the name is what the answer fills in
	if err != nil {
		return "", false, err
	}
	req.SetUint32(uint32(index))
	switch err := unix.IoctlIfreq(s.conn.fd, unix.SIOCGIFNAME, req); {
	case errors.Is(err, unix.ENODEV):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("%s: name of link %d: %w", s.ns, index, err)
	}
	return req.Name(), true, nil
}

// matches reports whether a name fits one of the patterns.
func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok
	})
}
