// SPDX-License-Identifier: Apache-2.0

package deploy

import (
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafanaprometheus "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const (
	rulesFile     = "../../deploy/monitoring/rules.yaml"
	dashboardFile = "../../deploy/monitoring/dashboard.json"
)

// documented returns the labels of the metrics that docs/monitoring.md lists. A test of
// controlplane/metrics compares them with those of the programs.
func documented(t *testing.T) map[string][]string {
	t.Helper()
	text := read(t, "../../docs/monitoring.md")
	out := map[string][]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| ([^|]*)\\|").FindAllStringSubmatch(text, -1) {
		of := []string{}
		for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(m[2], -1) {
			of = append(of, l[1])
		}
		out[m[1]] = of
	}
	if len(out) < 20 {
		t.Fatalf("docs/monitoring.md lists %d metrics", len(out))
	}
	return out
}

// target are labels that Prometheus adds to what it scrapes.
var target = []string{"instance", "job", "namespace", "pod", "container", "endpoint"}

// faults returns what is wrong with an expression: its grammar, metrics that no program of
// ours has, and labels that they don't have.
func faults(expr string, known map[string][]string) []string {
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var out, names, of []string // of: all labels that the metrics of the expression have
	use := func(label string, have []string) {
		if !slices.Contains(have, label) && !slices.Contains(target, label) {
			out = append(out, "no metric here has the label "+label)
		}
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		s, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		name, have := s.Name, known[s.Name]
		if base, ok := strings.CutSuffix(name, "_bucket"); ok && have == nil {
			have = known[base]
			if have != nil {
				have = append(slices.Clone(have), "le")
			}
		}
		if have == nil {
			out = append(out, "docs/monitoring.md has no metric "+name)
		}
		names, of = append(names, name), append(of, have...)
		for _, m := range s.LabelMatchers {
			if m.Name != labels.MetricName {
				use(m.Name, have)
			}
		}
		return nil
	})
	if len(names) == 0 {
		out = append(out, "it asks for no metric")
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.AggregateExpr:
			for _, label := range n.Grouping {
				use(label, of)
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				for _, label := range n.VectorMatching.MatchingLabels {
					use(label, of)
				}
			}
		}
		return nil
	})
	return out
}

