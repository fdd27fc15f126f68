// SPDX-License-Identifier: Apache-2.0

// Package testbed builds networks out of network namespaces, sends traffic
// through them and watches it on the wire. The tests of this module and the lab
// of the multihome command stand on it.
//
// It changes only namespaces that it created itself, and only by netlink and
// /proc/sys: no external program is run. Nothing that it makes has a name
// outside of the process, so nothing is left when the process ends, however it
// ends. It must not be linked into a plugin.
package testbed
