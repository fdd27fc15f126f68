// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// The methods of this file are for readers above this package (pkg/survey).

// NS returns netstate.Host for the node's namespace and netstate.Pod for the pod's.
func (s *Namespace) NS() netstate.NS { return s.ns }

// Conn returns the rtnetlink socket of the namespace.
func (s *Namespace) Conn() *netlink.Conn { return s.conn }

// Home returns a file descriptor of the program's own network namespace. A thread that
// entered another namespace returns to this one.
func (s *Namespace) Home() int { return s.home }
