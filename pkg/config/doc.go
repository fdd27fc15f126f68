// SPDX-License-Identifier: Apache-2.0

// Package config reads the keys of a plugin's configuration, strictly: a key that nobody
// knows is an error that names the nearest one, and a value that isn't allowed is an error
// that says what is.
//
// It reads JSON and touches nothing: no kernel, no file, no log. So whoever wants to know
// whether a network is good before it is used, a webhook for instance, may link it together
// with the keys of a plugin (coordinator/keys, route/keys, ifacer/keys).
//
// Beware: every error for what a user wrote is made by [Invalid], which gives it CNI's code
// 7. Keys are matched without regard to case, as encoding/json does.
package config
