// SPDX-License-Identifier: Apache-2.0

// Package keys reads the configuration of coordinator, and of veth, its older name: which
// keys there are, what each allows, and the defaults.
//
// It touches nothing and links no kernel, so that a configuration can be tried anywhere.
// What is done by it is package coordinator's business.
//
// Beware: a nil [Config] without an error means that the configuration switches the plugin
// off.
package keys
