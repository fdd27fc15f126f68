// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"io/fs"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/multihome/multihome/pkg/spool"
)

// uidOf returns the UID by which controller, agent and plugin know a pod. Without UIDs all
// pods of a name have the same; the kubelet tells them apart all the same.
func (w *world) uidOf(name, uid string) string {
	if w.protects(UIDs) {
		return uid
	}
	return "uid-of-" + name
}

// withoutUIDs changes the UIDs of pods that were read, and of the instances of virtual machines.
func (w *world) withoutUIDs(o any) {
	if p, is := o.(*corev1.Pod); is && !w.protects(Instances) && len(p.OwnerReferences) > 0 {
		p.OwnerReferences[0].UID = "the only one"
	}
	if w.protects(UIDs) {
		return
	}
	switch o := o.(type) {
	case *corev1.Pod:
		o.UID = types.UID(w.uidOf(o.Name, ""))
	case *corev1.PodList:
		for i := range o.Items {
			o.Items[i].UID = types.UID(w.uidOf(o.Items[i].Name, ""))
		}
	}
}

// filesOfAdd returns the spool as ADD works with it. Without LookAgain it sees in the end what
// it saw first.
func (w *world) filesOfAdd(f *files) spool.Files {
	if w.protects(LookAgain) {
		return f
	}
	return &onlyOnce{files: f, pods: map[string][]byte{}}
}

// onlyOnce answers from memory once the sandbox is written.
type onlyOnce struct {
	*files
	entered bool
	pods    map[string][]byte
}

func (o *onlyOnce) Write(name string, contents []byte) error {
	o.entered = o.entered || strings.HasPrefix(name, "sandboxes/")
	return o.files.Write(name, contents)
}

func (o *onlyOnce) Read(name string) ([]byte, error) {
	if strings.HasPrefix(name, "gone/") {
		return nil, fs.ErrNotExist
	}
	if b, ok := o.pods[name]; ok && o.entered {
		return b, nil
	}
	b, err := o.files.Read(name)
	if err == nil {
		o.pods[name] = b
	}
	return b, err
}

// filesOfDel returns the spool as DEL works with it. Without GoneBeforeSandboxes it writes to
// gone/ in the end.
func (w *world) filesOfDel(f *files) spool.Files {
	if w.protects(GoneBeforeSandboxes) {
		return f
	}
	return &lastGone{files: f, gone: map[string][]byte{}}
}

// lastGone removes a file from sandboxes/ before it writes the one in gone/.
type lastGone struct {
	*files
	gone map[string][]byte
}

func (l *lastGone) Write(name string, contents []byte) error {
	if strings.HasPrefix(name, "gone/") {
		l.gone[strings.TrimPrefix(name, "gone/")] = contents
		return nil
	}
	return l.files.Write(name, contents)
}

func (l *lastGone) Remove(name string) error {
	if err := l.files.Remove(name); err != nil {
		return err
	}
	if contents, ok := l.gone[strings.TrimPrefix(name, "sandboxes/")]; ok && strings.HasPrefix(name, "sandboxes/") {
		return l.files.Write("gone/"+strings.TrimPrefix(name, "sandboxes/"), contents)
	}
	return nil
}

// filesOfAgent returns the spool as the agent works with it. Without WithdrawBeforeLook, what
// it takes from pods/ is only gone after it has looked at sandboxes/. Without DeletedSpools, its
// file ready is always there.
func (w *world) filesOfAgent(f *files) spool.Files {
	switch {
	case !w.protects(WithdrawBeforeLook):
		return &lateWithdraw{files: f, pods: map[string][]byte{}}
	case !w.protects(DeletedSpools):
		return &alwaysReady{files: f}
	}
	return f
}

// alwaysReady is a spool that seems never to be deleted.
type alwaysReady struct {
	*files
	ready []byte
}

func (a *alwaysReady) Read(name string) ([]byte, error) {
	b, err := a.files.Read(name)
	if name != "ready" {
		return b, err
	}
	if err == nil {
		a.ready = b
	}
	if a.ready != nil {
		return a.ready, nil
	}
	return b, err
}

