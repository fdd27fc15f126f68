// SPDX-License-Identifier: Apache-2.0

// Package config reads the keys of a plugin's configuration strictly. An unknown key is
// an error that names the nearest known key or the plugin that reads it. A value that
// isn't allowed is an error that says which values are.
//
//	mtu := 0
//	err := config.Decode(raw, []config.Key{{Name: "mtu", Value: config.Int(&mtu, 68, 65535)}})
//
// It reads JSON and touches nothing: no kernel, no file, no log. A program that checks a
// network before it is used, such as a webhook, can link it together with the keys of a
// plugin (coordinator/keys, route/keys, ifacer/keys).
//
// Beware: [Invalid] makes every error about a configuration and gives it CNI's code 7.
// Keys are matched without regard to case, as in encoding/json.
package config
