// SPDX-License-Identifier: Apache-2.0

// Package spool is what the IPAM plugin and the node's agent say to each other, as files.
// The plugin reads, writes and renames files and does nothing else: it needs no socket, no
// API server and no living agent.
//
//	ready                                   the agent was ready in this boot
//	pods/<podUID>                           from the agent: the pod's addresses
//	wants/<containerID>:<ifname>:<call>     from ADD, while it waits: a NIC that pods/<podUID> lacks
//	sandboxes/<containerID>:<ifname>:<call> from ADD: what a sandbox has
//	gone/<containerID>:<ifname>:<call>      from DEL and GC: a file of sandboxes/, moved here
//	conflicts/<podUID>:<ifname>:<address>   from a later plugin of the chain: another machine answers
//	                                        for the address
//	withdrawn/<first of podUID>             for the agent: pods that are not served any more in this boot
//	lost                                    for the agent: the boot, if somebody deleted the spool in it
//
// A file appears whole or not at all. Each ADD has files of its own, by its random <call>:
// nobody replaces or removes the file of another ADD unless he means just that one. So a
// file that was read and decided about is the one that is removed, whoever writes meanwhile.
//
// The order of the steps is what keeps two pods from having one address:
//
//	ADD       reads pods/, writes sandboxes/, reads pods/ again and looks for its file in gone/
//	DEL, GC   removes from wants/, writes gone/, removes from sandboxes/
//	agent     removes from pods/, lists sandboxes/, lists gone/
//
// If the agent finds nothing of a pod in the two lists, no ADD has answered for this pod
// with the addresses that were in pods/ and none will: an ADD that wrote after the list was
// made doesn't find pods/ any more. A sandbox is in gone/ before it leaves sandboxes/, so
// the agent sees it in one of them when it lists them in this order.
//
// An ADD that is killed leaves its files. A want is of no use when pods/ has its NIC or when
// its namespace is gone, and a half-written file when it is old ([Directory.Sweep]): the agent
// removes both. What is in sandboxes/ stays until DEL or until its namespace is gone.
//
// Beware: a file in gone/ says that the runtime called DEL, not that the pod's namespace has
// lost the address. Main plugins call IPAM first and remove the link afterwards, and a
// plugin whose caller was killed may still be about to add the address.
package spool

import (
	"net/netip"
	"time"

	"github.com/multihome/multihome/pkg/netns"
)

// Dir is the directory of the spool, on a tmpfs.
const Dir = "/run/multihome/ipam"

// Files is a spool's directory. Names are relative to it, as above. The implementation for
// the node is OpenDir's.
type Files interface {
	// Read returns the contents of a file. The error is fs.ErrNotExist if there is none.
	Read(name string) ([]byte, error)
	// Write makes a file with these contents, or replaces one. Others see the file as it
	// was or as it is to be, and nothing in between.
	Write(name string, contents []byte) error
	// Remove removes a file. It returns nil if there is none.
	Remove(name string) error
	// List returns the names in a directory, sorted; none if there is no directory.
	List(dir string) ([]string, error)
}

// Ready is the contents of ready.
type Ready struct {
	Boot  string    // the boot's ID, as in [BootID]
	Since time.Time // when the node booted
}

// Pod is the contents of pods/<podUID>.
type Pod struct {
	Namespace string
	Name      string
	UID       string
	NICs      []NIC `json:",omitempty"` // with addresses
	// Reason says why a NIC isn't there (yet), such as "pool lan has 0 of 10 addresses free".
	Reason string `json:",omitempty"`
}

// NIC is what CNI gets for a NIC of a pod.
type NIC struct {
	Interface string
	Network   string // the "name" of the CNI configuration
	Addresses []Address
	Routes    []Route `json:",omitempty"`
	MAC       string  `json:",omitempty"`
	Link      *Link   `json:",omitempty"` // of a VLANSubnet

	// DefaultRouteNIC is the NIC that holds the default routes of the pod, by its annotation.
	DefaultRouteNIC string `json:",omitempty"`
}

// Link is the node's link of a NIC on a VLANSubnet: the VLAN on which the NIC is a macvlan, or
// without one the node's own macvlan beside the NIC.
type Link struct {
	Name   string // Master itself if there is no other
	Master string // the link that carries the VLAN, or the macvlans
	VLAN   int    `json:",omitempty"`
	Mode   string // of the macvlan
}

// Address is an address of a NIC.
type Address struct {
	Address netip.Prefix // with the length of the subnet
	Gateway netip.Addr   `json:",omitzero"`
	Space   string       `json:",omitempty"` // the network or VLAN of the pool, as in an IPAddress
	Pool    string       `json:",omitempty"`
	// Shared says that another pod has it, too, and may: a virtual machine migrates.
	Shared bool `json:",omitempty"`
}

// Route is a route of a NIC.
type Route struct {
	Dst netip.Prefix
	Gw  netip.Addr
}

// Want is the contents of a file in wants/.
type Want struct {
	Namespace         string
	Pod               string
	UID               string
	ContainerID       string
	Interface         string
	Call              string // of ADD; a random number in hexadecimal digits
	Network           string
	Netns             netns.ID
	DefaultIPv4IPPool []string `json:",omitempty"`
	DefaultIPv6IPPool []string `json:",omitempty"`
	CleanGateway      bool     `json:",omitempty"`
	MatchMasterSubnet bool     `json:",omitempty"`
	DeviceID          string   `json:",omitempty"` // of runtimeConfig, the VF's PCI address
}

// Sandbox is the contents of a file in sandboxes/ or gone/.
type Sandbox struct {
	Namespace   string
	Pod         string
	UID         string
	ContainerID string
	Interface   string
	Call        string // of ADD
	Network     string
	Netns       netns.ID
	Addresses   []Address

	// DefaultRouteNIC is that of the NIC at ADD.
	DefaultRouteNIC string `json:",omitempty"`

	// Gone is whether DEL or GC was called for it. [Sandboxes] sets it.
	Gone bool `json:"-"`
}
