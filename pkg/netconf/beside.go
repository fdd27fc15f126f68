// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"fmt"
	"strconv"
)

// Parent returns the link of the nodes on which the network puts macvlans or ipvlans, and which
// of the two; "" if it puts neither.
func (c Config) Parent() (link, kind string) {
	_, m := c.Spec.macvlan()
	if t := c.cniType(); t != "macvlan" && t != "ipvlan" || m == nil {
		return "", ""
	}
	return m.link(), c.cniType()
}

// link returns the link on which the NICs are: the VLAN of the parent, if there is one.
func (m *Macvlan) link() string {
	if id := number(m.VLANID); id > 0 {
		return m.parent() + "." + strconv.Itoa(id)
	}
	return m.parent()
}

// Beside warns where a node can't have NICs of both networks: a link carries macvlans or ipvlans,
// and the kernel refuses the other ones (netdev_rx_handler_register, EBUSY). Which links there are
// differs from node to node, so that both may be right.
func (c Config) Beside(o Config) []Fault {
	link, kind := c.Parent()
	other, otherKind := o.Parent()
	if link == "" || link != other || kind == otherKind {
		return nil
	}
	path, _ := c.Spec.macvlan()
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return []Fault{{Path: path + ".master", Warning: true, Message: fmt.Sprintf(
		"%s: SpiderMultusConfig %s has %ss on it, and no node can have both on one link: want %s for both, or a vlanID for one of them",
		link, name, otherKind, otherKind)}}
}
