// SPDX-License-Identifier: Apache-2.0

package netconf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// bonding returns the bond that the network makes, the NICs in it, in order, and the path of its
// block; nil if it makes none.
func (c Config) bonding() (path string, nics []string, bond *Bond) {
	path, m := c.Spec.macvlan()
	switch t := c.cniType(); {
	case (t == "macvlan" || t == "ipvlan") && m != nil:
		nics, bond = m.Master, m.Bond
	case t == "vlan" && c.Spec.VLAN != nil:
		path, nics, bond = "spec.vlan", c.Spec.VLAN.Master, c.Spec.VLAN.Bond
	}
	if len(nics) < 2 || bond == nil {
		return "", nil, nil
	}
	return path, slices.Sorted(slices.Values(nics)), bond
}

// Beside warns where a node can't have what both networks want of it. Which links there are differs
// from node to node, so that both may be right.
func (c Config) Beside(o Config) []Fault {
	name := o.Name
	if o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	k := &beside{other: "SpiderMultusConfig " + name}
	k.parents(c, o)
	k.bonds(c, o)
	return k.faults
}

type beside struct {
	other  string
	faults []Fault
}

func (k *beside) warn(path, format string, args ...any) {
	k.faults = append(k.faults, Fault{Path: path, Warning: true, Message: fmt.Sprintf(format, args...)})
}

// parents warns of a link with macvlans and ipvlans: it carries one of the two, and the kernel refuses the
// other ones (netdev_rx_handler_register, EBUSY). So it does with both and the NIC of a bond.
func (k *beside) parents(c, o Config) {
	link, kind := c.Parent()
	if link == "" {
		return
	}
	path, _ := c.Spec.macvlan()
	if other, otherKind := o.Parent(); link == other && kind != otherKind {
		k.warn(path+".master", "%s: %s has %ss on it, and no node can have both on one link: want %s for both, or a vlanID for one of them",
			link, k.other, otherKind, otherKind)
	}
	if _, nics, bond := o.bonding(); slices.Contains(nics, link) {
		k.warn(path+".master", "%s: %s has it in bond %s, and no node can have %ss on a NIC of a bond: want %s for both, or other NICs for one of them",
			link, k.other, bond.Name, kind, bond.Name)
	}
}

// bonds warns of a bond that is another one in the other network, which ifacer refuses, and of its NICs.
func (k *beside) bonds(c, o Config) {
	path, nics, bond := c.bonding()
	if bond == nil {
		return
	}
	if link, kind := o.Parent(); slices.Contains(nics, link) {
		k.warn(path+".master", "%s: %s has %ss on it, and no node can have these on a NIC of a bond: want %s for both, or other NICs for one of them",
			link, k.other, kind, bond.Name)
	}
	_, its, other := o.bonding()
	if other == nil {
		return
	}
	if bond.Name != other.Name {
		for _, nic := range nics {
			if slices.Contains(its, nic) {
				k.warn(path+".master", "%s: %s has it in bond %s, and a NIC is in one bond: want other NICs for one of them", nic, k.other, other.Name)
			}
		}
		return
	}
	if !slices.Equal(nics, its) {
		k.warn(path+".master", "%s: %s has it of %s, and a node has one bond of a name: want the same NICs for both, or another bond of other NICs",
			bond.Name, k.other, strings.Join(its, ", "))
	}
	if mode := number(other.Mode); number(bond.Mode) != mode {
		k.warn(path+".bond.mode", "%s: %s has it with mode %d, and a bond has one: want mode %d for both, or another bond of other NICs",
			bond.Name, k.other, mode, mode)
	}
}
