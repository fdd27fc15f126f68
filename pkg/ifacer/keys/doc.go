// SPDX-License-Identifier: Apache-2.0

// Package keys reads the configuration of ifacer: which keys there are, what each allows,
// and which must be together.
//
// It touches nothing and links no kernel, so that a configuration can be tried anywhere.
// What a node allows of it (its list in /etc/cni/multihome) and what is done by it is package
// ifacer's business.
package keys
