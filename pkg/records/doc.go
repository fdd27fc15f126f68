// SPDX-License-Identifier: Apache-2.0

// Package records stores facts about attachments that the kernel can't store. Each
// attachment has a small file below /run/multihome with the addresses of its NIC, the table
// and the link of the node's routes to them, or the links of the node that it uses. Facts
// that DEL can read from the kernel are not in a record. The package also reads other files
// that only root may write ([ReadTrusted]).
//
// For example, this writes, reads and removes the record of an attachment:
//
//	err := records.NodeRoutes.Write(a.Pod(), records.Record{Network: "lan", ContainerID: id, IfName: "eth0", Addresses: addrs})
//	…
//	r, err := records.NodeRoutes.ReadOne(a.Pod(), "eth0")
//	…
//	err = records.NodeRoutes.Remove(a.Pod(), "eth0")
//
// Write a record before the state that it describes, and remove it after that state. It is
// on a tmpfs, so a reboot removes both.
//
// All files and directories must belong to root, without access for others, and must not be
// symbolic links. [Set.Read] returns the records that it can read, together with an error
// that names the other files.
//
// Beware: a set is a directory in which several plugins work at the same time. A plugin
// that can't lock the pod's namespace takes [Set.Lock]. Call [Set.Sweep] only while no
// plugin writes.
package records
