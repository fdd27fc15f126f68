// SPDX-License-Identifier: Apache-2.0

// Package testbed builds networks out of network namespaces, sends traffic through them and
// captures it on the wire. The tests of this module and the lab of the multihome command use
// it.
//
//	node, err := testbed.NewNetns("node")
//	client, err := testbed.NewNetns("client")
//	err = testbed.ConnectVeth(node, "eth0", client, "eth0")
//	err = node.AddAddrs("eth0", netip.MustParsePrefix("10.6.0.1/24"))
//	err = client.AddAddrs("eth0", netip.MustParsePrefix("10.6.0.2/24"))
//	server, err := node.Serve(8080, testbed.Socket{})
//	capture, err := node.Capture("eth0")
//	answer, err := client.Ask("tcp", netip.MustParseAddrPort("10.6.0.1:8080"), testbed.Socket{})
//	frames, err := capture.Frames()
//
// It changes only namespaces that it created itself, by netlink and /proc/sys. It runs no
// external program, except iptables on a kernel without nftables. Its namespaces have no name
// outside of the process, so nothing is left when the process ends, even if it is killed.
//
// Beware: it needs root, and must not be linked into a plugin. Functions that are passed to
// [Netns.Do] run on a locked thread; goroutines that they start are not in the namespace.
package testbed
