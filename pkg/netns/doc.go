// SPDX-License-Identifier: Apache-2.0

// Package netns opens, tells apart, enters and locks network namespaces.
//
// It knows nothing of what is in a namespace. Package kernel opens the two that an
// attachment spans, and keeps its sockets in them.
//
// Beware: a thread that can't come back from a namespace must not go on, so [Return]
// panics. What runs in [Within] must not start a goroutine that needs the namespace: the
// thread is there, not the program. Nothing but a network namespace is ever opened: a FIFO
// at the path would block, and a device might do anything.
package netns
