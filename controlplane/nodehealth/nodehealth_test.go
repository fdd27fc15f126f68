// SPDX-License-Identifier: Apache-2.0

package nodehealth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/testcluster"
	"github.com/multihome/multihome/pkg/doctor"
)

func report(findings ...doctor.Finding) *doctor.Report { return &doctor.Report{Findings: findings} }

var (
	forward = doctor.Finding{ID: "ip-forward", Severity: doctor.Problem, What: "net.ipv4.ip_forward is 0"}
	drift   = doctor.Finding{ID: "drift", Severity: doctor.Problem, Pod: "web", What: "rule 1000 is missing"}
	filter  = doctor.Finding{ID: "rp-filter-all", Severity: doctor.Warning, What: "net.ipv4.conf.all.rp_filter is 1"}
	note    = doctor.Finding{ID: "conntrack-invalid", Severity: doctor.Note, What: "x"}
	fight   = Finding{"Fight", "systemd-networkd removes rule 1000: run multihome install --drop-ins networkd"}
)

func full(id string, entries int) doctor.Finding {
	return doctor.Finding{ID: id, Severity: doctor.Warning, What: fmt.Sprintf("IPv4: %d entries, and net.x is 1024", entries)}
}

const advice = "multihome doctor on the node says what to do"

func TestDecide(t *testing.T) {
	many := []doctor.Finding{}
	for i := range 20 {
		many = append(many, doctor.Finding{ID: "drift", Severity: doctor.Problem, Pod: fmt.Sprintf("web-%d", i), What: "a"})
	}
	long := doctor.Finding{ID: "drift", Severity: doctor.Problem, What: strings.Repeat("ä", 3000)}
	for name, tt := range map[string]struct {
		seen   Seen
		want   string
		unsure bool
	}{
		"nothing":        {Seen{Report: report()}, "True NoProblem multihome doctor finds no problem on this node", false},
		"a note":         {Seen{Report: report(note)}, "True NoProblem multihome doctor finds no problem on this node", false},
		"a warning":      {Seen{Report: report(filter), Before: report(filter)}, "True Warnings warning rp-filter-all: net.ipv4.conf.all.rp_filter is 1\n" + advice, false},
		"a problem":      {Seen{Report: report(forward), Before: report(forward)}, "False IpForward problem ip-forward: net.ipv4.ip_forward is 0\n" + advice, false},
		"a new problem":  {Seen{Report: report(forward), Before: report()}, "True NoProblem multihome doctor finds no problem on this node", true},
		"the first look": {Seen{Report: report(forward)}, "True NoProblem multihome doctor finds no problem on this node", true},
		"one is new":     {Seen{Report: report(forward, drift), Before: report(drift)}, "False Drift problem drift: web: rule 1000 is missing\n" + advice, true},
		"two, and a warning": {Seen{Report: report(forward, drift, filter), Before: report(filter, drift, forward)},
			"False SeveralProblems problem ip-forward: net.ipv4.ip_forward is 0\nproblem drift: web: rule 1000 is missing\nwarning rp-filter-all: net.ipv4.conf.all.rp_filter is 1\n" + advice, false},
		"twenty of a kind": {Seen{Report: report(many...), Before: report(many...)},
			"False Drift problem drift: web-0: a\nproblem drift: web-1: a\nproblem drift: web-2: a\nproblem drift: web-3: a\nproblem drift: web-4: a\nproblem drift: web-5: a\nand 14 more\n" + advice, false},
		"numbers that change": {Seen{Report: report(full("neighbour-table", 900)), Before: report(full("neighbour-table", 901))},
			"True Warnings warning neighbour-table: IPv4: 900 entries, and net.x is 1024\n" + advice, false},
		"another part of the agent": {Seen{Report: report(), Others: []Finding{fight}}, "False Fight " + fight.Message + "\n" + advice, false},
		"that, and no report":       {Seen{Err: errors.New("a"), Others: []Finding{fight}}, "False Fight " + fight.Message + "\n" + advice, false},
		"no report":                 {Seen{Err: errors.New("chroot: operation not permitted")}, "Unknown NotExamined chroot: operation not permitted", true},
		"not everything":            {Seen{Report: &doctor.Report{Unseen: []string{"netfilter: not permitted"}}}, "Unknown ChecksIncomplete not looked at: netfilter: not permitted\n" + advice, false},
		"not everything, and a problem": {Seen{Report: &doctor.Report{Findings: []doctor.Finding{forward}, Unseen: []string{"a"}}, Before: report(forward)},
			"False IpForward problem ip-forward: net.ipv4.ip_forward is 0\n" + advice, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, unsure := Decide(tt.seen)
			if diff := cmp.Diff(tt.want, string(c.Status)+" "+c.Reason+" "+c.Message); diff != "" || c.Type != Type {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if unsure != tt.unsure {
				t.Errorf("unsure: %v", unsure)
			}
		})
	}
	c, _ := Decide(Seen{Report: report(long, forward, drift), Before: report(long, forward, drift)})
	if len(c.Message) > mostBytes || !strings.Contains(c.Message, "...\n") || !strings.HasSuffix(c.Message, advice) {
		t.Errorf("%d bytes: %s", len(c.Message), c.Message)
	}
}

