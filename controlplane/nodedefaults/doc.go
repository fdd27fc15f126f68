// SPDX-License-Identifier: Apache-2.0

// Package nodedefaults keeps a node's file of defaults for coordinator's keys (package
// nodeconf): the settings of the SpiderCoordinator default, and the CIDRs in its status. It
// is a part of the node's agent.
//
//	n := &nodedefaults.Node{Path: nodeconf.Path, Subnets: kernel.NodeSubnets}
//	err := n.Add(mgr)
//
// [Decide] is pure. A [Node] writes the file when the object changes, and again when somebody
// changes or deletes the file.
//
// Beware: the file stays as it is while there is nothing better: without the object, before
// the controller has filled its status, while the API server is down, and when the object has
// something that a node must not have ([Node.Refusal] says what).
package nodedefaults
