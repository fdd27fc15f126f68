// SPDX-License-Identifier: Apache-2.0

// Package agent brings the addresses of a node's pods to the node, as files of pkg/spool, and
// says when they are no longer in use there.
//
// [Agent] is the whole of it but for its events: it starts no goroutine, takes no lock and
// has no clock. [Agent.SyncPod] reads the API server and the spool, decide says what is to
// be done, purely, and SyncPod does it. What the cluster's simulator runs is this same code.
//
// An address is free for another pod only after the agent has withdrawn it from the former
// one, in this order:
//
//  1. The pod is gone: the API server says so when it is asked, not a cache.
//  2. The agent removes the addresses from pods/<uid>. From now on no ADD of the pod succeeds.
//  3. It looks at sandboxes/ and gone/, until no sandbox of the pod is left.
//  4. It notes the pod in withdrawn/, so that the pod is never served again in this boot.
//  5. It writes status.withdrawn of the claim, or where that is gone, of the NodeSpool; and then removes pods/<uid>, which
//     kept the pod's name until now.
//
// An agent that is killed between two of them goes on with the next one.
//
// Beware: one agent works on a spool at a time. The program holds a lock for that.
package agent
