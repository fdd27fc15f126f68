// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/multihome/multihome/pkg/catalog"
	"github.com/multihome/multihome/pkg/install"
	"github.com/multihome/multihome/pkg/ipamcni"
	"github.com/multihome/multihome/pkg/spool"
	"github.com/multihome/multihome/pkg/survey"
)

// binDir is the node's CNI directory.
const binDir = "/opt/cni/bin"

// settled is the age from which a file of the spool counts: the ADD, DEL or pass of the agent
// that wrote it may have more to do.
const settled = 2 * time.Second

var agentNotReady = Kind{
	ID: "agent-not-ready", Severity: Problem,
	What:   "networks take their addresses from the cluster's pools, and multihome-agent was not ready in this boot",
	Why:    "multihome-ipam answers ADD with error 11 and STATUS with error 50 until the agent was ready once after the node booted. The runtime then says that the node's network isn't ready, and no pod starts. The agent says so in the file ready of /run/multihome/ipam.",
	Remedy: `# see why the container agent of DaemonSet multihome is not ready on this node, or install it (controlplane.enabled): NETWORKS`,
}

var agentNotRunning = Kind{
	ID: "agent-not-running", Severity: Warning,
	What:   "multihome-agent was ready in this boot, but doesn't run now",
	Why:    "Pods whose addresses are in the spool already start, and pods that go away go away. No other pod on this node gets an address, and no address of this node is free again before the agent has seen that it is not in use any more.",
	Remedy: "# see why the container agent of DaemonSet multihome does not run on this node",
}

var claimMissing = Kind{
	ID: "claim-missing", Severity: Problem,
	What: "a pod waits for its addresses",
	Why:  "ADD waits up to 5 seconds for the agent to bring the pod's claim (SpiderEndpoint), and then fails; the kubelet repeats it. The finding says what is missing as the controller says it in the claim: a pool that exists, an address that is free, or the claim itself.",
	Remedy: `# kubectl describe spiderendpoint -n NAMESPACE POD
# kubectl get spiderippools -o wide`,
}

var unclaimedSandbox = Kind{
	ID: "sandbox-without-claim", Severity: Warning,
	What:   "a pod's namespace lives with addresses that no claim on the node names",
	Why:    "Somebody deleted the claim (SpiderEndpoint), or /run/multihome/ipam/pods, or an older state of etcd was restored. The pod goes on to work. The agent reports its addresses in the NodeSpool, so that nobody else gets them, and the controller makes the claim again. If the pod's object is gone as well, the runtime forgot to stop it.",
	Remedy: `# if multihome-agent and multihome-controller run and this stays, delete the pod: WHO`,
}

var heldAddress = Kind{
	ID: "address-held", Severity: Warning,
	What: "a dead pod holds an address",
	Why:  "The address is free when its pod is gone and the agent has seen that nothing on the node has it: the namespace is gone, or DEL was called and the namespace has lost the address. A process that outlives its pod keeps the namespace. A pod that is being deleted looks like this for a moment.",
	Remedy: `# see that multihome-agent runs on this node: it gives the address back when nothing has it
# end the processes that are in the namespace, as lsns -t net shows them, or remove the link that has the address: WHO`,
}

var addressLost = Kind{
	ID: "address-lost", Severity: Problem,
	What:   "a pod's namespace lacks an address that ADD answered with",
	Why:    "Software in the pod or on the node removed or changed it, or the NIC is gone. The address stays the pod's, so nobody else gets it, and nobody answers for it. KubeVirt's binding bridge looks like this, too: see bridged-nic.",
	Remedy: "# delete the pod, so that it is recreated: WHO",
}

var foreignIPAM = Kind{
	ID: "foreign-ipam", Severity: Problem,
	What: "a network's IPAM plugin is another system's, although multihome-agent is on the node",
	Why:  "spiderpool and static-ipam are names of multihome-ipam, and of other systems' plugins. Installing multihome never replaces another system's file. So pods of this network get addresses of which our pools know nothing, and an address may be given twice. On a node on which multihome-agent was never ready in this boot it is a note: the other system may be meant.",
	Remedy: `# uninstall the other system; then delete the pod of DaemonSet multihome on this node, which is made anew and installs ours: FILE
# or write "type": "multihome-ipam" in NETWORKS`,
}

