// SPDX-License-Identifier: Apache-2.0

// Package applications gives each application pools of its own, of the subnets that its pods'
// annotations name: a SpiderIPPool for each NIC and family, with as many addresses as the
// application needs. docs/fixed-addresses.md says how.
//
// An address is in a pool by its IPAddress, which says so: it is made when the pool grows, and
// deleted when the pool shrinks. In between its pods take it and give it back (package
// addresses). spec.ips of the pool only shows which there are. So a controller may stop
// between any two writes: Decide says from what is there what is still to be done.
package applications
