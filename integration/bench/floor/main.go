// SPDX-License-Identifier: Apache-2.0

// Command floor makes the kernel objects of a dual-stack underlay ADD, and does nothing else:
// it reads nothing, checks nothing and undoes nothing. Its time is the kernel's time for the
// objects themselves. A plugin that makes the same objects in the same way can't be faster.
//
//	floor [without-nft]
//
// CNI_COMMAND is ADD or DEL. ADD copies its input to its output; DEL deletes the link.
// CNI_NETNS is the pod. FLOOR_LINK is the name of the host end. FLOOR_NODE and FLOOR_POD are
// the IPv4 and the IPv6 address of each, with a comma between them.
//
// Beware: it is for the benchmark only. It writes to its own namespace and to CNI_NETNS without
// any check, and leaves behind whatever it made before an error.
package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	hostTable    = 500
	hostPriority = 1000
	replyTable   = 100
	markPriority = 32763
	mark         = 0x80
	mtu          = 1500
)

// services holds the service CIDRs, IPv4 first.
var services = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:10:96::/108")}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "floor:", err)
		os.Exit(1)
	}
}

func run() error {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	host, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	link := os.Getenv("FLOOR_LINK")
	if os.Getenv("CNI_COMMAND") == "DEL" {
		return host.do(request(unix.RTM_DELLINK, 0, ifinfo(0, 0), attr(unix.IFLA_IFNAME, cstring(link))))
	}
	withNFT := len(os.Args) < 2 || os.Args[1] != "without-nft"
	if err := add(host, link, withNFT); err != nil {
		return err
	}
	_, err = os.Stdout.Write(input)
	return err
}

// add makes the objects that the design lists for the first NIC.
func add(host *conn, link string, withNFT bool) error {
	node, err := addresses("FLOOR_NODE")
	if err != nil {
		return err
	}
	pod, err := addresses("FLOOR_POD")
	if err != nil {
		return err
	}
	netns, err := unix.Open(os.Getenv("CNI_NETNS"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	var macs [12]byte
	if _, err := unix.Getrandom(macs[:], 0); err != nil {
		return err
	}
	hostMAC, podMAC := macs[:6], macs[6:]
	for _, mac := range [][]byte{hostMAC, podMAC} {
		mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	}

	hostIndex, podIndex, err := host.newVeth(link, hostMAC, podMAC, netns)
	if err != nil {
		return err
	}
	if err := sysctl("ipv4/conf/"+link+"/rp_filter", "1"); err != nil {
		return err
	}
	if err := sysctl("ipv6/conf/"+link+"/accept_ra", "0"); err != nil {
		return err
	}
	inPod := [][]byte{setUp(podIndex)}
	var onHost [][]byte
	for i := range pod {
		n, p, s := node[i], pod[i], services[i]
		onHost = append(onHost,
			rule(p, hostPriority, hostTable, 0),
			route(hostTable, host32(p), netip.Addr{}, hostIndex, n),
			neighbour(p, hostIndex, podMAC))
		inPod = append(inPod,
			neighbour(n, podIndex, hostMAC),
			route(unix.RT_TABLE_MAIN, host32(n), netip.Addr{}, podIndex, p),
			route(unix.RT_TABLE_MAIN, s, n, podIndex, p),
			route(replyTable, netip.PrefixFrom(p, 0).Masked(), n, podIndex, netip.Addr{}),
			rule(p, markPriority, replyTable, mark))
	}

	runtime.LockOSThread() // never unlocked, because the thread stays in the pod
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		return err
	}
	routes, err := dial(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	if err := routes.do(inPod...); err != nil {
		return fmt.Errorf("pod: %w", err)
	}
	if err := host.do(onHost...); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	if !withNFT {
		return nil
	}
	filter, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	if err := filter.do(replyMarks("veth0", mark)...); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	return nil
}

// addresses reads an IPv4 and an IPv6 address from an environment variable.
func addresses(variable string) ([]netip.Addr, error) {
	var out []netip.Addr
	for s := range strings.SplitSeq(os.Getenv(variable), ",") {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
		out = append(out, a)
	}
	if len(out) != len(services) {
		return nil, fmt.Errorf("%s: %d addresses, want an IPv4 and an IPv6 one", variable, len(out))
	}
	return out, nil
}

func host32(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func sysctl(key, value string) error {
	fd, err := unix.Open("/proc/sys/net/"+key, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}
