// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Service is a Service of Kubernetes for TCP and UDP, with one endpoint, in one address
// family.
type Service struct {
	ClusterIP netip.AddrPort // none if invalid
	NodePort  netip.AddrPort // one of the node's addresses; none if invalid
	Endpoint  netip.AddrPort
}

const (
	serviceTable = "services"
	// masqueradeMark is kube-proxy's own bit for packets to masquerade.
	masqueradeMark = 0x4000
)

// SetServices makes rules at the same hooks as kube-proxy. Packets to a ClusterIP go to the
// endpoint and are masqueraded. Packets to a NodePort go to the endpoint and keep the
// client's address, as with externalTrafficPolicy Local. The rules replace those of an
// earlier call.
//
// It uses nftables, or iptables-legacy on a kernel without nftables.
func (n *Netns) SetServices(services ...Service) error {
	err := n.setServicesNft(services)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return n.setServicesLegacy(services)
	}
	return err
}

// setServicesNft makes the rules in nftables.
func (n *Netns) setServicesNft(services []Service) error {
	c, err := n.nftables()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: serviceTable, Family: nftables.TableFamilyINet}
	c.AddTable(table) // so that there is one to delete
	c.DelTable(table)
	c.AddTable(table)

	for name, hook := range map[string]*nftables.ChainHook{
		"prerouting": nftables.ChainHookPrerouting,
		"output":     nftables.ChainHookOutput,
	} {
		chain := c.AddChain(&nftables.Chain{
			Name: name, Table: table, Type: nftables.ChainTypeNAT,
			Hooknum: hook, Priority: nftables.ChainPriorityNATDest,
		})
		for _, s := range services {
			for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
				if s.ClusterIP.IsValid() {
					rule := append(matchDestination(protocol, s.ClusterIP), setMarkBits(masqueradeMark)...)
					c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(rule, dnat(s.Endpoint)...)})
				}
				if s.NodePort.IsValid() {
					rule := append(matchDestination(protocol, s.NodePort), dnat(s.Endpoint)...)
					c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
				}
			}
		}
		// Flush each chain by itself: the kernel acknowledges each rule, and the socket has
		// little room for the acknowledgements.
		if err := c.Flush(); err != nil {
			return fmt.Errorf("services in %s: %w", n.name, err)
		}
	}
	postrouting := c.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: postrouting, Exprs: append(matchMark(masqueradeMark, masqueradeMark), &expr.Masq{})})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("services in %s: %w", n.name, err)
	}
	return nil
}

// nftables opens a connection to nftables of the namespace. Each Flush opens a socket.
func (n *Netns) nftables() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(int(n.file.Fd())))
	if err != nil {
		return nil, fmt.Errorf("nftables in %s: %w", n.name, err)
	}
	return c, nil
}

// matchDestination returns the expressions of `ip daddr ADDR th dport PORT`, for one protocol.
func matchDestination(protocol byte, to netip.AddrPort) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if to.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	addr := to.Addr().AsSlice()
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(addr))},
		&expr.Cmp{Register: 1, Data: addr},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Register: 1, Data: []byte{protocol}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Register: 1, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
	}
}

// dnat returns the expressions of `dnat to ADDR:PORT`.
func dnat(to netip.AddrPort) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if to.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1, RegProtoMin: 2},
	}
}

// setMarkBits returns the expressions of `meta mark set mark or BITS`.
func setMarkBits(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(^bits), Xor: binaryutil.NativeEndian.PutUint32(bits),
		},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	}
}

// matchMark returns the expressions of `meta mark and MASK == MARK`.
func matchMark(mark, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4),
		},
		&expr.Cmp{Register: 1, Data: binaryutil.NativeEndian.PutUint32(mark)},
	}
}
