// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	_ "sigs.k8s.io/controller-runtime/pkg/controller" // registers its metrics
	runtimemetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/multihome/multihome/controlplane/metrics"
	"github.com/multihome/multihome/pkg/netstate"
)

const page = "../../docs/monitoring.md"

// desc is what a registry says of a metric (prometheus.Desc.String).
var desc = regexp.MustCompile(`fqName: "([^"]+)", help: "(?:[^"\\]|\\.)*", (?:unit: "[^"]*", )?constLabels: {[^}]*}, variableLabels: {([^}]*)}`)

// rows returns the metrics of a registry as the tables of docs/monitoring.md begin their rows.
func rows(c prometheus.Collector) []string {
	ch := make(chan *prometheus.Desc)
	go func() { defer close(ch); c.Describe(ch) }()
	var out []string
	for d := range ch {
		m := desc.FindStringSubmatch(d.String())
		if m == nil {
			panic(d.String())
		}
		var labels []string
		for label := range strings.SplitSeq(m[2], ",") {
			if label != "" {
				labels = append(labels, "`"+label+"`")
			}
		}
		out = append(out, strings.ReplaceAll(fmt.Sprintf("| `%s` | %s |", m[1], strings.Join(labels, ", ")), "|  |", "| |"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// table returns the rows of the page below a heading, as far as they name metric and labels.
func table(t *testing.T, heading string) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("%s has no %s", page, heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	out := regexp.MustCompile("(?m)^\\| `[^|]+` \\| [^|]*\\|").FindAllString(section, -1)
	slices.Sort(out)
	return out
}

func agentRegistry(defaults string) *prometheus.Registry {
	r := prometheus.NewPedanticRegistry()
	metrics.RegisterAgent(r, defaults)
	return r
}

func controllerRegistry(elected chan struct{}, read func() metrics.Ledger) *prometheus.Registry {
	r := prometheus.NewPedanticRegistry()
	metrics.RegisterController(r, elected, read)
	return r
}

// TestPage: docs/monitoring.md lists the metrics with their labels, all of them and no others.
// The rules and the dashboard of deploy/ are checked by that page (integration/deploy).
func TestPage(t *testing.T) {
	for heading, r := range map[string]prometheus.Collector{
		"## Metrics of the agent":      agentRegistry("/none"),
		"## Metrics of the controller": controllerRegistry(nil, nil),
	} {
		if diff := cmp.Diff(rows(r), table(t, heading)); diff != "" {
			t.Errorf("%s (-code +page):\n%s", heading, diff)
		}
	}
	all := rows(runtimemetrics.Registry.(prometheus.Collector))
	for _, row := range table(t, "## Metrics of both") {
		if !slices.Contains(all, row) {
			t.Errorf("the library has no %s", row)
		}
	}
}

// TestNames: names and units are as Prometheus wants them, and no label has what a cluster has
// too many of.
func TestNames(t *testing.T) {
	for _, r := range []*prometheus.Registry{agentRegistry("/none"), controllerRegistry(nil, nil)} {
		wrong, err := testutil.GatherAndLint(r)
		if err != nil || len(wrong) > 0 {
			t.Errorf("%v %v", err, wrong)
		}
		for _, row := range rows(r) {
			for _, label := range []string{"`pod`", "`namespace`", "`node`", "`name`", "`uid`", "`address`", "`claim`"} {
				if strings.Contains(row, label) {
					t.Errorf("%s has the label %s", row, label)
				}
			}
		}
	}
}

func TestAgent(t *testing.T) {
	file := filepath.Join(t.TempDir(), "coordinator.json")
	r := agentRegistry(file)
	metrics.Drift(netstate.KindRule, true)
	metrics.Drift(netstate.KindRule, false)
	metrics.Fight()
	metrics.MendFailed()
	metrics.ToMend(3)
	metrics.SandboxRemoved(true)
	metrics.SandboxRemoved(false)
	metrics.Reported(1, 2)
	metrics.NotWithdrawn(4)
	metrics.Findings(map[metrics.Finding]int{{ID: "drift", Severity: "problem"}: 2})
	metrics.Findings(map[metrics.Finding]int{{ID: "ip-forward", Severity: "problem"}: 1})
	want := `
# HELP multihome_agent_drift_found_total Objects of living pods that were found missing, changed or not wanted.
# TYPE multihome_agent_drift_found_total counter
multihome_agent_drift_found_total{kind="rule"} 2
# HELP multihome_agent_drift_mended_total Objects of living pods that were made as they should be.
# TYPE multihome_agent_drift_mended_total counter
multihome_agent_drift_mended_total{kind="rule"} 1
# HELP multihome_agent_fights_total Objects that another program removed again and again, so that mending stopped.
# TYPE multihome_agent_fights_total counter
multihome_agent_fights_total 1
# HELP multihome_agent_findings What multihome doctor finds on the node.
# TYPE multihome_agent_findings gauge
multihome_agent_findings{finding="ip-forward",severity="problem"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "multihome_agent_drift_found_total", "multihome_agent_drift_mended_total",
		"multihome_agent_fights_total", "multihome_agent_findings", "multihome_agent_defaults_timestamp_seconds"); err != nil {
		t.Error(err)
	}
	when := time.Unix(1700000000, 0)
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, when, when); err != nil {
		t.Fatal(err)
	}
	want = `
# HELP multihome_agent_defaults_timestamp_seconds When the node's defaults were last changed, in seconds since 1970. None without the file.
# TYPE multihome_agent_defaults_timestamp_seconds gauge
multihome_agent_defaults_timestamp_seconds 1.7e+09
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "multihome_agent_defaults_timestamp_seconds"); err != nil {
		t.Error(err)
	}
}

// TestStandby: what only the leader knows, only the leader says.
func TestStandby(t *testing.T) {
	elected := make(chan struct{})
	r := controllerRegistry(elected, func() metrics.Ledger {
		return metrics.Ledger{
			Pools:   map[string]metrics.Stock{"a": {Size: 5, States: map[string]int64{"Free": 3, "Allocated": 2}}},
			Waiting: map[string]int{"PoolExhausted": 1},
		}
	})
	names := []string{"multihome_controller_addresses", "multihome_controller_pool_size", "multihome_controller_claims_waiting"}
	if n, err := testutil.GatherAndCount(r, names...); n != 0 || err != nil {
		t.Errorf("a standby reports %d: %v", n, err)
	}
	close(elected)
	want := `
# HELP multihome_controller_addresses Addresses by the pool and their state. Those of an application's own pool count in its SpiderSubnet.
# TYPE multihome_controller_addresses gauge
multihome_controller_addresses{pool="a",state="Allocated"} 2
multihome_controller_addresses{pool="a",state="Free"} 3
# HELP multihome_controller_claims_waiting Claims whose condition Ready is not True, by its reason; New: without that condition.
# TYPE multihome_controller_claims_waiting gauge
multihome_controller_claims_waiting{reason="PoolExhausted"} 1
# HELP multihome_controller_pool_size How many addresses a pool may hand out, free or not.
# TYPE multihome_controller_pool_size gauge
multihome_controller_pool_size{pool="a"} 5
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}
