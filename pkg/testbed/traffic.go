// SPDX-License-Identifier: Apache-2.0

package testbed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// askTimeout is the time limit of one request. Between namespaces of one machine, an answer
// takes far less; the limit is for answers that never come.
const askTimeout = 5 * time.Second

// Socket holds the options of an application's socket.
type Socket struct {
	Source netip.Addr // a client's address; the kernel's choice if invalid
	Port   uint16     // a client's port; the kernel's choice if 0
	Mark   uint32     // SO_MARK; none if 0
	Size   int        // bytes of a ping's whole packet, which nobody may fragment; if 0, a few
}

// Answer is the answer of a Server.
type Answer struct {
	Server string         // the name of the server's namespace
	Client netip.AddrPort // the client's address, as the server sees it
	Local  netip.AddrPort // the client's address, as the client sees it
}

// Server answers each request, by TCP and by UDP, with its own name and the client's
// address.
type Server struct {
	name    string
	sockets []io.Closer
}

// Serve starts a Server on a port of all addresses of the namespace.
func (n *Netns) Serve(port uint16, socket Socket) (*Server, error) {
	s := &Server{name: n.name}
	for _, family := range []string{"4", "6"} {
		if family == "6" && !hasIPv6() {
			continue
		}
		if err := s.listen(n, family, port, socket); err != nil {
			s.Close()
			return nil, fmt.Errorf("serve port %d in %s: %w", port, n.name, err)
		}
	}
	return s, nil
}

// listen serves one address family.
func (s *Server) listen(n *Netns, family string, port uint16, socket Socket) error {
	lc := net.ListenConfig{Control: socket.control}
	at := net.JoinHostPort("", strconv.Itoa(int(port)))
	return n.Do(func() error {
		tcp, err := lc.Listen(context.Background(), "tcp"+family, at)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, tcp)
		udp, err := lc.ListenPacket(context.Background(), "udp"+family, at)
		if err != nil {
			return err
		}
		s.sockets = append(s.sockets, udp)
		go s.serveTCP(tcp)
		return s.serveUDP(udp, family)
	})
}

// Close stops the server.
func (s *Server) Close() error {
	var errs []error
	for _, socket := range s.sockets {
		errs = append(errs, socket.Close())
	}
	return errors.Join(errs...)
}

func (s *Server) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			c.SetDeadline(time.Now().Add(askTimeout)) //nolint:errcheck // the write fails as well
			c.Write(s.answer(c.RemoteAddr()))         //nolint:errcheck // the client gets no answer
		}()
	}
}

// serveUDP answers each datagram from the address that it was sent to. Without the control
// message, the kernel takes the source address of the route back, which may be another one.
func (s *Server) serveUDP(socket net.PacketConn, family string) error {
	var next func() error
	buf := make([]byte, 1)
	if family == "4" {
		c := ipv4.NewPacketConn(socket)
		if err := c.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return err
		}
		next = func() error {
			_, cm, from, err := c.ReadFrom(buf)
			if err == nil {
				_, err = c.WriteTo(s.answer(from), &ipv4.ControlMessage{Src: cm.Dst}, from)
			}
			return err
		}
	} else {
		c := ipv6.NewPacketConn(socket)
		if err := c.SetControlMessage(ipv6.FlagDst, true); err != nil {
			return err
		}
		next = func() error {
			_, cm, from, err := c.ReadFrom(buf)
			if err == nil {
				_, err = c.WriteTo(s.answer(from), &ipv6.ControlMessage{Src: cm.Dst}, from)
			}
			return err
		}
	}
	go func() {
		var err error
		for !errors.Is(err, net.ErrClosed) { // go on after an unreachable client
			err = next()
		}
	}()
	return nil
}

func (s *Server) answer(client net.Addr) []byte {
	b, err := json.Marshal(Answer{Server: s.name, Client: addrPort(client)})
	if err != nil {
		panic(err) // can't happen: all fields can be marshalled
	}
	return append(b, '\n')
}

// Ask sends a request to the Server at an address and returns its Answer. The network is tcp
// or udp.
func (n *Netns) Ask(network string, to netip.AddrPort, socket Socket) (Answer, error) {
	var answer Answer
	c, err := n.dial(network, to, socket)
	if err == nil {
		answer, err = ask(c)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%s asks %s %s: %w", n.name, network, to, withoutAddrs(err))
	}
	return answer, nil
}

