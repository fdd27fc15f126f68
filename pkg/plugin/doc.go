// SPDX-License-Identifier: Apache-2.0

// Package plugin is the driver that the main function of every plugin calls: it
// speaks CNI on standard input and output, reads configurations strictly, and
// turns each verb into the same few steps of the engine (observe, plan, diff,
// apply), so that the verbs of a plugin can't disagree.
//
// A plugin supplies a [Plugin]: how its configuration is read, what it observes,
// and a pure plan. The driver touches the kernel only through package kernel.
package plugin
