// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const controller = "multihome_controller_"

var (
	bindingToReady = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: controller + "binding_to_ready_seconds", Help: "How long a pod's addresses took, from its binding to a node until its claim was Ready.",
		Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
	})
	collected = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: controller + "collected_total", Help: "What the controller did to get or keep the addresses in order.",
	}, []string{"action"})
	defaultsFound = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: controller + "defaults_timestamp_seconds", Help: "When all sources of the cluster's CIDRs could last be read, in seconds since 1970.",
	}, nil)

	addresses = prometheus.NewDesc(controller+"addresses",
		"Addresses by the pool and their state. Those of an application's own pool count in its SpiderSubnet.", []string{"pool", "state"}, nil)
	poolSize = prometheus.NewDesc(controller+"pool_size",
		"How many addresses a pool may hand out, free or not.", []string{"pool"}, nil)
	claimsWaiting = prometheus.NewDesc(controller+"claims_waiting",
		"Claims whose condition Ready is not True, by its reason; New: without that condition.", []string{"reason"}, nil)
)

// Free is the state of an address that has no IPAddress.
const Free = "Free"

// Stock is what a pool has.
type Stock struct {
	Size   int64            // how many addresses it may hand out
	States map[string]int64 // how many addresses it has, by their state
}

// Ledger is what the leader knows of all addresses and claims.
type Ledger struct {
	Pools   map[string]Stock // by the names that IPAddresses have: NAME, subnet/NAME, vlansubnet/NAME
	Waiting map[string]int   // claims that aren't Ready, by the reason
}

// RegisterController has the controller's metrics served. read returns the leader's ledger.
// Until elected is closed there is none: another controller's is the one that counts.
func RegisterController(r prometheus.Registerer, elected <-chan struct{}, read func() Ledger) {
	r.MustRegister(bindingToReady, collected, defaultsFound, ledger{elected, read})
}

// Ready notes how long a pod's addresses took.
func Ready(took time.Duration) { bindingToReady.Observe(took.Seconds()) }

// Action is something that a collector does.
type Action string

// Actions.
const (
	Released Action = "released" // a claim, with the addresses of a pod that is gone
	Remade   Action = "remade"   // an IPAddress, which somebody deleted while it was in use
	Asked    Action = "asked"    // a node, to withdraw what a pod had that has no claim or doesn't come back
	Cleared  Action = "cleared"  // an address that was taken in memory alone
)

// Collected counts an action.
func Collected(a Action) { collected.WithLabelValues(string(a)).Inc() }

// DefaultsFound notes that all sources of the cluster's CIDRs could be read.
func DefaultsFound() { defaultsFound.WithLabelValues().SetToCurrentTime() }

// ledger serves what the leader's ledger has.
type ledger struct {
	elected <-chan struct{}
	read    func() Ledger
}

func (l ledger) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{addresses, poolSize, claimsWaiting} {
		ch <- d
	}
}

func (l ledger) Collect(ch chan<- prometheus.Metric) {
	select {
	case <-l.elected:
	default:
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	now := l.read()
	for pool, stock := range now.Pools {
		gauge(poolSize, float64(stock.Size), pool)
		for state, n := range stock.States {
			gauge(addresses, float64(n), pool, state)
		}
	}
	for reason, n := range now.Waiting {
		gauge(claimsWaiting, float64(n), reason)
	}
}
