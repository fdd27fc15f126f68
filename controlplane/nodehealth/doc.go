// SPDX-License-Identifier: Apache-2.0

// Package nodehealth publishes what multihome doctor finds on a node as the condition
// MultihomeReady of its Node.
//
//	p := nodehealth.New(name, nodehealth.Doctor("/opt/multihome/bin/multihome", "/"), mgr.GetAPIReader(), mgr.GetClient())
//	p.Others = append(p.Others, fights)
//	err := mgr.Add(p)
//
// [Decide] says what the condition is to be. A finding is published when two examinations
// have it: pods that come and go look like drift for a moment. The condition is written when
// it says something else than before, and has no heartbeat: a condition of an agent that is
// gone stays as it was.
//
// An examination costs about 5 ms of a processor for each pod. The next one comes after
// [Interval], or later, so that they don't take more than [Share] of a processor.
package nodehealth
