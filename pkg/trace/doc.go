// SPDX-License-Identifier: Apache-2.0

// Package trace follows a packet from a pod, or to one, and its reply through the
// network namespaces of pod and node, and says whether the reply comes back by the
// same way.
//
// Where a packet goes is decided by package fib, of what package kernel read; each
// decision is then put to the kernel itself, which has the last word. Nothing is
// written, and nothing sent but by a probe.
package trace
