// SPDX-License-Identifier: Apache-2.0

package simulate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/multihome/multihome/controlplane/agent"
	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/spool"
)

// machine is a node's machine: its kubelet, runtime, plugins, agent and spool.
type machine struct {
	w         *world
	node      string
	id        string // machine ID
	boot      int
	up        bool
	cut       bool // off from the API server
	files     *files
	sandboxes []*sandbox
	failed    map[string]bool // pods whose last sandbox failed: the kubelet waits a while
	seen      [5]int          // what the agent last looked at
	kubelet   *process
	agent     *process
	core      *agent.Agent
	calls     []*task // of plugins
}

// sandbox is a pod's sandbox, with its namespace.
type sandbox struct {
	id, uid, namespace, pod string
	identity, instance      string // of the pod, and of the virtual machine whose pod it is; "": none
	netns                   netns.ID
	exists                  bool // the namespace
	ready                   bool
	dead                    bool // to be torn down
	seen                    bool // the agent saw it when it looked last
	overdue                 bool // the runtime waits no longer for its ADDs
	addresses               map[string][]ipam.Key
	added                   map[string]bool // interfaces whose ADD succeeded
}

func (s *sandbox) has(k ipam.Key) bool {
	for _, list := range s.addresses {
		if slices.Contains(list, k) {
			return true
		}
	}
	return false
}

// files is a spool's directory. Each operation is a step.
type files struct {
	w        *world
	contents map[string][]byte
	version  int
}

// step stops the current task before an operation, which may fail.
func (f *files) step(what, name string) error {
	if f.w.current == nil {
		return nil
	}
	f.w.step("%s %s", what, name)
	if !f.w.calm && f.w.Files && f.w.chance(200) {
		f.w.note("  it fails")
		return fmt.Errorf("%s %s: %w", what, name, syscall.EIO)
	}
	return nil
}

