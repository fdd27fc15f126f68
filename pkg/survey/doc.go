// SPDX-License-Identifier: Apache-2.0

// Package survey reads what only the command for people needs: all that a namespace holds,
// the FIB as package fib decides by it, the kernel's own decision, netfilter's chains
// whoever made them, and the addresses of Services.
//
// It takes as long as the node is large. So no plugin may link it; a test holds that.
//
// It changes nothing in the namespaces it reads. [LacksLink] tries something out, in a
// namespace that nobody else sees.
//
// Beware: to look into a table of iptables' older flavour would make it, so only those
// that are there already are looked into.
package survey
