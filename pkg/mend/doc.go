// SPDX-License-Identifier: Apache-2.0

// Package mend keeps living pods as their plans want them. It listens to what changes on the
// node and in pods' namespaces, waits until things settle, and has package repair look at the
// pods that a change can concern. For example, until ctx ends:
//
//	err := mend.Run(ctx, mend.Options{
//		CacheDirs: inspect.CacheDirs, ConfDir: "/etc/cni/net.d", Defaults: nodeconf.Path,
//		Did: func(pod mend.Pod, a attachment.Attachment, op netstate.Op) { log.Info("mended", "op", op) },
//	})
//
// [State] decides, and knows no clock but the one it is given. [Run] acts, and is thin.
//
// Three things keep it from doing harm. A look that finds nothing wakes nobody, so what it
// writes itself is looked at once more and then forgotten. What it mends ten times in a
// minute is in a fight with another program: it leaves that alone for a while. And a pod of
// which nothing is left on the node may be in the middle of a DEL: it isn't made anew until
// no plugin works on it.
package mend
