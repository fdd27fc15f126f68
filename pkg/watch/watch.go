// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// Kind says what an event is about.
type Kind string

const (
	Link  Kind = "link"
	Addr  Kind = "addr"
	Route Kind = "route"
	Rule  Kind = "rule"
	Neigh Kind = "neigh"
	Table Kind = "table" // of nf_tables: itself, or a chain or rule in it
	File  Kind = "file"
	Lost  Kind = "lost" // some events of any kind, because there were too many
)

// Node is the number of the node's own namespace in events.
const Node = -1

// Event is one change.
type Event struct {
	Netns   int // ID of the namespace, or Node
	Kind    Kind
	Removed bool

	Link  netstate.Link  // Link; Addr on the node: the link that has the address
	Index int            // of the link: Link, Addr
	Addr  rtnetlink.Addr // Addr
	Dst   netip.Prefix   // Route and Neigh
	Proto netstate.Protocol
	Name  string // of the nf_tables table, or of the watched directory
}

// Watch receives events.
type Watch struct {
	route, nft *socket
	ask        *netlink.Conn
	files      *files
	epoll      int
	wake       int                   // eventfd
	links      map[int]netstate.Link // of the node, those that were asked for
	in, oob    []byte
}

// groups are the multicast groups of rtnetlink that the package listens to.
var groups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE,
}

// Open begins to listen, in the calling thread's network namespace.
func Open() (w *Watch, err error) {
	w = &Watch{epoll: -1, wake: -1, links: map[int]netstate.Link{}, in: make([]byte, 1<<16), oob: make([]byte, 64)}
	defer func() {
		if err != nil {
			w.Close()
			w = nil
		}
	}()
	if w.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return w, fmt.Errorf("epoll: %w", err)
	}
	if w.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return w, fmt.Errorf("eventfd: %w", err)
	}
	if w.route, err = listen(unix.NETLINK_ROUTE, filter(), groups...); err != nil {
		return w, err
	}
	if w.nft, err = listen(unix.NETLINK_NETFILTER, nil, unix.NFNLGRP_NFTABLES); err != nil {
		return w, err
	}
	if w.ask, err = netlink.Dial(unix.NETLINK_ROUTE, netlink.NewBuffers()); err != nil {
		return w, err
	}
	if w.files, err = openFiles(); err != nil {
		return w, err
	}
	for _, fd := range []int{w.wake, w.route.fd, w.nft.fd, w.files.fd} {
		if err := unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
			return w, fmt.Errorf("epoll: %w", err)
		}
	}
	return w, nil
}

