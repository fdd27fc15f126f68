// SPDX-License-Identifier: Apache-2.0

// Package simulate runs the controller, the node agent and the IPAM plugin, as they are, in a
// simulated cluster, in which every request to the API server and every operation on a file is
// a step that comes at any time, fails, or is the last before a crash. After each step it
// checks that no two pods have one address; at the end, that nothing is lost, and that the pools of
// applications have their sizes.
//
// A schedule follows from its seed. One that breaks an invariant is printed and stays as a
// test. Protections can be switched off, to show that the simulator finds what they are for.
package simulate

import "slices"

// Protection is something that keeps the invariants.
type Protection int

// Protections. Each has a control, a run without it that breaks an invariant: TestControls.
const (
	None Protection = iota
	// CreateByName: an address is owned by creating an object of its name, which the API
	// server refuses a second time.
	CreateByName
	// Preconditions: writes carry the resourceVersion that they were decided on.
	Preconditions
	// LiveReads: whatever is written was decided on by the API server, not by a cache.
	LiveReads
	// Renewed: an address of an earlier attempt is changed before it is relied on.
	Renewed
	// UIDs: a pod that is made again under its name has another UID.
	UIDs
	// WithdrawBeforeLook: the agent removes a pod's addresses from pods/, and then looks at
	// its sandboxes.
	WithdrawBeforeLook
	// LookAgain: ADD writes its sandbox, and then looks again.
	LookAgain
	// GoneBeforeSandboxes: DEL writes to gone/, and then removes from sandboxes/.
	GoneBeforeSandboxes
	// SeenTwice: a namespace that isn't seen is looked for again.
	SeenTwice
	// DeletedSpools: the agent sees that somebody deleted the spool, and looks into all namespaces then.
	DeletedSpools
	// Processes: a sandbox for which a plugin still works isn't gone.
	Processes
	// Namespaces: DEL is a hint; the namespace with the address in it is the fact.
	Namespaces
	// StoppedNodes: a Node is deleted or marked out of service only if its machine is off.
	StoppedNodes
	// TakenAsSeen: a pod gets an address of its application's pool by changing it as it was seen.
	TakenAsSeen
	// Instances: two pods of a virtual machine have one address only if they are of one instance.
	Instances
	// GivenBack: an address that a pod gives back has its application looked at.
	GivenBack
	// CaughtUp: a controller hands out an address only when its cache knows what claims name.
	CaughtUp
	// Begun: a controller that begins waits until its cache has the newest claim that there is.
	Begun
	// AskedAgain: a subnet that had too few addresses for an application is asked again.
	AskedAgain
	protections
)

// String returns the protection's name.
func (p Protection) String() string {
	return [...]string{
		"none", "create by name", "preconditions", "live reads", "renewed before it is relied on", "UIDs", "withdraw before look", "look again",
		"gone before sandboxes", "seen twice", "deleted spools", "processes", "namespaces", "stopped nodes",
		"taken as seen", "instances", "given back", "caught up", "begun", "asked again",
	}[p]
}

// All returns all protections.
func All() []Protection {
	var out []Protection
	for p := None + 1; p < protections; p++ {
		out = append(out, p)
	}
	return out
}

// Settings are the size of a world, and what may happen in it.
type Settings struct {
	Machines    int
	Pools       int
	Addresses   int // of each pool
	Pods        int // that may exist at a time
	Controllers int
	Steps       int  // before everything comes to rest
	UserDeletes bool // of claims, IPAddresses, NodeSpools and spools
	// Strangers is how many other machines of the LAN have an address of a pool or subnet at a time, at most.
	// coordinator detects that.
	Strangers int
	// Dual: in half of the random worlds each network has an IPv6 pool beside the IPv4 one, which pods without subnets use too.
	Dual bool
	// Static is how many addresses the VLANSubnet has from which pods get what they name; 0: there is none.
	Static  int
	Without []Protection
	Trace   bool // note each step
	// Applications, of up to so many replicas, and the subnets of which they have their pools, each of as
	// many addresses as a pool.
	Deployments, StatefulSets, VirtualMachines, Replicas, Subnets int
	// Retain: what identities had is kept for them in any case. At random, it is so in some worlds.
	Retain bool
	// Frees: with Retain, what a deleted owner's identities had is free. A schedule in which their pods live on
	// must keep it all the same.
	Frees bool
}

func (s Settings) protects(p Protection) bool { return !slices.Contains(s.Without, p) }
