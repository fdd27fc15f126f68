// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/testbed"
)

// nic is a macvlan NIC of a pod on one of the LANs.
type nic struct {
	name  string // the pod's default network makes eth0
	lan   int    // 6, 7 or 8
	addrs []netip.Addr
	chain []object // the plugins after macvlan
	ipam  object   // instead of static with addrs
	first object   // instead of macvlan on the LAN: the cluster network, in another form
	made  string   // an existing network, namespace/name, instead of one of this test
}

// pod is a pod with its wishes and, once it is ready, its namespace.
type pod struct {
	*testbed.Netns
	name, node string
	app        string // the label by which Services select it
	nics       []nic
	noProbe    bool   // for pods that their node can't reach
	hostLink   string // the pod's link to its node, if not the usual one
	example    bool   // it comes from examples/
	more       object // further annotations

	uid     string
	overlay []netip.Addr // eth0's addresses, if the cluster network made it
}

// coordinator returns the plugin's configuration in most chains, with further keys.
func coordinator(further object) object {
	c := object{"type": "coordinator", "serviceCIDR": serviceRanges, "overlayPodCIDR": overlayRanges}
	maps.Copy(c, further)
	return c
}

var lastAddr int

// newNIC returns a NIC with unused addresses, and coordinator in its chain.
func newNIC(name string, lan int, further object) nic {
	lastAddr++
	return nic{name: name, lan: lan, chain: []object{coordinator(further)}, addrs: addrs(
		fmt.Sprintf("10.%d.%d.%d", lan, 16+lastAddr/250, 1+lastAddr%250), fmt.Sprintf("fd00:%d::1:%d", lan, lastAddr))}
}

// masters are the nodes' NICs by their LAN.
var masters = map[int]string{6: "ens192", 7: "ens224", 8: "ens256"}

// network makes the NIC's NetworkAttachmentDefinition, unless it exists, and returns
// its name.
func (n nic) network(t *testing.T) string {
	t.Helper()
	ipam := n.ipam
	if ipam == nil {
		ipam = object{"type": "static", "routes": []object{
			{"dst": "0.0.0.0/0", "gw": fmt.Sprintf("10.%d.0.1", n.lan)},
			{"dst": "::/0", "gw": fmt.Sprintf("fd00:%d::1", n.lan)}}}
	}
	first := n.first
	if first == nil {
		first = object{"type": "macvlan", "master": masters[n.lan], "mode": "bridge", "ipam": ipam, "capabilities": object{"ips": true}}
	}
	plugins := append([]object{first}, n.chain...)
	b, err := json.Marshal(plugins)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("lan%d-%x", n.lan, sha256.Sum256(b))[:16]
	config, err := json.Marshal(object{"cniVersion": "1.0.0", "name": name, "plugins": plugins})
	if err != nil {
		t.Fatal(err)
	}
	_, err = request("POST", networksAt, object{
		"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
		"metadata": object{"name": name}, "spec": object{"config": string(config)}})
	if s := (statusError{}); err != nil && !(errors.As(err, &s) && s.code == 409) {
		t.Fatal(err)
	}
	return name
}

// selection returns the NIC's element in Multus' annotation.
func (n nic) selection(t *testing.T) object {
	t.Helper()
	s := object{"namespace": namespace}
	if space, name, ok := strings.Cut(n.made, "/"); ok {
		s["namespace"], s["name"] = space, name
	} else {
		s["name"] = n.network(t)
	}
	if n.name != "eth0" {
		s["interface"] = n.name
	}
	var ips []string
	for _, a := range n.addrs {
		ips = append(ips, netip.PrefixFrom(a, map[bool]int{true: 16, false: 64}[a.Is4()]).String())
	}
	if ips != nil {
		s["ips"] = ips
	}
	return s
}

// underlay reports whether the pod's first NIC is one of ours.
func (p *pod) underlay() bool {
	return len(p.nics) > 0 && p.nics[0].name == "eth0" && p.nics[0].first == nil
}

