// SPDX-License-Identifier: Apache-2.0

// Package hostlink is the node's end of its links to pods: the settings that
// each has, and the macvlan that a node has for itself beside those of its pods,
// for all plugins that make one. It plans, and reads what a plan goes by; what
// is written is package kernel's business.
package hostlink

import "github.com/multihome/multihome/pkg/netstate"

// host is where everything of this package is.
const host = netstate.Host
