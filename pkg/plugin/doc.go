// SPDX-License-Identifier: Apache-2.0

// Package plugin is the driver of every plugin of the suite. It speaks CNI on standard
// input and output and runs each verb (ADD, CHECK, DEL, GC, STATUS) in the same steps of
// the engine: observe, plan, diff, apply. One plan serves all verbs, so they can't
// disagree.
//
// A plugin supplies a [Plugin]: a function that reads its configuration, functions that
// observe, and a pure plan. Its main function is one line:
//
//	func main() { plugin.Main(route.Plugin()) }
//
// A plan gets a [View], which holds no kernel, no log and no lock. The example below is a
// whole plugin.
//
// The driver touches the kernel through package kernel only, and files through package
// records only. Package config reads keys; package attachment derives names.
//
// Beware: DEL reads none of the plugin's keys and must work without a pod and without a
// prevResult. See the field Remove of [Plugin].
package plugin