func (f *files) Read(name string) ([]byte, error) {
	if err := f.step("read", name); err != nil {
		return nil, err
	}
	b, ok := f.contents[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return b, nil
}

func (f *files) Write(name string, contents []byte) error {
	if err := f.step("write", name); err != nil {
		return err
	}
	f.contents[name] = slices.Clone(contents)
	f.version++
	return nil
}

func (f *files) Remove(name string) error {
	if err := f.step("remove", name); err != nil {
		return err
	}
	if _, ok := f.contents[name]; ok {
		delete(f.contents, name)
		f.version++
	}
	return nil
}

func (f *files) List(dir string) ([]string, error) {
	if err := f.step("list", dir); err != nil {
		return nil, err
	}
	var out []string
	for name := range f.contents {
		if rest, ok := strings.CutPrefix(name, strings.TrimSuffix(dir, "/")+"/"); ok && dir != "" {
			out = append(out, rest)
		} else if dir == "" || dir == "." {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// power switches a machine on: a new boot, with an empty spool.
func (m *machine) power() {
	m.boot++
	m.up = true
	m.files = &files{w: m.w, contents: map[string][]byte{}}
	m.sandboxes, m.failed = nil, map[string]bool{}
	m.w.note("%s (%s): boots", m.node, m.id)
	m.startKubelet()
}

// off switches it off: whatever ran there is gone.
func (m *machine) off() {
	m.w.note("%s (%s): is off", m.node, m.id)
	m.up = false
	if m.agent != nil && m.agent.up {
		m.agent.crash()
	}
	m.kubelet.crash()
	for _, t := range m.calls {
		t.kill()
	}
	m.calls, m.sandboxes = nil, nil
}

func (m *machine) fresh(kind) int { return 0 }

func (m *machine) isCut() bool { return m.cut }

func (m *machine) startKubelet() {
	m.kubelet = m.w.newProcess("kubelet "+m.node, 8)
	m.kubelet.cutOff = m.isCut
	m.kubelet.view = newView(m.w.api, m.fresh)
	m.kubelet.handle, m.kubelet.die = m.syncPod, m.restartKubelet
}

// restartKubelet kills the kubelet and starts it again. It makes no further use of sandboxes
// that weren't ready.
func (m *machine) restartKubelet() {
	m.kubelet.crash()
	for _, s := range m.sandboxes {
		s.dead = s.dead || !s.ready
	}
	m.startKubelet()
}

// todo returns the pods for which the kubelet is to begin something.
func (m *machine) todo() []string {
	return slices.DeleteFunc(m.wantsTo(), func(uid string) bool {
		return slices.Contains(m.kubelet.queue, uid) || m.kubelet.isAt(uid)
	})
}

// agentIdle reports whether the agent is up and has nothing to do.
func (m *machine) agentIdle() bool {
	return m.agent.up && len(m.agent.queue) == 0 && !slices.ContainsFunc(m.agent.tasks, func(t *task) bool { return !t.done })
}

// looked is what changes if there is something new for the agent.
func (m *machine) looked() [5]int {
	v := m.agent.view
	return [5]int{m.files.version, v.at[pods], v.at[claims], v.at[spools], len(m.sandboxes)}
}

// look has the agent look at everything.
func (m *machine) look() {
	m.seen = m.looked()
	m.agent.add("all")
}

func (m *machine) startAgent() {
	p := m.w.newProcess("agent "+m.node, 1)
	p.cutOff = m.isCut
	p.view, p.die = newView(m.w.api, m.fresh), p.crash
	cache, current, writer := p.clients()
	m.core = &agent.Agent{
		Node: m.node, MachineID: m.id, BootID: fmt.Sprintf("%s-%d", m.id, m.boot),
		Files: m.w.filesOfAgent(m.files), Pods: cache, Live: current, Writer: writer, Namespaces: namespaces{m},
	}
	started := false
	p.handle = func(what string) {
		if !started {
			if m.core.Start(context.Background()) != nil {
				return
			}
			started = true
		}
		switch what {
		case "node":
			_, _ = m.core.SyncNode(context.Background())
		case "all":
			uids, _ := m.core.UIDs(context.Background())
			for _, uid := range uids {
				p.add(uid)
			}
			p.add("node")
		default:
			_, _ = m.core.SyncPod(context.Background(), what)
		}
	}
	m.agent = p
	m.w.note("%s: starts", p.name)
	p.add("all")
}

// namespaces are the namespaces of a machine, as its agent sees them.
type namespaces struct{ m *machine }

// step stops the current task before a look, which may fail.
func (n namespaces) step(format string, a ...any) error {
	n.m.w.step(format, a...)
	if !n.m.w.calm && n.m.w.Files && n.m.w.chance(100) {
		n.m.w.note("  it fails")
		return syscall.ENOMEM
	}
	return nil
}

func (n namespaces) Look(id netns.ID) (bool, []netip.Addr, error) {
	if err := n.step("look into %s", id.Path); err != nil {
		return false, nil, err
	}
	for _, s := range n.m.sandboxes {
		if s.netns == id && s.exists {
			if !s.seen && !n.m.w.protects(SeenTwice) { // the second look is the first one's
				s.seen = true
				return false, nil, nil
			}
			if !n.m.w.calm && n.m.w.Looks && s.seen && n.m.w.chance(8) { // a mount that is seen late
				s.seen = false
				n.m.w.note("  it isn't seen")
				return false, nil, nil
			}
			s.seen = true
			if !n.m.w.protects(Namespaces) {
				return true, nil, nil
			}
			return true, addrs(s), nil
		}
	}
	return false, nil, nil
}

func (n namespaces) Find(wanted []netip.Addr) ([]netns.ID, error) {
	if err := n.step("look for %v in all namespaces", wanted); err != nil {
		return nil, err
	}
	var out []netns.ID
	for _, s := range n.m.sandboxes {
		if s.exists && slices.ContainsFunc(addrs(s), func(a netip.Addr) bool { return slices.Contains(wanted, a) }) {
			out = append(out, s.netns)
		}
	}
	return out, nil
}

func (n namespaces) Busy(container string) (bool, error) {
	if err := n.step("look for processes of %s", container); err != nil {
		return false, err
	}
	return n.m.w.protects(Processes) && slices.ContainsFunc(n.m.calls, func(t *task) bool { return !t.done && strings.Contains(t.name, " "+container+" ") }), nil
}

func sortedNames(m map[string][]byte) []string { return slices.Sorted(maps.Keys(m)) }

func addrs(s *sandbox) []netip.Addr {
	var out []netip.Addr
	for _, name := range slices.Sorted(maps.Keys(s.addresses)) {
		for _, k := range s.addresses[name] {
			out = append(out, k.Addr)
		}
	}
	return out
}

// pod returns a pod as the kubelet sees it.
func (m *machine) pod(uid string) *corev1.Pod {
	for _, o := range m.kubelet.view.objects[pods] {
		if p := o.(*corev1.Pod); string(p.UID) == uid && p.Spec.NodeName == m.node {
			return p
		}
	}
	return nil
}

// wantsTo returns the pods for which the kubelet has something to do.
func (m *machine) wantsTo() []string {
	var todo []string
	for _, o := range m.kubelet.view.objects[pods] {
		p := o.(*corev1.Pod)
		if p.Spec.NodeName == m.node && (!m.runs(p) && !p.DeletionTimestamp.IsZero() || m.runs(p) && m.sandboxOf(string(p.UID)) == nil && !m.failed[string(p.UID)]) {
			todo = append(todo, string(p.UID))
		}
	}
	for _, s := range m.sandboxes {
		p, _ := m.kubelet.view.objects[pods][types.NamespacedName{Namespace: s.namespace, Name: s.pod}].(*corev1.Pod)
		if s.dead || !m.runs(p) || string(p.UID) != s.uid {
			todo = append(todo, s.uid)
		}
	}
	slices.Sort(todo)
	return slices.Compact(todo)
}

// runs reports whether a pod is to have a sandbox.
func (m *machine) runs(p *corev1.Pod) bool {
	return p != nil && p.DeletionTimestamp.IsZero() && p.Status.Phase != corev1.PodSucceeded
}

// sandboxOf returns the sandbox of a pod that lives; nil if there is none.
func (m *machine) sandboxOf(uid string) *sandbox {
	for _, s := range m.sandboxes {
		if s.uid == uid && !s.dead {
			return s
		}
	}
	return nil
}

// syncPod is what a kubelet does for a pod: it makes a sandbox, or tears it down.
func (m *machine) syncPod(uid string) {
	p := m.pod(uid)
	if m.runs(p) && m.sandboxOf(uid) == nil {
		m.makeSandbox(p)
	}
	for _, s := range slices.Clone(m.sandboxes) {
		if s.uid == uid && (s.dead || !m.runs(m.pod(uid))) {
			m.tearDown(s)
		}
	}
	if p := m.pod(uid); p != nil && !p.DeletionTimestamp.IsZero() {
		_ = m.kubelet.request("delete pod "+p.Name, func() error {
			return m.w.api.remove(pods, types.NamespacedName{Namespace: p.Namespace, Name: p.Name}, &metav1.Preconditions{UID: ptr.To(p.UID)})
		})
	}
}

func (m *machine) makeSandbox(p *corev1.Pod) {
	m.w.inodes++
	m.w.names++
	id := fmt.Sprintf("c%d", m.w.names)
	s := &sandbox{
		id: id, uid: string(p.UID), namespace: p.Namespace, pod: p.Name,
		netns: netns.ID{Path: "/run/netns/" + id, Inode: m.w.inodes}, exists: true, seen: true,
		addresses: map[string][]ipam.Key{}, added: map[string]bool{},
	}
	if id := identities.Of(p); id != nil {
		s.identity = fmt.Sprintf("%s %d", identities.KeyOf(id), ptr.Deref(id.Ordinal, 0))
		if id.Ordinal == nil {
			s.instance = string(metav1.GetControllerOfNoCopy(p).UID)
		}
	}
	m.sandboxes = append(m.sandboxes, s)
	for _, nic := range nicsOf(p, m.w.dual) {
		add := m.call(fmt.Sprintf("ADD %s %s of %s", s.id, nic.Interface, p.Name), func() { m.add(s, nic) })
		add.giveUp = func() { s.overdue = true; m.w.note("%s: the runtime waits no longer for %s", m.node, s.id) }
		m.w.until(func() bool { return add.done || s.overdue })
		if !s.added[nic.Interface] {
			s.dead, m.failed[s.uid] = true, true
			return
		}
	}
	s.ready = true
	key := types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
	_ = m.kubelet.request("update the status of pod "+p.Name, func() error {
		if now, _ := m.w.api.objects[pods][key].(*corev1.Pod); now != nil && now.UID == p.UID && now.Status.Phase == "" {
			now = now.DeepCopy()
			now.Status.Phase = corev1.PodRunning
			m.w.api.put(pods, key, now)
		}
		return nil
	})
	m.w.note("%s: pod %s (%s) runs with %v", m.node, p.Name, p.UID, addrs(s))
}

// call starts a process of a plugin. It may outlive who called it.
func (m *machine) call(name string, f func()) *task {
	t := m.w.start(m.node+" "+name, f)
	t.die = t.kill
	m.calls = append(m.calls, t)
	return t
}

// add is ADD of macvlan with multihome-ipam.
func (m *machine) add(s *sandbox, nic v2beta1.EndpointNIC) {
	ifname := nic.Interface
	m.w.names++
	c := spool.Call{Boot: fmt.Sprintf("%s-%d", m.id, m.boot), Want: spool.Want{
		Namespace: s.namespace, Pod: s.pod, UID: m.w.uidOf(s.pod, s.uid), ContainerID: s.id, Interface: ifname,
		Call: fmt.Sprintf("%x", m.w.names), Network: "lan", Netns: s.netns, DefaultIPv4IPPool: nic.IPv4Pools, DefaultIPv6IPPool: nic.IPv6Pools,
	}}
	expired := false
	if nic.IPv4Pools[0] == ipam.VLANSubnetPool(static) { // which no plugin names
		c.DefaultIPv4IPPool = nil
	}
	got, err := spool.Add(m.w.filesOfAdd(m.files), c, func() error {
		version := m.files.version
		m.w.until(func() bool { return m.files.version != version || s.overdue })
		if s.overdue || !m.w.calm && m.w.Runtimes && m.w.chance(40) {
			expired = true
			return errors.New("the time is over")
		}
		return nil
	})
	if err != nil || expired {
		m.w.note("  %v", err)
		return
	}
	m.w.step("set %v in %s", got.Addresses, s.id)
	if !s.exists {
		return
	}
	for _, a := range got.Addresses {
		s.addresses[ifname] = append(s.addresses[ifname], ipam.Key{Space: a.Space, Addr: a.Address.Addr()})
	}
	m.w.check(s)
	m.w.keeps(s)
	s.added[ifname] = m.w.Strangers == 0 || m.detect(s, ifname)
}

// detect is coordinator's detectIPConflict, after macvlan. It reports whether no other machine answers.
func (m *machine) detect(s *sandbox, ifname string) bool {
	m.w.step("probe the addresses of %s in %s", ifname, s.id)
	for _, k := range s.addresses[ifname] {
		if slices.Contains(m.w.strange, k.Addr) {
			_ = spool.NoteConflict(m.files, spool.Attachment{ContainerID: s.id, Interface: ifname}, k.Addr, "02:00:00:00:00:01", m.w.now)
			return false
		}
	}
	return true
}

// del is DEL of macvlan with multihome-ipam, which is called before the interface is gone.
func (m *machine) del(s *sandbox, ifname string) {
	_ = spool.Del(m.w.filesOfDel(m.files), s.id, ifname)
	m.w.step("remove %s from %s", ifname, s.id)
	delete(s.addresses, ifname)
}

// tearDown ends a sandbox, in one of the ways in which runtimes do it.
func (m *machine) tearDown(s *sandbox) {
	s.dead = true
	m.w.step("stop sandbox %s of %s", s.id, s.pod)
	way := 0
	if m.w.Runtimes {
		way = m.w.pick.choose([]int{6, 2, 1})
	}
	if way == 1 { // the namespace first
		s.exists, s.addresses = false, map[string][]ipam.Key{}
	}
	if way != 2 { // 2: DEL is lost
		for _, ifname := range []string{"net1", "net2"} {
			del := m.call(fmt.Sprintf("DEL %s %s of %s", s.id, ifname, s.pod), func() { m.del(s, ifname) })
			if !m.w.calm && m.w.Runtimes && m.w.chance(20) {
				continue // the runtime doesn't wait for it
			}
			m.w.until(func() bool { return del.done })
		}
	}
	m.w.step("remove the namespace of %s", s.id)
	s.exists, s.addresses = false, map[string][]ipam.Key{}
	m.sandboxes = slices.DeleteFunc(m.sandboxes, func(x *sandbox) bool { return x == s })
}
