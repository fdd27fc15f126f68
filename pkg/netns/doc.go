// SPDX-License-Identifier: Apache-2.0

// Package netns opens, compares, enters and locks network namespaces.
//
// For example, this runs a function in a pod's namespace:
//
//	pod, err := netns.Open("/run/netns/pod")
//	if errors.Is(err, netns.ErrNone) {
//		// the pod is gone
//	}
//	…
//	entered, err := netns.Within(pod, home, func() error { … })
//
// home is a file descriptor of the program's own namespace. The package doesn't read the
// contents of a namespace: package kernel opens the two namespaces of an attachment and
// opens its sockets in them.
//
// Beware: only the calling thread enters a namespace. So a function that runs in [Within]
// must not start a goroutine that needs the namespace. A thread that can't return to its
// own namespace must not go on, so [Return] panics.
package netns
