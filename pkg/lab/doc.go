// SPDX-License-Identifier: Apache-2.0

// Package lab builds a small site out of network namespaces: a node, its LANs
// with a router, clients, and pods that a chain of real CNI plugins connects,
// run by libcni as a container runtime runs it. Checks send real traffic
// through it and judge what passes the wire.
//
// It touches only what pkg/nettest gives it, so nothing is left of a lab when
// the process ends, or when its server does if it is kept up. The integration tests
// and `multihome lab` build on it; no plugin does.
package lab
