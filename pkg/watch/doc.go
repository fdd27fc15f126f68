// SPDX-License-Identifier: Apache-2.0

// Package watch tells what changes on the node, in the network namespaces of its pods, and
// in some directories.
//
//	w, err := watch.Open()
//	id, err := w.NetnsID("/run/netns/pod") // events in the pod's namespace have this number
//	for {
//		w.Wait(time.Minute)
//		events, err := w.Read()
//		…
//	}
//
// Two netlink sockets in the node's namespace receive the events of all namespaces that have
// an ID there (NETLINK_LISTEN_ALL_NSID of netlink(7), which needs CAP_NET_BROADCAST). So there
// is no socket in a pod's namespace: that would keep the namespace, with the pod's NICs and
// addresses, after the runtime has deleted it.
//
// A filter in the kernel drops most routes of others and neighbours that the kernel
// resolves by itself: they wake nobody.
//
// The package reads only, with one exception: NetnsID gives a namespace an ID in the
// node's, as `ip netns set` does, if it has none.
package watch