func (n *Netns) dial(network string, to netip.AddrPort, socket Socket) (c net.Conn, err error) {
	d := net.Dialer{Timeout: askTimeout, Control: socket.control}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: socket.Source.AsSlice(), Port: int(socket.Port)}
	} else {
		d.LocalAddr = &net.TCPAddr{IP: socket.Source.AsSlice(), Port: int(socket.Port)}
	}
	err = n.Do(func() error {
		c, err = d.Dial(network, to.String())
		return err
	})
	return c, err
}

// Connect opens a TCP connection, and closes it at once.
func (n *Netns) Connect(to netip.AddrPort, socket Socket) error {
	c, err := n.dial("tcp", to, socket)
	if err != nil {
		return fmt.Errorf("%s connects to %s: %w", n.name, to, withoutAddrs(err))
	}
	return c.Close()
}

// ask sends a request on a connection, reads the answer, and closes the connection.
func ask(c net.Conn) (answer Answer, err error) {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return answer, err
	}
	if _, err := c.Write([]byte{'?'}); err != nil {
		return answer, err
	}
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		return answer, err
	}
	answer.Local = addrPort(c.LocalAddr())
	return answer, nil
}

// Ping sends one ICMP or ICMPv6 echo request and waits for its reply.
func (n *Netns) Ping(to netip.Addr, socket Socket) error {
	err := n.Do(func() error {
		network, local := "ip4:icmp", "0.0.0.0"
		request, reply := icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
		if to.Is6() {
			network, local = "ip6:ipv6-icmp", "::"
			request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
		}
		if socket.Source.IsValid() {
			local = socket.Source.String()
		}
		lc := net.ListenConfig{Control: socket.control}
		c, err := lc.ListenPacket(context.Background(), network, local)
		if err != nil {
			return err
		}
		defer c.Close()
		return echo(c, to, request, reply, socket.Size)
	})
	if err != nil {
		return fmt.Errorf("%s pings %s: %w", n.name, to, withoutAddrs(err))
	}
	return nil
}

// echo sends an echo request on a raw socket and waits for its reply. A raw socket also
// receives the replies to other requests; echo skips them.
func echo(c net.PacketConn, to netip.Addr, request, reply icmp.Type, size int) error {
	if err := c.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return err
	}
	headers := ipv4.HeaderLen + 8
	if to.Is6() {
		headers = ipv6.HeaderLen + 8
	}
	data := make([]byte, max(size-headers, len("multihome")))
	copy(data, "multihome")
	want := icmp.Echo{ID: int(time.Now().UnixNano() & 0xffff), Seq: 1, Data: data}
	b, err := (&icmp.Message{Type: request, Body: &want}).Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}); err != nil {
		return err
	}
	buf := make([]byte, max(size, 1500))
	for {
		size, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		m, err := icmp.ParseMessage(reply.Protocol(), buf[:size])
		if err != nil || m.Type != reply || !from.(*net.IPAddr).IP.Equal(to.AsSlice()) {
			continue
		}
		if got, ok := m.Body.(*icmp.Echo); ok && got.ID == want.ID && got.Seq == want.Seq {
			return nil
		}
	}
}

// control sets the options of a socket, for net.Dialer and net.ListenConfig.
func (s Socket) control(network, _ string, c syscall.RawConn) error {
	var errs []error
	set := func(fd uintptr, level, option, value int, name string) {
		errs = append(errs, os.NewSyscallError("set "+name, unix.SetsockoptInt(int(fd), level, option, value)))
	}
	err := c.Control(func(fd uintptr) {
		if s.Mark != 0 {
			set(fd, unix.SOL_SOCKET, unix.SO_MARK, int(s.Mark), "SO_MARK")
		}
		switch { // with RECVERR, the socket also gets the errors that routers send
		case s.Size == 0:
		case network == "ip6":
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO, "IPV6_MTU_DISCOVER")
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1, "IPV6_DONTFRAG")
			set(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, 1, "IPV6_RECVERR")
		default:
			set(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, "IP_MTU_DISCOVER")
			set(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1, "IP_RECVERR")
		}
	})
	return errors.Join(append(errs, err)...)
}

// withoutAddrs removes both addresses of a net.OpError, because the caller's error names
// them.
func withoutAddrs(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(interface{ AddrPort() netip.AddrPort }).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
