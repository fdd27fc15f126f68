// SPDX-License-Identifier: Apache-2.0

package plugin

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

// Alias is the ifalias of a link that the attachment made.
func (a Attachment) Alias() string {
	return netstate.AliasPrefix + short(a.Network) + "/" + short(a.ContainerID) + "/" + a.IfName
}

// OfNetwork reports whether an alias was made by an attachment of the network.
func OfNetwork(alias, network string) bool {
	return strings.HasPrefix(alias, netstate.AliasPrefix+short(network)+"/")
}

// OfContainer reports whether an alias was made by an attachment of the pod.
func OfContainer(alias, containerID string) bool {
	return podOf(alias) == short(containerID)
}

// podOf returns the container ID in an alias, as Alias shortens it.
func podOf(alias string) string {
	parts := strings.Split(strings.TrimPrefix(alias, netstate.AliasPrefix), "/")
	if len(parts) != 3 {
		return ""
	}
	return parts[1]
}

// short cuts a name so that any two and an interface name fit into an ifalias,
// which holds 255 bytes (IFALIASZ), and two long names stay apart.
func short(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return fmt.Sprintf("%s~%016x", s[:limit-17], Hash(s))
}

// Hash is the FNV-1a hash from which names and MACs are derived: the same for
// the same parts on every call, so that nothing has to be stored.
func Hash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = h.Write([]byte(p)) // a hash never fails to write
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}

// HostEnd names the host end of a pod's veth: "veth" and eleven hexadecimal
// digits fill an interface name.
func HostEnd(containerID string) string {
	return fmt.Sprintf("veth%011x", Hash("link", containerID)>>20)
}

// MAC derives a locally administered unicast MAC.
func MAC(parts ...string) netstate.MAC {
	h := Hash(parts...)
	m := netstate.MAC{byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}
	m[0] = m[0]&^1 | 2
	return m
}
