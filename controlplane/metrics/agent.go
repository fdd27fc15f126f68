// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/multihome/multihome/pkg/netstate"
)

const agent = "multihome_agent_"

var (
	found = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: agent + "drift_found_total", Help: "Objects of living pods that were found missing, changed or not wanted.",
	}, []string{"kind"})
	mended = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: agent + "drift_mended_total", Help: "Objects of living pods that were made as they should be.",
	}, []string{"kind"})
	mendFailures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: agent + "mend_failures_total", Help: "Times that a pod couldn't be mended.",
	})
	fights = prometheus.NewCounter(prometheus.CounterOpts{
		Name: agent + "fights_total", Help: "Objects that another program removed again and again, so that mending stopped.",
	})
	toMend = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: agent + "pods_to_mend", Help: "Pods that wait to be looked at and mended.",
	})

	removed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: agent + "sandboxes_removed_total", Help: "Sandboxes with addresses of pools that were removed from the spool; del: whether the runtime called DEL.",
	}, []string{"del"})
	unclaimed = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: agent + "sandboxes_unclaimed", Help: "Sandboxes with addresses that no claim names.",
	})
	waitingNICs = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: agent + "nics_waiting", Help: "NICs of pods whose ADD waits for a claim to name them.",
	})
	notWithdrawn = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: agent + "pods_not_withdrawn", Help: "Pods that are gone or have finished and whose addresses may still be in use on the node.",
	})

	findings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: agent + "findings", Help: "What multihome doctor finds on the node.",
	}, []string{"finding", "severity"})
	examined = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: agent + "examined_timestamp_seconds", Help: "When the node was last examined, in seconds since 1970.",
	})
)

// RegisterAgent has the agent's metrics served. defaults is the path of the file with the
// node's defaults.
func RegisterAgent(r prometheus.Registerer, defaults string) {
	r.MustRegister(found, mended, mendFailures, fights, toMend, removed, unclaimed, waitingNICs, notWithdrawn, findings, examined, age(defaults))
}

// Drift counts an object that wasn't as it should be, and whether it is now.
func Drift(kind netstate.Kind, isMended bool) {
	found.WithLabelValues(string(kind)).Inc()
	if isMended {
		mended.WithLabelValues(string(kind)).Inc()
	}
}

// MendFailed counts a pod that couldn't be mended.
func MendFailed() { mendFailures.Inc() }

// Fight counts an object that another program removes again and again.
func Fight() { fights.Inc() }

// ToMend says how many pods wait to be mended.
func ToMend(pods int) { toMend.Set(float64(pods)) }

// SandboxRemoved counts a sandbox of which nothing is in use any more: after a DEL, or because
// its network namespace is gone, and no DEL came.
func SandboxRemoved(del bool) {
	label := "no"
	if del {
		label = "yes"
	}
	removed.WithLabelValues(label).Inc()
}

// Reported says how many sandboxes no claim names, and how many NICs wait for one.
func Reported(sandboxes, nics int) {
	unclaimed.Set(float64(sandboxes))
	waitingNICs.Set(float64(nics))
}

// NotWithdrawn says how many pods are gone and may still have something on the node.
func NotWithdrawn(pods int) { notWithdrawn.Set(float64(pods)) }

// Finding is a kind of finding of doctor.
type Finding struct{ ID, Severity string }

// Findings says what an examination of the node found, and how often.
func Findings(counts map[Finding]int) {
	examined.SetToCurrentTime()
	findings.Reset()
	for f, n := range counts {
		findings.WithLabelValues(f.ID, f.Severity).Set(float64(n))
	}
}

// age is the time of a file, as long as it is there.
type age string

var defaultsWritten = prometheus.NewDesc(agent+"defaults_timestamp_seconds",
	"When the node's defaults were last changed, in seconds since 1970. None without the file.", nil, nil)

func (age) Describe(ch chan<- *prometheus.Desc) { ch <- defaultsWritten }

func (path age) Collect(ch chan<- prometheus.Metric) {
	if info, err := os.Stat(string(path)); err == nil {
		ch <- prometheus.MustNewConstMetric(defaultsWritten, prometheus.GaugeValue, float64(info.ModTime().UnixMilli())/1000)
	}
}