// Close ends the watch. Don't call it while Wait or Read runs.
func (w *Watch) Close() {
	for _, s := range []*socket{w.route, w.nft} {
		if s != nil {
			_ = unix.Close(s.fd)
		}
	}
	if w.ask != nil {
		w.ask.Close()
	}
	if w.files != nil {
		_ = unix.Close(w.files.fd)
	}
	for _, fd := range []int{w.epoll, w.wake} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// Wake makes the present or the next Wait return. It may be called on any goroutine.
func (w *Watch) Wake() {
	_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// Wait waits until there are events, until Wake is called, or for the time.
func (w *Watch) Wait(most time.Duration) {
	var ready [4]unix.EpollEvent
	// Rounded up, so that a wait for less than a millisecond isn't a busy loop.
	_, _ = unix.EpollWait(w.epoll, ready[:], int((most+time.Millisecond-1)/time.Millisecond)) // after EINTR the caller looks, too
	var count [8]byte
	_, _ = unix.Read(w.wake, count[:])
}

// atOnce is how many datagrams Read takes from a socket at most: the rest waits for the next
// Read. So a flood that is faster than Read doesn't keep it.
const atOnce = 4096

// Read returns the events that are there, in the order of each kind. It doesn't wait.
func (w *Watch) Read() (events []Event, err error) {
	note := func(e Event) { events = append(events, e) }
	w.files.read(w.in, note)
	for _, s := range []*socket{w.route, w.nft} {
		for range atOnce {
			b, netns, e := s.receive(w.in, w.oob)
			if errors.Is(e, unix.EAGAIN) {
				break
			}
			if errors.Is(e, unix.ENOBUFS) {
				clear(w.links)
				note(Event{Netns: Node, Kind: Lost})
				continue
			}
			if e != nil {
				return events, fmt.Errorf("receive events: %w", e)
			}
			if e := netlink.Messages(b, func(typ uint16, data []byte) { w.decode(netns, typ, data, note) }); e != nil {
				return events, fmt.Errorf("receive events: %w", e)
			}
		}
	}
	return events, nil
}

// Subsystems and messages of linux/netfilter/nfnetlink.h and nf_tables.h.
const (
	nfTables    = 10
	nftDelTable = 2
	nftDelChain = 5
	nftDelRule  = 8
	nftLast     = nftDelRule // later ones are of sets, generations and the like
)

// decode notes the event of a message.
func (w *Watch) decode(netns int, typ uint16, data []byte, note func(Event)) {
	e := Event{Netns: netns}
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		l := rtnetlink.DecodeLink(data)
		e.Kind, e.Removed, e.Link, e.Index = Link, typ == unix.RTM_DELLINK, l.Link, l.Index
		if netns == Node {
			delete(w.links, l.Index)
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		e.Kind, e.Removed, e.Addr = Addr, typ == unix.RTM_DELADDR, rtnetlink.DecodeAddr(data)
		e.Index = e.Addr.Index
		if netns == Node {
			e.Link = w.link(e.Index)
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		r := rtnetlink.DecodeRoute(data)
		e.Kind, e.Removed, e.Dst, e.Proto = Route, typ == unix.RTM_DELROUTE, r.Dst, r.Proto
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		e.Kind, e.Removed, e.Proto = Rule, typ == unix.RTM_DELRULE, rtnetlink.DecodeRule(data).Proto
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		n := rtnetlink.DecodeNeigh(data)
		e.Kind, e.Removed, e.Dst = Neigh, typ == unix.RTM_DELNEIGH, netstate.Single(n.Dst)
	default:
		if typ>>8 != nfTables || typ&0xff > nftLast || len(data) < nl.SizeofNfgenmsg {
			return
		}
		e.Kind = Table
		e.Removed = typ&0xff == nftDelTable || typ&0xff == nftDelChain || typ&0xff == nftDelRule
		netlink.Attrs(data[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			if typ == 1 { // NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE
				e.Name = unix.ByteSliceToString(v)
			}
		})
	}
	note(e)
}

// link returns the node's link with an index; one without a name if it is gone.
func (w *Watch) link(index int) netstate.Link {
	l, known := w.links[index]
	if !known {
		body := nl.NewIfInfomsg(unix.AF_UNSPEC)
		body.Index = int32(index)
		req := netlink.NewRequest(unix.RTM_GETLINK, 0, body)
		req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(rtnetlink.SkipStats)))
		_ = w.ask.Do(req, func(b []byte) { l = rtnetlink.DecodeLink(b).Link })
		w.links[index] = l
	}
	return l
}

// NetnsID returns the ID of the network namespace at a path, and gives it one if it has none.
// The ID is valid as long as the namespace is there. If there is none, the error is
// [netns.ErrNone].
func (w *Watch) NetnsID(path string) (int, error) {
	fd, err := netns.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	of := nl.NewRtAttr(unix.NETNSA_FD, nl.Uint32Attr(uint32(fd)))
	give := netlink.NewRequest(unix.RTM_NEWNSID, 0, nl.NewRtGenMsg())
	give.AddData(of)
	whichever := int32(unix.NETNSA_NSID_NOT_ASSIGNED)
	give.AddData(nl.NewRtAttr(unix.NETNSA_NSID, nl.Uint32Attr(uint32(whichever))))
	if err := w.ask.Do(give, nil); err != nil && !errors.Is(err, unix.EEXIST) {
		return 0, fmt.Errorf("give namespace %s an ID: %w", path, err)
	}
	id := unix.NETNSA_NSID_NOT_ASSIGNED
	get := netlink.NewRequest(unix.RTM_GETNSID, 0, nl.NewRtGenMsg())
	get.AddData(of)
	err = w.ask.Do(get, func(b []byte) {
		netlink.Attrs(b[min(len(b), unix.NLMSG_ALIGNTO):], func(typ uint16, v []byte) {
			if typ == unix.NETNSA_NSID {
				id = int(int32(nl.NativeEndian().Uint32(v)))
			}
		})
	})
	if err == nil && id == unix.NETNSA_NSID_NOT_ASSIGNED {
		err = errors.New("it has none")
	}
	if err != nil {
		return 0, fmt.Errorf("ID of namespace %s: %w", path, err)
	}
	return id, nil
}

// Dir begins to watch a directory: files that come, go or are written. It does nothing if the
// directory is watched. If there is none, the error is [fs.ErrNotExist].
func (w *Watch) Dir(path string) error { return w.files.add(path) }
