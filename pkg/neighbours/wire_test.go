// SPDX-License-Identifier: Apache-2.0

package neighbours

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/multihome/multihome/pkg/netstate"
)

// The MACs of the packets below.
const (
	sender = "02:00:00:00:00:09"
	framed = "02:00:00:00:00:0f" // of an NDP packet's frame
)

// packets are what a LAN may say of an address, and how it is understood. ARP
// packets have no header before them, NDP packets that of IPv6.
var packets = []struct {
	name, packet string
	addr, mac    string // "": it says nothing
	probing      bool
}{{
	name:   "ARP request of a host that has an address",
	packet: "0001080006040001 020000000009 0a060009 000000000000 0a060001",
	addr:   "10.6.0.9", mac: sender,
}, {
	name:   "ARP reply, padded as Ethernet pads",
	packet: "0001080006040002 020000000009 0a060009 020000000001 0a060001 000000000000000000000000000000000000",
	addr:   "10.6.0.9", mac: sender,
}, {
	name:   "ARP probe of a host that wants an address",
	packet: "0001080006040001 020000000009 00000000 000000000000 0a060009",
	addr:   "10.6.0.9", mac: sender, probing: true,
}, {
	name:   "ARP reply to a probe: its sender has no address, and wants none",
	packet: "0001080006040002 020000000009 00000000 000000000000 0a060009",
}, {
	name:   "ARP of another sort of link",
	packet: "0006080006040001 020000000009 0a060009 000000000000 0a060001",
}, {
	name:   "ARP cut short",
	packet: "0001080006040001 020000000009 0a060009 000000000000 0a0600",
}, {
	name:   "advertisement with a MAC",
	packet: ipv6Header + "fd000006000000000000000000000009 ff020000000000000000000000000001 8800000060000000 fd000006000000000000000000000009 0201 020000000009",
	addr:   "fd00:6::9", mac: sender,
}, {
	name:   "advertisement without a MAC",
	packet: ipv6Header + "fd000006000000000000000000000009 fd000006000000000000000000000001 8800000060000000 fd000006000000000000000000000009",
	addr:   "fd00:6::9", mac: framed,
}, {
	name:   "advertisement with an unknown option before the MAC, and one of no length behind it",
	packet: ipv6Header + "fd000006000000000000000000000009 ff020000000000000000000000000001 8800000060000000 fd000006000000000000000000000009 0e02 0000000000000000000000000000 0201 020000000009 0200 020000000001",
	addr:   "fd00:6::9", mac: sender,
}, {
	name:   "solicitation of a host that wants an address",
	packet: ipv6Header + "00000000000000000000000000000000 ff0200000000000000000001ff000009 8700000000000000 fd000006000000000000000000000009",
	addr:   "fd00:6::9", mac: framed, probing: true,
}, {
	name:   "solicitation of a host that looks for another",
	packet: ipv6Header + "fd000006000000000000000000000001 ff0200000000000000000001ff000009 8700000000000000 fd000006000000000000000000000009 0101 020000000009",
}, {
	name:   "advertisement that a router has forwarded",
	packet: strings.Replace(ipv6Header, "3aff", "3afe", 1) + "fd000006000000000000000000000009 ff020000000000000000000000000001 8800000060000000 fd000006000000000000000000000009",
}, {
	name:   "another message of ICMPv6",
	packet: ipv6Header + "fd000006000000000000000000000009 ff020000000000000000000000000001 8600000060000000 fd000006000000000000000000000009",
}}

const ipv6Header = "60000000 0020 3aff "

// read is the claim of a packet, which is one of NDP if it is one of IPv6.
func read(b []byte) (Claim, bool) {
	if len(b) > 0 && b[0]>>4 == 6 {
		mac, _ := netstate.ParseMAC(framed)
		return readNDP(b, mac)
	}
	return readARP(b)
}

func TestClaims(t *testing.T) {
	for _, p := range packets {
		c, ok := read(packet(t, p.packet))
		if p.addr == "" {
			if ok {
				t.Errorf("%s: got %v, want nothing", p.name, c)
			}
			continue
		}
		if !ok || c.Addr != netip.MustParseAddr(p.addr) || c.MAC.String() != p.mac || c.probing != p.probing {
			t.Errorf("%s: got %v, %t, want %s, %s, probing %t", p.name, c, ok, p.addr, p.mac, p.probing)
		}
	}
}

// TestQuestions holds the packets to the RFCs, byte by byte; that others
// understand them is shown in integration.
func TestQuestions(t *testing.T) {
	mac, err := netstate.ParseMAC(sender)
	if err != nil {
		t.Fatal(err)
	}
	none4, none6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	addr4, addr6 := netip.MustParseAddr("10.6.0.1"), netip.MustParseAddr("fd00:6::ac10:173")
	for _, q := range []struct {
		name, want string
		got        []byte
	}{
		{"ARP probe", "0001080006040001 020000000009 00000000 000000000000 0a060001", askARP(mac, none4, addr4)},
		{"ARP request", "0001080006040001 020000000009 0a060009 000000000000 0a060001", askARP(mac, netip.MustParseAddr("10.6.0.9"), addr4)},
		{
			"solicitation of duplicate address detection",
			"60000000 0018 3aff 00000000000000000000000000000000 ff0200000000000000000001ff100173 8700 ce9a 00000000 fd0000060000000000000000ac100173", askNDP(mac, none6, addr6),
		},
		{
			"solicitation",
			"60000000 0020 3aff fd000006000000000000000000000009 ff0200000000000000000001ff100173 8700 ce78 00000000 fd0000060000000000000000ac100173 0101 020000000009",
			askNDP(mac, netip.MustParseAddr("fd00:6::9"), addr6),
		},
	} {
		if want := packet(t, q.want); string(q.got) != string(want) {
			t.Errorf("%s:\n got %x\nwant %x", q.name, q.got, want)
		}
	}
	if got := multicastMAC(solicitedNode(addr6)).String(); got != "33:33:ff:10:01:73" {
		t.Errorf("the solicitation goes to %s", got)
	}
}

func FuzzClaims(f *testing.F) {
	for _, p := range packets {
		f.Add(packet(f, p.packet))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := read(b); ok && !c.Addr.IsValid() {
			t.Errorf("%x: a claim on no address", b)
		}
	})
}

func packet(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
