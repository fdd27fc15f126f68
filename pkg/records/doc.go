// SPDX-License-Identifier: Apache-2.0

// Package records keeps what the kernel has no room to note: for each attachment a small
// file below /run/multihome with the addresses of its NIC, the table and the link of the
// node's routes to them, or the links of the node that it uses. It also reads other files
// that nobody but root may have written.
//
// A record is written before the state that it is about, and removed after it. It lies on
// a tmpfs, so that it doesn't outlive that state. What DEL can learn from the kernel is
// not in a record.
//
// It touches nothing but files. Everything in the directory is root's alone and is reached
// by no link; what isn't is named in the error, which comes beside the records that can
// be read.
//
// Beware: a set is a directory and other plugins' ADD and DEL work in it at the same time.
// [Set.Lock] is for those who have no namespace to lock, and [Set.Sweep] for those who know
// that no writer is at work.
package records
