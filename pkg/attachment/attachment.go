// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"fmt"
	"hash/fnv"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// Attachment is one NIC of one pod in one network.
type Attachment struct {
	Network     string // the "name" of the configuration
	ContainerID string
	IfName      string
}

// Alias returns the ifalias of links that are made for the attachment.
func (a Attachment) Alias() string {
	return netstate.AliasPrefix + short(a.Network) + "/" + short(a.ContainerID) + "/" + a.IfName
}

// Pod returns the name of the attachment's container in aliases and in the file system.
func (a Attachment) Pod() string { return short(a.ContainerID) }

// ParseAlias returns the attachment for which a link was made, from the link's alias. It
// returns false if the alias isn't ours. Long names are in the shortened form of the alias;
// all derived names are the same as those of the original ones.
func ParseAlias(alias string) (Attachment, bool) {
	rest, ours := strings.CutPrefix(alias, netstate.AliasPrefix)
	parts := strings.Split(rest, "/")
	if !ours || len(parts) != 3 {
		return Attachment{}, false
	}
	return Attachment{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

// Same reports whether two attachments are the same one, be their names shortened or not.
func (a Attachment) Same(b Attachment) bool { return a.Alias() == b.Alias() }

// SamePod reports whether two attachments are of one pod.
func (a Attachment) SamePod(b Attachment) bool { return a.Pod() == b.Pod() }

// SameNetwork reports whether two attachments are in one network.
func (a Attachment) SameNetwork(b Attachment) bool { return short(a.Network) == short(b.Network) }

// short shortens a name to at most 100 bytes: two of them and an interface name fit into an
// ifalias of 255 bytes (IFALIASZ). A long name ends with its hash, so that two long names
// stay different. A shortened name stays as it is.
func short(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return fmt.Sprintf("%s~%016x", s[:limit-17], Hash(s))
}

// Hash returns the FNV-1a hash from which names and MACs are derived. It is the same for the
// same parts on every call, so nothing has to be stored.
func Hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // a hash never fails to write
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}

// HostEnd returns the name of the host end of a pod's veth: "veth" and eleven hexadecimal
// digits, 15 bytes as the longest name of a link.
func HostEnd(containerID string) string {
	return fmt.Sprintf("veth%011x", Hash("link", short(containerID))>>20)
}

// EndMAC returns the MAC of an end of a pod's veth: a unicast, locally administered address.
func EndMAC(end netstate.NS, containerID string) netstate.MAC {
	h := Hash("mac", string(end), short(containerID))
	m := netstate.MAC{byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
	m[0] = m[0]&^1 | 2
	return m
}
