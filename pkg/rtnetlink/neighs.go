// SPDX-License-Identifier: Apache-2.0

package rtnetlink

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// NeighHeader is struct ndmsg of linux/neighbour.h.
type NeighHeader struct {
	Family uint8
	Index  int
	State  uint16
}

func (m *NeighHeader) Len() int { return unix.SizeofNdMsg }

func (m *NeighHeader) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = m.Family
	binary.NativeEndian.PutUint32(b[4:], uint32(m.Index))
	binary.NativeEndian.PutUint16(b[8:], m.State)
	return b
}

// Neigh is an answer to a RTM_GETNEIGH request.
type Neigh struct {
	netstate.Neigh
	Index  int
	State  uint16 // NUD_*
	HasMAC bool   // the entry has a MAC
}

// DecodeNeigh decodes an answer to a RTM_GETNEIGH request.
func DecodeNeigh(b []byte) Neigh {
	n := Neigh{Index: int(binary.NativeEndian.Uint32(b[4:])), State: binary.NativeEndian.Uint16(b[8:])}
	n.Permanent = n.State&unix.NUD_PERMANENT != 0
	netlink.Attrs(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.NDA_DST:
			n.Dst, _ = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			copy(n.MAC[:], v)
			n.HasMAC = len(v) == len(n.MAC)
		}
	})
	return n
}
