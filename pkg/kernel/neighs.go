// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netstate"
)

// ndMsg is struct ndmsg of linux/neighbour.h.
type ndMsg struct {
	family uint8
	index  int
	state  uint16
}

func (m *ndMsg) Len() int { return unix.SizeofNdMsg }

func (m *ndMsg) Serialize() []byte {
	b := make([]byte, unix.SizeofNdMsg)
	b[0] = m.family
	binary.NativeEndian.PutUint32(b[4:], uint32(m.index))
	binary.NativeEndian.PutUint16(b[8:], m.state)
	return b
}

// neigh is an answer to a RTM_GETNEIGH request.
type neigh struct {
	netstate.Neigh
	index int
	state uint16 // NUD_*
	mac   bool   // it has one
}

// decodeNeigh reads an answer.
func decodeNeigh(b []byte) neigh {
	n := neigh{index: int(binary.NativeEndian.Uint32(b[4:])), state: binary.NativeEndian.Uint16(b[8:])}
	n.Permanent = n.state&unix.NUD_PERMANENT != 0
	attrs(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.NDA_DST:
			n.Dst, _ = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			copy(n.MAC[:], v)
			n.mac = len(v) == len(n.MAC)
		}
	})
	return n
}

// neighs lists all neighbours.
func (s *Space) neighs() ([]neigh, error) {
	list, err := dump(s.conn, request(unix.RTM_GETNEIGH, 0, &ndMsg{}), func(b []byte) (neigh, bool) { return decodeNeigh(b), true })
	if err != nil {
		return nil, fmt.Errorf("%s: list neighbours: %w", s.ns, err)
	}
	return list, nil
}

// ReadNeigh puts the entry for one address on one link into the snapshot, if
// there is one. It is asked for by its key (Linux 5.0): a dump would walk the
// node's whole table, which all namespaces share.
func (s *Space) ReadNeigh(snap *netstate.Snapshot, dev string, dst netip.Addr) error {
	index, ok := s.index[dev]
	if !ok {
		return nil // no link, no entry
	}
	req := request(unix.RTM_GETNEIGH, 0, &ndMsg{family: uint8(family(dst)), index: index})
	req.AddData(nl.NewRtAttr(unix.NDA_DST, dst.AsSlice()))
	var n neigh
	err := s.conn.do(req, func(b []byte) { n = decodeNeigh(b) })
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: read neigh %s dev %s: %w", s.ns, dst, dev, err)
	}
	n.Dev, n.Dst = dev, dst
	snap.Put(s.ns, n.Neigh)
	return nil
}

func (s *Space) neighRequest(op netstate.Op, n netstate.Neigh) (*nl.NetlinkRequest, error) {
	index, err := s.linkIndex(n.Dev)
	if err != nil {
		return nil, err
	}
	body := &ndMsg{family: uint8(family(n.Dst)), index: index, state: unix.NUD_STALE}
	if n.Permanent {
		body.state = unix.NUD_PERMANENT
	}
	typ, flags := unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE
	if op.After == nil {
		typ, flags = unix.RTM_DELNEIGH, 0
	}
	req := request(typ, flags, body)
	req.AddData(nl.NewRtAttr(unix.NDA_DST, n.Dst.AsSlice()))
	if op.After != nil {
		req.AddData(nl.NewRtAttr(unix.NDA_LLADDR, n.MAC[:]))
	}
	return req, nil
}
