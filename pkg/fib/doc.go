// SPDX-License-Identifier: Apache-2.0

// Package fib decides where a packet goes as the kernel does, and says why: which
// rules it asks, which tables those lead to, which route of them is taken and what
// source address a packet without one gets.
//
// A [Space] is all that the decision depends on, of one network namespace; package
// kernel reads it. [Space.Output] is the decision on a packet that is made there,
// [Space.Input] the one on a packet that comes in by a link. The package does no
// input or output. Its authority is the kernel, which is asked the same thousands of
// times by a test; comments name the functions of the kernel that code follows.
//
// What it doesn't know: VRFs (l3mdev), exceptions that redirects and path MTU
// discovery leave behind, address labels that an administrator changed, and the hash
// by which one of several equal next hops is chosen: all of those are returned.
package fib