// pools looks at the agent and at the spool of multihome-ipam: which pods wait for addresses,
// and what sandboxes have.
func pools(n *node) error {
	files, err := spool.OpenDir(spool.Dir)
	if err != nil {
		return err
	}
	if n.only == nil {
		if err := n.agent(files); err != nil {
			return err
		}
	}
	served, errPods := spool.Pods(files)
	wants, errWants := spool.Wants(files)
	sandboxes, errSandboxes := spool.Sandboxes(files)
	if n.only != nil {
		wants = slices.DeleteFunc(wants, func(w spool.Want) bool { return w.ContainerID != n.only.ContainerID })
		sandboxes = slices.DeleteFunc(sandboxes, func(s spool.Sandbox) bool { return s.ContainerID != n.only.ContainerID })
	}
	n.waiting(served, wants, sandboxes)
	return errors.Join(errPods, errWants, errSandboxes, n.sandboxes(served, sandboxes))
}

// agent looks for the agent, if networks need it, and for other systems' plugins in its place.
func (n *node) agent(files spool.Files) error {
	boot, err := spool.BootID()
	if err != nil {
		return err
	}
	ready, err := spool.GetReady(files)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	isReady := err == nil && ready.Boot == boot
	var needed []string
	for name, networks := range n.ipams() {
		path := filepath.Join(binDir, name)
		foreign := ""
		if catalog.IsOthers(name) {
			if foreign, err = install.Other(path); err != nil {
				return err
			}
		}
		if foreign == "" {
			needed = append(needed, networks...)
			continue
		}
		k := foreignIPAM
		if !isReady {
			k.Severity = Note
		}
		n.found(k, fmt.Sprintf("%s of %s is %s", path, strings.Join(networks, ", "), foreign), "FILE", path, "NETWORKS", strings.Join(networks, ", "))
	}
	slices.Sort(needed)
	switch {
	case !isReady && len(needed) > 0:
		n.found(agentNotReady, "multihome-agent was not ready in this boot, and addresses of "+strings.Join(needed, ", ")+" come by it", "NETWORKS", strings.Join(needed, ", "))
	case isReady && n.programs != nil && n.programs[agentProgram] == "":
		n.found(agentNotRunning, agentProgram+" "+absent())
	}
	return nil
}

// agentProgram is the agent's name as the kernel keeps it.
const agentProgram = "multihome-agent"

// ipams returns the networks whose addresses come from IPAM plugins with our names, by name.
func (n *node) ipams() map[string][]string {
	out := map[string][]string{}
	for _, network := range n.networks {
		for _, p := range network.plugins {
			ipam, _ := p["ipam"].(map[string]any)
			if name := text(ipam, "type"); slices.Contains(ipamcni.Names(), name) && !slices.Contains(out[name], network.where()) {
				out[name] = append(out[name], network.where())
			}
		}
	}
	return out
}

