// SPDX-License-Identifier: Apache-2.0

// Package attachment is the identity of one NIC of one pod in one network, and what is
// derived from it: the alias by which our links are known, the name of a pod's host end,
// MACs. The same attachment gives the same names on every call, so nothing is stored.
//
// It is pure: it computes, and touches nothing.
//
// Beware: long names are cut, once and for all ([Attachment.Pod]), so compare attachments by
// [Attachment.Same] and its like. What is derived here is in the kernel of running nodes: to
// derive it in another way leaves everything that a former version made without an owner.
package attachment