func TestPause(t *testing.T) {
	for _, tt := range []struct {
		cost          time.Duration
		again         bool
		soonest, next time.Duration
	}{
		{100 * time.Millisecond, false, 20 * time.Second, 5 * time.Minute},
		{100 * time.Millisecond, true, 20 * time.Second, 20 * time.Second},
		{2400 * time.Millisecond, false, 8 * time.Minute, 8 * time.Minute}, // 500 pods
		{2400 * time.Millisecond, true, 8 * time.Minute, 8 * time.Minute},
		{500 * time.Millisecond, true, 100 * time.Second, 100 * time.Second},
	} {
		if soonest, next := Pause(tt.cost, tt.again); soonest != tt.soonest || next != tt.next {
			t.Errorf("%v %v: %v, %v", tt.cost, tt.again, soonest, next)
		}
	}
}

func TestPatch(t *testing.T) {
	c := corev1.NodeCondition{Type: Type, Status: corev1.ConditionTrue, Reason: "a", Message: "12 entries"}
	then, now := metav1.NewTime(time.Unix(1, 0).UTC()), metav1.NewTime(time.Unix(2, 0).UTC())
	with := func(status corev1.ConditionStatus, message string) *corev1.Node {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "u"}}
		n.Status.Conditions = []corev1.NodeCondition{
			{Type: corev1.NodeReady, Status: corev1.ConditionTrue},
			{Type: Type, Status: status, Reason: "a", Message: message, LastHeartbeatTime: then, LastTransitionTime: then},
		}
		return n
	}
	body := func(transition string) string {
		return `{"metadata":{"uid":"u"},"status":{"conditions":[{"type":"MultihomeReady","status":"True","lastHeartbeatTime":"1970-01-01T00:00:02Z","lastTransitionTime":"1970-01-01T00:00:0` +
			transition + `Z","reason":"a","message":"12 entries"}]}}`
	}
	for name, tt := range map[string]struct {
		node *corev1.Node
		want string
	}{
		"none yet":        {&corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "u"}}, body("2")},
		"the same":        {with(corev1.ConditionTrue, "12 entries"), ""},
		"another number":  {with(corev1.ConditionTrue, "13 entries"), ""},
		"another message": {with(corev1.ConditionTrue, "b"), body("1")},
		"another status":  {with(corev1.ConditionFalse, "12 entries"), body("2")},
	} {
		if patch, err := Patch(tt.node, c, now); err != nil || string(patch) != tt.want {
			t.Errorf("%s: %v %s", name, err, patch)
		}
	}
	if _, err := Patch(&corev1.Node{}, c, now); err == nil {
		t.Error("a Node without UID")
	}
}