// TestFaults: the check finds what it is for.
func TestFaults(t *testing.T) {
	known := map[string][]string{"a": {"pool"}, "b_seconds": {}}
	for expr, want := range map[string]string{
		`sum by (pool) (a{pool="x"}) and on (instance) b_seconds`:           "",
		`histogram_quantile(0.9, sum by (le) (rate(b_seconds_bucket[5m])))`: "",
		`sum(a`:                   "1:6: parse error: unclosed left parenthesis",
		`c`:                       "docs/monitoring.md has no metric c",
		`a{pod_name="x"}`:         "no metric here has the label pod_name",
		`sum by (pools) (a)`:      "no metric here has the label pools",
		`a and on (le) b_seconds`: "no metric here has the label le",
		`c_bucket`:                "docs/monitoring.md has no metric c_bucket",
		`vector(1)`:               "it asks for no metric",
	} {
		if got := strings.Join(faults(expr, known), "; "); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

// TestRules: Prometheus takes the rules, what they ask for is there, and docs/monitoring.md says
// of each alert what to do.
func TestRules(t *testing.T) {
	groups, errs := rulefmt.Parse([]byte(read(t, rulesFile)), false, model.UTF8Validation)
	for _, err := range errs {
		t.Error(err)
	}
	if groups == nil {
		t.FailNow()
	}
	known, page := documented(t), read(t, "../../docs/monitoring.md")
	alerts := map[string]bool{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			alerts[r.Alert] = true
			for _, fault := range faults(r.Expr, known) {
				t.Errorf("%s: %s", r.Alert, fault)
			}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s: want severity, summary and description", r.Alert)
			}
		}
	}
	var said []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(Multihome[A-Za-z]+)` \\|").FindAllStringSubmatch(page, -1) {
		said = append(said, m[1])
	}
	slices.Sort(said)
	if diff := cmp.Diff(said, slices.Sorted(maps.Keys(alerts))); diff != "" || len(said) == 0 {
		t.Errorf("(-docs/monitoring.md +rules):\n%s", diff)
	}
}

// TestDashboard: Grafana's own types take the dashboard, without a field that they don't know,
// and what its panels ask for is there.
func TestDashboard(t *testing.T) {
	runtime := cog.NewRuntime()
	runtime.RegisterDataqueryVariant(grafanaprometheus.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	text := read(t, dashboardFile)
	var strict, d dashboard.Dashboard
	// Without a fault it returns an empty list as an error, and then leaves out the panels.
	if err := strict.UnmarshalJSONStrict([]byte(text)); err != nil && err.Error() != "" {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	known, asked := documented(t), 0
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue
		}
		if len(p.Panel.Targets) == 0 {
			t.Errorf("%s asks for nothing", *p.Panel.Title)
		}
		for _, target := range p.Panel.Targets {
			q, ok := target.(*grafanaprometheus.Dataquery)
			if !ok {
				t.Fatalf("%s: a query of type %T", *p.Panel.Title, target)
			}
			asked++
			for _, fault := range faults(q.Expr, known) {
				t.Errorf("%s: %s", *p.Panel.Title, fault)
			}
		}
	}
	if asked < 20 {
		t.Errorf("%d queries", asked)
	}
	// Each metric of ours is in a rule or in the dashboard.
	text += read(t, rulesFile)
	for name := range known {
		if !strings.Contains(text, name) {
			t.Errorf("nothing shows %s", name)
		}
	}
}

// TestMonitoringOfTheChart: it is off by default. The operator's own types take what it makes:
// the same rules, and monitors of the pods and ports that there are.
func TestMonitoringOfTheChart(t *testing.T) {
	const of = "monitoring.coreos.com"
	for _, values := range []string{"", "controlplane: {enabled: true}", "controlplane: {monitoring: true}"} {
		if text, err := helmTemplate(values); err != nil || strings.Contains(text, of) {
			t.Errorf("%q: %v: it makes objects of %s", values, err, of)
		}
	}
	text, err := helmTemplateIn("elsewhere", "controlplane: {enabled: true, monitoring: true}")
	if err != nil {
		t.Fatal(err)
	}
	all := byName(t, text)
	rules := object[monitoringv1.PrometheusRule](t, all, "PrometheusRule elsewhere/multihome")
	var file struct {
		Groups []monitoringv1.RuleGroup `json:"groups"`
	}
	if err := yaml.UnmarshalStrict([]byte(read(t, rulesFile)), &file); err != nil || len(file.Groups) == 0 || !reflect.DeepEqual(file.Groups, rules.Spec.Groups) {
		t.Errorf("%v (-file +chart):\n%s", err, cmp.Diff(file.Groups, rules.Spec.Groups))
	}
	for id, workload := range map[string]string{"PodMonitor elsewhere/multihome-agent": "DaemonSet elsewhere/multihome", "PodMonitor elsewhere/multihome-controller": "Deployment elsewhere/multihome-controller"} {
		m := object[monitoringv1.PodMonitor](t, all, id)
		pod := all[workload]["spec"].(map[string]any)["template"].(map[string]any)
		have := pod["metadata"].(map[string]any)["labels"].(map[string]any)
		for k, v := range m.Spec.Selector.MatchLabels {
			if have[k] != v {
				t.Errorf("%s: no pod has the label %s: %s", id, k, v)
			}
		}
		ports, err := yaml.Marshal(pod["spec"].(map[string]any)["containers"])
		if err != nil || len(m.Spec.PodMetricsEndpoints) != 1 || !strings.Contains(string(ports), "name: "+*m.Spec.PodMetricsEndpoints[0].Port+"\n") {
			t.Errorf("%s: %v: %+v", id, err, m.Spec.PodMetricsEndpoints)
		}
	}
}
