// SPDX-License-Identifier: Apache-2.0

// Package identities knows the pods that keep their addresses when they are made again: the
// pods of a StatefulSet, by their ordinal, and those of a KubeVirt virtual machine. It frees
// what was kept for an identity that is over: of an ordinal that the StatefulSet was scaled
// away from, of a StatefulSet or a virtual machine that is deleted.
package identities
