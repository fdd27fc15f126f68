// SPDX-License-Identifier: Apache-2.0

// Package fib decides where a packet goes, as the kernel would, and says why: the
// rules asked, the tables they lead to, the route taken, and the source address given
// to a packet without one.
//
// A [Namespace] holds everything in one network namespace that the decision depends on;
// package survey reads it. [Namespace.Output] decides on a packet made in the namespace,
// [Namespace.Input] on a packet that comes in by a link. The package does no input or
// output. The kernel is its authority: a test asks both the same question thousands of
// times. Comments name the kernel functions that the code follows.
//
// The package does not know VRFs (l3mdev), exceptions left by redirects and path MTU
// discovery, address labels changed by an administrator, and the hash that chooses one
// of several equal next hops: it returns all of them.
package fib
