// SPDX-License-Identifier: Apache-2.0

// Package lab builds a small site out of network namespaces: a node, its LANs
// with a router, clients, and pods that a chain of real CNI plugins connects,
// run by libcni as a container runtime runs it. Checks send real traffic
// through it and judge what passes the wire.
//
// It changes only the namespaces of pkg/testbed, so nothing is left of a lab when its
// process ends; a lab that is kept up ends with its server. The integration tests and
// `multihome lab` build on it; no plugin does.
package lab
