// SPDX-License-Identifier: Apache-2.0

// Package ipam decides which pod gets which addresses. It reads the pools, what the pod's
// annotations say about its NICs, and what is taken, and returns addresses or a sentence
// that says what is missing.
//
// All functions are pure: they know no cluster and no clock, and link no Kubernetes
// library. docs/addresses.md explains the rules.
package ipam