// annotations returns the annotations that select the pod's NICs.
func (p *pod) annotations(t *testing.T) object {
	t.Helper()
	annotations := object{}
	maps.Copy(annotations, p.more)
	var further []object
	for _, n := range p.nics {
		if n.name == "eth0" {
			annotations["v1.multus-cni.io/default-network"] = marshal(t, []object{n.selection(t)})
		} else {
			further = append(further, n.selection(t))
		}
	}
	if further != nil {
		annotations["k8s.v1.cni.cncf.io/networks"] = marshal(t, further)
	}
	return annotations
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// create creates the pod, and deletes it at the end of the test.
func (p *pod) create(t *testing.T) {
	t.Helper()
	container := object{"name": "app", "image": "localhost/app:1", "imagePullPolicy": "Never", "args": []string{"serve"}}
	if !p.noProbe {
		probe := object{"httpGet": object{"path": "/", "port": 80}, "periodSeconds": 1, "timeoutSeconds": 5}
		container["readinessProbe"], container["livenessProbe"] = probe, probe
	}
	var created podStatus
	call(t, "POST", podsAt, object{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": object{"name": p.name, "labels": object{"app": p.app}, "annotations": p.annotations(t)},
		"spec": object{
			"nodeSelector": object{"kubernetes.io/hostname": p.node}, "dnsPolicy": "Default",
			"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false,
			"containers": []object{container},
		},
	}, &created)
	p.uid = created.Metadata.UID
	t.Cleanup(func() { p.delete(t) })
}

// delete deletes the pod, if it exists, and waits until it is gone.
func (p *pod) delete(t *testing.T) {
	t.Helper()
	path := podsAt + "/" + p.name
	for _, method := range []string{"DELETE", "GET"} {
		within(t, time.Minute, func() error {
			body, err := request(method, path, nil)
			if s := (statusError{}); errors.As(err, &s) && s.code == 404 {
				return nil
			}
			if err != nil {
				return err
			}
			body.Close()
			if method == "GET" {
				return fmt.Errorf("pod %s is still there", p.name)
			}
			return nil
		})
	}
}

// podStatus is the part of a pod that the tests read.
type podStatus struct {
	Metadata struct {
		Name, UID   string
		Annotations map[string]string
	}
	Spec   struct{ NodeName string }
	Status struct {
		PodIPs            []struct{ IP netip.Addr }
		Conditions        []struct{ Type, Status string }
		ContainerStatuses []struct{ RestartCount int }
	}
}

func (s podStatus) ready() bool {
	for _, c := range s.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// status reads the pod.
func (p *pod) status(t *testing.T) podStatus {
	t.Helper()
	var s podStatus
	call(t, "GET", podsAt+"/"+p.name, nil, &s)
	return s
}

// start creates the pod and waits until its kubelet's probe succeeds.
func start(t *testing.T, p *pod) *pod {
	t.Helper()
	p.create(t)
	p.wait(t)
	return p
}

// wait waits until the pod is ready, and opens its namespace until the end of the test.
func (p *pod) wait(t *testing.T) {
	t.Helper()
	p.open(t)
	t.Cleanup(func() { p.Close() })
}

// open does the same, and leaves the namespace open.
func (p *pod) open(t *testing.T) {
	t.Helper()
	var status podStatus
	within(t, 90*time.Second, func() error {
		if status = p.status(t); status.ready() {
			return nil
		}
		return fmt.Errorf("pod %s is not ready; events: %s", p.name, strings.Join(events(t, p.uid), "\n"))
	})
	p.node = status.Spec.NodeName
	path, err := netnsOf(p.uid)
	if err == nil {
		p.Netns, err = testbed.OpenNetns(p.name, path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !p.underlay() {
		p.overlay = nil
		for _, ip := range status.Status.PodIPs {
			p.overlay = append(p.overlay, ip.IP)
		}
	}
}

// netnsOf finds a pod's network namespace: each of the pod's processes is in a cgroup
// with the pod's UID in its name.
func netnsOf(uid string) (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return "", err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.Contains(string(b), "pod"+uid) { // a process may have ended
			return filepath.Join(filepath.Dir(f), "ns/net"), nil
		}
	}
	return "", fmt.Errorf("no process of pod %s", uid)
}

// events returns the cluster's events of a pod.
func events(t *testing.T, uid string) []string {
	t.Helper()
	var list struct{ Items []struct{ Message string } }
	call(t, "GET", eventsAt+"?fieldSelector=involvedObject.uid="+uid, nil, &list)
	var messages []string
	for _, e := range list.Items {
		messages = append(messages, e.Message)
	}
	return messages
}

// refused creates a pod that must not start, and waits for an event that says why.
func refused(t *testing.T, p *pod, why string) {
	t.Helper()
	p.create(t)
	pattern := regexp.MustCompile(why)
	within(t, 90*time.Second, func() error {
		messages := strings.Join(events(t, p.uid), "\n")
		if pattern.MatchString(messages) {
			return nil
		}
		return fmt.Errorf("pod %s: no event says %q:\n%s", p.name, why, messages)
	})
	if p.status(t).ready() {
		t.Errorf("pod %s is ready", p.name)
	}
}

// addrs returns all addresses of the pod.
func (p *pod) addrs() []netip.Addr {
	all := p.first()
	for _, n := range p.further() {
		all = append(all, n.addrs...)
	}
	return all
}

// first returns the addresses of eth0.
func (p *pod) first() []netip.Addr {
	if p.underlay() {
		return append([]netip.Addr(nil), p.nics[0].addrs...)
	}
	return append([]netip.Addr(nil), p.overlay...)
}

// further returns the NICs except eth0.
func (p *pod) further() []nic {
	if len(p.nics) > 0 && p.nics[0].name == "eth0" {
		return p.nics[1:]
	}
	return p.nics
}

// port returns the port of the pod's server.
func (p *pod) port() uint16 {
	if p.example {
		return 8080
	}
	return 80
}

// link returns the pod's link to its node.
func (p *pod) link() string {
	switch {
	case p.hostLink != "":
		return p.hostLink
	case p.underlay():
		return "veth0"
	default:
		return "eth0"
	}
}
