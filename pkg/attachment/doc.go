// SPDX-License-Identifier: Apache-2.0

// Package attachment identifies one NIC of one pod in one network, and derives names from
// that identity: the alias that marks our links, the name of a pod's host end, and MACs. The
// same attachment has the same names on every call, so nothing is stored:
//
//	a := attachment.Attachment{Network: "lan", ContainerID: "0123abcd", IfName: "eth0"}
//	a.Alias()                            // multihome:lan/0123abcd/eth0
//	attachment.HostEnd(a.ContainerID)    // veth88fb52f560b
//
// The package is pure: it only computes.
//
// Beware: an alias holds long names in a shortened form. So compare attachments with
// [Attachment.Same], [Attachment.SamePod] and [Attachment.SameNetwork], not with ==. Never
// change how names are derived: links that earlier versions made would no longer have an
// owner.
package attachment
