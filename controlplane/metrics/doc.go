// SPDX-License-Identifier: Apache-2.0

// Package metrics has the metrics of agent and controller: what neither the container runtime
// nor Kubernetes knows. docs/monitoring.md lists them. ADD and DEL are counted by the runtime.
//
// Whoever knows something calls a function of this package, whether or not the metric is
// served. Each program serves its own ones: [RegisterAgent], [RegisterController].
//
// No label has the name of a pod, a node, a claim or an address: a cluster has too many of
// them, and Prometheus keeps those that are gone. Labels have pools that people made, and
// words of this code.
package metrics
