// SPDX-License-Identifier: Apache-2.0

// Package pools says in each SpiderIPPool, SpiderSubnet and SpiderReservedIP what it is good
// for: conditions and counts in the status. A pool with addresses in use gets a finalizer, so
// that it stays until the last one is back.
//
//	observed := ...            // all pools, subnets, reserved and taken addresses
//	Decide(observed, now)      // what is to be written
//
// Decide is pure, and so is pkg/ipam, which decides who hands out what. The allocator calls
// ipam.Usable on the same lists: nothing that this package writes decides who gets an
// address, but for status.inherited.
//
// One reconciliation is about all of them, for pools have a say about each other. It runs at
// most once a second, so no status is written more often.
package pools
