// SPDX-License-Identifier: Apache-2.0

// Package keys reads the configuration of plugin route. It knows the keys, the values
// that each allows, and which keys need or exclude each other. For example:
//
//	c, err := keys.Load(map[string]json.RawMessage{"sbr": json.RawMessage("true")})
//
// It has no side effects and does not link package kernel, so that a configuration can
// be checked on any machine. Package route makes plans from the configuration.
//
// Beware: a good configuration may still fail on a node, for example if master is not
// there. Only ADD and STATUS find that.
package keys