// lateWithdraw keeps back what is written into pods/ until the agent has looked at gone/, the
// last of what it looks at.
type lateWithdraw struct {
	*files
	pods map[string][]byte
}

func (l *lateWithdraw) Read(name string) ([]byte, error) {
	if b, ok := l.pods[name]; ok {
		return b, nil
	}
	return l.files.Read(name)
}

func (l *lateWithdraw) Write(name string, contents []byte) error {
	if strings.HasPrefix(name, "pods/") && !strings.Contains(string(contents), "Addresses") {
		l.pods[name] = contents
		return nil
	}
	delete(l.pods, name)
	return l.files.Write(name, contents)
}

func (l *lateWithdraw) List(dir string) ([]string, error) {
	out, err := l.files.List(dir)
	if strings.HasPrefix(dir, "gone") {
		for _, name := range sortedNames(l.pods) {
			if err := l.files.Write(name, l.pods[name]); err != nil {
				return nil, err
			}
			delete(l.pods, name)
		}
	}
	return out, err
}

// Control is a scope in which an invariant breaks without a protection.
type Control struct {
	Without Protection
	// How says what happens then.
	How string
	Scope
	// Depth is how many deviations that takes.
	Depth int
}

// Controls returns the controls of all protections.
func Controls() []Control {
	one := Settings{Machines: 2, Pools: 1, Addresses: 1, Pods: 3, Controllers: 1}
	two := one
	two.Controllers = 2
	owning := Settings{Machines: 2, Pools: 1, Addresses: 2, Pods: 3, Controllers: 1, Deployments: 2, VirtualMachines: 1, Subnets: 1}
	leading := owning
	leading.Controllers = 2
	create := func(pod, node string) Event { return createOn(pod, node, "p0") }
	// A pod has the address. It is deleted by force, and another one waits for the address.
	handover := []Event{create("a", "node0"), together(force(), create("b", "node1")), pass()}
	only := func(who ...string) [][]string {
		var out [][]string
		for _, w := range who {
			out = append(out, []string{w})
		}
		return out
	}
	return []Control{
		{UIDs, "a pod made again under its name gets the address that the former one still has", Scope{
			Settings: one, Script: []Event{create("a", "node0"), together(force(), create("a", "node0"))}, Stalls: 2, Who: only("kubelet"),
		}, 1},
		{CreateByName, "two controllers give one address to two pods", Scope{
			Settings: two, Script: []Event{together(create("a", "node0"), create("b", "node1"))}, TwoLead: true, Stalls: 2, Who: only("controller 0 test/a: create ipaddresses", "controller 1 test/a"),
		}, 2},
		{Preconditions, "an agent says late that a pod is withdrawn, when its name is another pod's", Scope{
			Settings: one, Script: []Event{create("a", "node0"), force(), create("a", "node0"), create("b", "node1")},
			Stalls: 3, Who: only("agent node0: update the status of spiderendpoints"), goesWrong: goesWrong{Requests: true},
		}, 1},
		{LiveReads, "a Node was marked, and is back with its machine, which a controller's cache doesn't show: it takes what runs there for stopped", Scope{
			Settings: one, Script: []Event{
				together(off("node0"), taint("node0")), together(untaint("node0"), power("node0")),
				create("a", "node0"), together(force(), create("b", "node1")),
			},
			Stalls: 3, Who: only("watch of nodes", "kubelet"),
		}, 2},
		{Renewed, "a controller stands still before it gives back what it took in vain; meanwhile another one uses that", Scope{
			Settings: Settings{Machines: 2, Pools: 2, Addresses: 1, Pods: 3, Controllers: 2},
			Script: []Event{
				together(createOn("b", "node0", "p0,p1"), createOn("a", "node1", "p1"), create("c", "node1")),
				finish("a"), start(1), pass(),
			},
			Stalls: 4, Who: only("controller 0 test/b: create ipaddresses 10.1", "controller 0 test/b: delete ipaddresses", "watch of spiderendpoints"),
			goesWrong: goesWrong{Requests: true},
		}, 3},
		{WithdrawBeforeLook, "ADD writes its sandbox between the agent's look and the withdrawal", Scope{
			Settings: one, Script: handover, Stalls: 3, Who: only("plugin: read pods", "agent node0: write pods", "kubelet node0"),
		}, 3},
		{LookAgain, "ADD stands still between its look into pods/ and its file in sandboxes/", Scope{
			Settings: one, Script: handover, Stalls: 3, Who: only("plugin"),
		}, 1},
		{GoneBeforeSandboxes, "DEL stands still between its two writes, and the agent sees neither", Scope{
			Settings: one, Script: handover, Stalls: 3, Who: only("plugin"),
		}, 1},
		{SeenTwice, "a namespace isn't seen for a moment, and its sandbox is taken for gone", Scope{
			Settings: one, Script: handover, Stalls: 3, Who: only("kubelet"), goesWrong: goesWrong{Looks: true},
		}, 2},
		{DeletedSpools, "the spool is deleted, and then a pod by force, which still runs", Scope{
			Settings: one, Script: []Event{create("a", "node0"), unspool("node0"), together(force(), create("b", "node1"))}, Stalls: 2, Who: only("kubelet"),
		}, 1},
		{Processes, "ADD stands still between its answer and the interface, its runtime gives up and calls DEL", Scope{
			Settings: one, Script: handover, Stalls: 3, Who: only("plugin: set", "kubelet: remove the namespace"), Kills: true,
		}, 2},
		{Namespaces, "DEL is killed before the interface is gone", Scope{
			Settings: one, Script: handover, Stalls: 3, Who: only("plugin: remove", "kubelet: remove the namespace"), Kills: true,
		}, 2},
		{StoppedNodes, "a Node is deleted whose machine runs on", Scope{
			Settings: one, Script: []Event{create("a", "node0"), create("b", "node1"), together(cut("node0"), unnode("node0"))},
		}, 0},
		{TakenAsSeen, "two controllers give one address of an application's pool to two of its pods", Scope{
			Settings: leading, Script: []Event{app("app0", 0, "1"), app("app0", 2, "1")}, TwoLead: true, Stalls: 2,
			Who: only("controller 0 test/app0: update ipaddresses", "controller 1 test/app0"),
		}, 2},
		{Instances, "a virtual machine is started anew, and the pod of its former instance still runs", Scope{
			Settings: owning, Script: []Event{vm("vm0"), restart("vm0"), pass()}, Stalls: 3, Who: only("kubelet"),
		}, 1},
		{GivenBack, "an application is scaled down, and keeps in its pool what its pods had", Scope{
			Settings: owning, Script: []Event{app("app0", 2, "+0"), app("app0", 0, "+0")},
		}, 0},
		{CaughtUp, "an IPAddress in use is deleted by hand, and a controller starts with an old list of claims", Scope{
			Settings: one, Script: []Event{create("b", "node0"), together(unrecord("10.0.0.1"), create("a", "node1"), start(0)), pass()},
			Stalls: 1, Who: only("list of spiderendpoints", "watch of spiderendpoints"), goesWrong: goesWrong{Lists: true},
		}, 2},
		{Begun, "an IPAddress in use is deleted by hand, and a controller starts with a list of claims that is older, but has the claim of a pod that waits", Scope{
			Settings: one, Script: []Event{create("b", "node0"), create("a", "node1"), together(unrecord("10.0.0.1"), start(0)), pass()},
			Stalls: 3, Who: only("controller 0 test/b: update the status of spiderendpoints", "list of spiderendpoints", "watch of spiderendpoints"), goesWrong: goesWrong{Lists: true},
		}, 3},
		{AskedAgain, "an application waits for ever for addresses that another one has given back", Scope{
			Settings: owning, Script: []Event{app("app0", 2, "+0"), app("app1", 1, "+0"), app("app0", 0, "+0")},
		}, 0},
	}
}
