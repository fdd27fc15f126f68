// SPDX-License-Identifier: Apache-2.0

// Package trace follows a packet from a pod, or to one, and its reply through the
// network namespaces of pod and node, and says whether the reply comes back by the
// same way.
//
// Package fib decides where a packet goes, by the state that package survey read. The
// kernel is then asked for its own decision and has the last word. Only a probe sends
// packets; nothing is ever written.
package trace
