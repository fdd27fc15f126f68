// SPDX-License-Identifier: Apache-2.0

// Package plugin is the driver that the main function of every plugin calls: it
// speaks CNI on standard input and output and turns each verb into the same few steps of
// the engine (observe, plan, diff, apply), so that the verbs of a plugin can't disagree.
//
// A plugin supplies a [Plugin]: how its configuration is read, what it observes,
// and a pure plan. A plan gets a [View], which holds no kernel, no log and no lock.
//
// The driver touches the kernel only through package kernel, and files only through
// package records. Keys are read by package config, names derived by package attachment.
//
// Beware: DEL reads no key of the plugin's, and neither a pod nor a prevResult has to be
// there: see [Plugin].Remove.
package plugin