// waiting adds a finding for each pod that waits for addresses. ADD removes its want after some
// seconds, and the agent's file stays until the pod is gone or has addresses.
func (n *node) waiting(served []spool.Pod, wants []spool.Want, sandboxes []spool.Sandbox) {
	said := map[string]bool{}
	why := map[string]string{}
	for _, p := range served {
		why[p.UID] = p.Reason
		// A pod that ends has a reason as well, and sandboxes.
		ends := slices.ContainsFunc(sandboxes, func(s spool.Sandbox) bool { return s.UID == p.UID })
		if n.only == nil && p.Reason != "" && !ends && isSettled(p.File()) {
			said[p.UID] = true
			n.found(claimMissing, fmt.Sprintf("pod %s/%s: %s", p.Namespace, p.Name, p.Reason), "NAMESPACE", p.Namespace, "POD", p.Name)
		}
	}
	for _, w := range wants {
		there := slices.ContainsFunc(served, func(p spool.Pod) bool {
			return p.UID == w.UID && slices.ContainsFunc(p.NICs, func(nic spool.NIC) bool { return nic.Interface == w.Interface && nic.Network == w.Network })
		})
		if there || said[w.UID] || w.Netns.Gone() || !isSettled(w.File()) {
			continue
		}
		said[w.UID] = true
		reason := why[w.UID]
		if reason == "" {
			reason = "its claim lacks this NIC: do multihome-agent and multihome-controller run?"
		}
		n.found(claimMissing, fmt.Sprintf("pod %s/%s, NIC %s of network %s: %s", w.Namespace, w.Pod, w.Interface, w.Network, reason), "NAMESPACE", w.Namespace, "POD", w.Pod)
	}
}

// sandboxes compares what ADD noted with the claims on the node and with the namespaces.
func (n *node) sandboxes(served []spool.Pod, sandboxes []spool.Sandbox) error {
	if len(sandboxes) == 0 {
		return nil
	}
	namespaces, err := survey.OpenSandboxes()
	if err != nil {
		return err
	}
	defer namespaces.Close()
	var errs []error
	for _, s := range sandboxes {
		exists, has, err := namespaces.Look(s.Netns)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.File(), err))
			continue
		}
		n.sandbox(s, exists, has, slices.ContainsFunc(served, func(p spool.Pod) bool { return p.UID == s.UID }))
	}
	return errors.Join(errs...)
}

// sandbox does this for one sandbox: whether its namespace is at its path, which addresses are
// in it, and whether the pod has a claim on the node.
func (n *node) sandbox(s spool.Sandbox, exists bool, has []netip.Addr, claimed bool) {
	who := fmt.Sprintf("%s of pod %s/%s in container %s", s.Interface, s.Namespace, s.Pod, s.ContainerID)
	var all, kept, lost []string
	for _, a := range s.Addresses {
		addr := a.Address.Addr()
		all = append(all, addr.String())
		if slices.Contains(has, addr) {
			kept = append(kept, addr.String())
		} else {
			lost = append(lost, addr.String())
		}
	}
	of := func(list []string) string { return strings.Join(list, ", ") }
	p := n.podOf(s.ContainerID)
	switch {
	case !exists && len(kept) > 0:
		n.foundIn(p, heldAddress, fmt.Sprintf("%s: processes have %s, and %s doesn't lead to their namespace %d any more", who, of(kept), s.Netns.Path, s.Netns.Inode), "WHO", who)
	case !exists:
		n.foundIn(p, heldAddress, fmt.Sprintf("%s: its namespace is gone, and %s isn't given back yet", who, of(all)), "WHO", who)
	case s.Gone && len(kept) > 0 && isSettled(s.GoneFile()):
		n.foundIn(p, heldAddress, fmt.Sprintf("%s: DEL was called, and its namespace still has %s", who, of(kept)), "WHO", who)
	case s.Gone:
	case !claimed:
		n.foundIn(p, unclaimedSandbox, fmt.Sprintf("%s has %s, and the agent has no claim of the pod", who, of(all)), "WHO", who)
	case len(lost) > 0 && isSettled(s.File()):
		n.foundIn(p, addressLost, fmt.Sprintf("%s: its namespace lacks %s", who, of(lost)), "WHO", who)
	}
}

// podOf returns the pod of a container, nil if it isn't among those examined.
func (n *node) podOf(containerID string) *pod {
	i := slices.IndexFunc(n.pods, func(p pod) bool { return p.ContainerID == containerID })
	if i < 0 {
		return nil
	}
	return &n.pods[i]
}

// isSettled reports whether a file of the spool is old enough to say something.
func isSettled(file string) bool {
	info, err := os.Stat(filepath.Join(spool.Dir, file))
	return err == nil && time.Since(info.ModTime()) > settled
}
