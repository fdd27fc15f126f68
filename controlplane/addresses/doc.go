// SPDX-License-Identifier: Apache-2.0

// Package addresses gives pods their addresses and takes them back. A pod that is bound to a
// node gets a claim, a SpiderEndpoint of its name; the claim gets an address for each NIC, by
// creating an IPAddress for each; then the claim says which, in one write. An address is free
// again when two facts are there: the pod is gone, and the node says, or can't say any more,
// that nothing uses the address.
//
// One reconciliation looks after one name of a pod. It reads, asks Decide for the next step,
// takes it, and asks again. Decide knows no client and no clock. The first reading is of the
// cache; before anything is written, everything is read again from the API server.
//
// These rules keep two pods from having one address, also while two controllers believe that
// they lead. The simulator switches each of them off and shows what goes wrong.
//
//   - Only creating an IPAddress by its name makes an address a pod's.
//   - Each write carries the resourceVersion that it was decided on.
//   - Whoever relies on an IPAddress that an earlier attempt took changes it first
//     (spec.attempt), so that a deletion on its way fails.
//   - An address is handed out only when the cache has the claim as the API server has it, and so
//     what all claims named until then: of an address whose IPAddress somebody deleted, nothing
//     else says whose it is.
//   - Before an address of a claim is deleted, something in the claim has changed
//     (withdrawn, or the phase Releasing), so that a late "Ready" fails.
package addresses
