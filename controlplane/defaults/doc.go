// SPDX-License-Identifier: Apache-2.0

// Package defaults fills the status of the SpiderCoordinator default with the CIDRs of the
// cluster's Services and of the pods of its own network.
//
//	observe   reads the objects that may say them   -> Sources    observe.go
//	Discover  decides which lists these give        -> status     pure
//	patch     writes the status, if it changed                    reconciler.go
//
// It writes nothing but this status, and doesn't create the SpiderCoordinator.
// docs/defaults.md says where each list comes from.
package defaults
