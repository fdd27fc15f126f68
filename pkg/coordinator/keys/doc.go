// SPDX-License-Identifier: Apache-2.0

// Package keys reads the configuration of coordinator, and of veth, its older name: the
// keys, their allowed values and their defaults.
//
//	c, err := keys.Load(raw) // raw holds the keys of coordinator's configuration
//
// It touches nothing and links no kernel, so a program can check a configuration
// anywhere. Package coordinator acts on the configuration.
//
// Beware: a nil [Config] without an error means that the configuration switches the
// plugin off.
package keys
