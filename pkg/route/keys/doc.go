// SPDX-License-Identifier: Apache-2.0

// Package keys reads the configuration of route: which keys there are, what each allows, and
// which must be together.
//
// It touches nothing and links no kernel, so that a configuration can be tried anywhere.
// What is done by it is package route's business.
package keys
