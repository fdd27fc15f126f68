// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/netstate"
)

// What readers above this package need of a namespace (pkg/survey).

// NS tells whether it is the node's or the pod's.
func (s *Namespace) NS() netstate.NS { return s.ns }

// Conn is its rtnetlink socket.
func (s *Namespace) Conn() *netlink.Conn { return s.conn }

// Home is the program's own namespace, to come back to.
func (s *Namespace) Home() int { return s.home }