// TestHeld: what was seen once is not published, and nothing is held up for ever.
func TestHeld(t *testing.T) {
	var reports []*doctor.Report
	var said []string
	p := New("node", func(context.Context) (*doctor.Report, time.Duration, error) {
		r := reports[0]
		reports = reports[1:]
		return r, 0, nil
	}, nil, nil)
	p.write = func(_ context.Context, c corev1.NodeCondition) error {
		said = append(said, string(c.Status)+" "+c.Reason)
		return nil
	}
	other := drift
	other.Pod = "other"
	for i, step := range []struct {
		found []doctor.Finding
		said  string // "" for nothing
		again bool
	}{
		{[]doctor.Finding{}, "True NoProblem", false},
		{[]doctor.Finding{drift}, "", true},             // a pod that comes or goes?
		{[]doctor.Finding{}, "True NoProblem", false},   // so it was
		{[]doctor.Finding{drift}, "", true},             //
		{[]doctor.Finding{drift}, "False Drift", false}, // it stays
		{[]doctor.Finding{drift, other}, "False Drift", true},
		{[]doctor.Finding{drift, other}, "False Drift", false},
		{[]doctor.Finding{other, forward}, "False Drift", true},
		{[]doctor.Finding{}, "True NoProblem", false},
		{[]doctor.Finding{drift}, "", true},
		{[]doctor.Finding{other}, "True NoProblem", false}, // always another one
	} {
		reports, said = []*doctor.Report{report(step.found...)}, nil
		_, again, err := p.round(t.Context())
		if got := strings.Join(said, ","); err != nil || got != step.said || again != step.again {
			t.Errorf("step %d: %v, %q, again %v: want %q, again %v", i, err, got, again, step.said, step.again)
		}
	}
}

// TestDoctor: what the program prints is read whatever its exit status, and what it can't do
// is an error with its words.
func TestDoctor(t *testing.T) {
	for name, tt := range map[string]struct{ script, want, err string }{
		"findings": {`test "$*" = "doctor -o json --root /proc/1/root --conf-dir /etc/cni/net.d --cache-dir /var/lib/cni,/var/lib/multus" && echo '{"findings": [{"id": "drift", "severity": "problem", "what": "a"}]}'; exit 1`, "drift", ""},
		"healthy":  {`echo '{"findings": []}'`, "", ""},
		"nothing":  {`echo "doctor: root /proc/1/root: operation not permitted" >&2; exit 2`, "", "multihome doctor: exit status 2: doctor: root /proc/1/root: operation not permitted"},
	} {
		path := filepath.Join(t.TempDir(), "multihome")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		r, _, err := Doctor(path, "/proc/1/root", "/etc/cni/net.d", []string{"/var/lib/cni", "/var/lib/multus"})(t.Context())
		if tt.err != "" {
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(r.Findings) > 0 && r.Findings[0].ID != tt.want || len(r.Findings) == 0 && tt.want != "" {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	if _, _, err := Doctor(filepath.Join(t.TempDir(), "multihome"), "/", "/etc/cni/net.d", nil)(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without the program: %v", err)
	}
}

// TestNode: what doctor finds twice is in the Node's condition, and goes with its cause. What
// the kubelet says of the node stays, and nothing is written twice.
func TestNode(t *testing.T) {
	c := testcluster.Client(t)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{GenerateName: "node-"}}
	if err := c.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Delete(context.Background(), n) })
	n.Status.NodeInfo.MachineID = "m"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if err := c.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(n), n); err != nil {
			t.Fatal(err)
		}
		said := map[corev1.NodeConditionType]string{}
		for _, c := range n.Status.Conditions {
			said[c.Type] = string(c.Status) + " " + c.Reason
		}
		if len(said) != 2 || said[corev1.NodeReady] != "True " || n.Status.NodeInfo.MachineID != "m" {
			t.Errorf("%+v", n.Status)
		}
		return said[Type]
	}
	found, others := report(forward), []Finding{fight}
	p := New(n.Name, func(context.Context) (*doctor.Report, time.Duration, error) { return found, 0, nil }, c, c)
	p.Others = append(p.Others, func() []Finding { return others })
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "False Fight"},
		{func() {}, "False SeveralProblems"},
		{func() { others = nil }, "False IpForward"},
		{func() { found = report() }, "True NoProblem"},
	} {
		step.do()
		if _, _, err := p.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != step.want {
			t.Errorf("%s, want %s", got, step.want)
		}
	}
	version := n.ResourceVersion
	for range 2 {
		if _, _, err := p.round(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.checked = time.Time{} // the second time, the Node is read
	}
	if read(); n.ResourceVersion != version {
		t.Error("it was written without need")
	}
	// Another Node of the name is not written to by what was read of this one.
	stale := n.DeepCopy()
	stale.UID = "another"
	patch, err := Patch(stale, corev1.NodeCondition{Type: Type, Status: corev1.ConditionFalse, Reason: "a"}, metav1.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Status().Patch(t.Context(), stale, client.RawPatch(types.StrategicMergePatchType, patch)); !apierrors.IsInvalid(err) {
		t.Errorf("a Node that was made anew: %v", err)
	}
}
