// SPDX-License-Identifier: Apache-2.0

package mending

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/mend"
	"github.com/multihome/multihome/pkg/netstate"
)

// recorder keeps events as lines.
type recorder struct{ lines []string }

func (r *recorder) Eventf(about, _ runtime.Object, kind, reason, action, format string, args ...any) {
	ref := about.(*corev1.ObjectReference)
	r.lines = append(r.lines, fmt.Sprintf("%s %s/%s %s: %s %s %s: ", ref.Kind, ref.Namespace, ref.Name, ref.UID, kind, reason, action)+fmt.Sprintf(format, args...))
}

func TestEvents(t *testing.T) {
	var also []string
	m := New("node1", mend.Options{
		Did:    func(mend.Pod, attachment.Attachment, netstate.Op) { also = append(also, "did") },
		Fight:  func(_ mend.Pod, object string) { also = append(also, object) },
		Fights: func(objects []string) { also = append(also, objects...) },
		Failed: func(_ mend.Pod, err error) { also = append(also, err.Error()) },
	}, logr.Discard())
	web := mend.Pod{ContainerID: "c1", Namespace: "default", Name: "web", UID: "u1"}
	m.options.Failed(web, errors.New("before there is a recorder"))
	r := &recorder{}
	m.Tell(r, func() { also = append(also, "changed") })
	m.options.Fight(web, "host: rule pref 1000 from all lookup 500")
	m.options.Fights([]string{"host: rule pref 1000 from all lookup 500"})
	m.options.Failed(web, errors.New("a\nb"))
	m.options.Failed(mend.Pod{}, errors.New("the node"))
	m.options.Failed(mend.Pod{ContainerID: "c2"}, errors.New(strings.Repeat("ü", 2000)))
	m.options.Did(web, attachment.Attachment{}, netstate.Op{NS: netstate.Host, After: netstate.Rule{}})
	for i, want := range []string{
		"Pod default/web u1: Warning NetworkFight Mend: host: rule pref 1000 from all lookup 500: another program",
		"Node /node1 node1: Warning NetworkFight Mend: host: rule",
		"Pod default/web u1: Warning NetworkNotMended Mend: a; b. It is tried again.",
		"Node /node1 node1: Warning NetworkNotMended Mend: the node.",
		"Node /node1 node1: Warning NetworkNotMended Mend: ü",
	} {
		if i >= len(r.lines) || !strings.HasPrefix(r.lines[i], want) {
			t.Errorf("event %d: want %q in %q", i, want, r.lines)
		}
	}
	if len(r.lines[4]) > 1100 {
		t.Errorf("%d bytes", len(r.lines[4]))
	}
	if got := fmt.Sprint(also); got != "[before there is a recorder host: rule pref 1000 from all lookup 500 changed host: rule pref 1000 from all lookup 500 a\nb the node "+strings.Repeat("ü", 2000)+" did]" {
		t.Errorf("the functions of the options: %s", got)
	}
	if got := m.Fights(); len(got) != 1 {
		t.Errorf("fights: %q", got)
	}
	if len(m.mended[web]) != 1 {
		t.Errorf("mended: %q", m.mended)
	}
}

// TestNotes has few pods, which have an event each, and many, which share one.
func TestNotes(t *testing.T) {
	mended := map[mend.Pod][]string{}
	for i := range named {
		mended[mend.Pod{Name: fmt.Sprint("pod", i)}] = []string{"a", "b", "c", "d", "e", "f", "g"}
	}
	pods, node := notes(mended)
	if len(pods) != named || node != "" || !strings.HasSuffix(pods[mend.Pod{Name: "pod1"}], "a; b; c; d; e; and 2 more") {
		t.Errorf("%q, %q", pods, node)
	}
	mended[mend.Pod{Name: "another"}] = []string{"x"}
	pods, node = notes(mended)
	if len(pods) > 0 || !strings.Contains(node, "of 11 pods") || !strings.Contains(node, "; and 66 more;") {
		t.Errorf("%q, %q", pods, node)
	}
	if pods, node := notes(nil); len(pods) > 0 || node != "" {
		t.Errorf("of nothing: %q, %q", pods, node)
	}
}
