// SPDX-License-Identifier: Apache-2.0

// Package iptables finds and runs the programs of iptables: which there are for an address
// family, which flavour they are of, and what it means when one fails.
//
// It holds no policy: which chains are ours is package kernel's business. Of nf_tables
// itself, which needs no program, is package nft.
//
// Beware: a program works in the network namespace of the thread that starts it. To run one
// takes milliseconds, so nothing is run to find out that there is nothing. To look into a
// table of the older flavour makes it.
package iptables
