// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// bench holds the programs and the measurements.
type bench struct {
	echo, floor program
	macvlan     program   // of the CNI project
	plugins     []plugins // of this tree, and of -former
	samples     map[figure]sample
}

// figure identifies a measurement.
type figure struct {
	program, command, node string
}

// settle is a pause before each call. In it the kernel ends its work in the background, so
// that no call takes longer because of the call before.
const settle = 15 * time.Millisecond

// round measures everything once on one node, with new pods, in a random order.
func (b *bench) round(n *node, memory bool) error {
	const pods = 12
	var free []*pod
	defer func() {
		for _, p := range free {
			p.Close()
		}
	}()
	for range pods {
		p, err := n.newPod()
		if err != nil {
			return err
		}
		free = append(free, p)
	}
	r := &roundOn{b, n, free, ""}
	parts := []func(*pod) error{r.coordinatorLife, r.bareDeletion, r.kernelsWork, r.kernelsWorkWithoutNFT, r.echoes, r.furtherNIC, r.byBridge, r.routeBridge, r.routeSBR}
	if n.multihomeIPAM != "" {
		parts = append(parts, r.ipam)
	}
	if n.staticMacvlan != "" {
		parts = append(parts, r.staticMacvlan)
	}
	if memory {
		parts = append(parts, r.peakMemory)
	}
	for i, part := range inAnyOrder(parts...) {
		if err := part(free[i]); err != nil {
			return err
		}
	}
	if err := r.overlayNIC(); err != nil {
		return err
	}
	for _, p := range free {
		p.Close()
	}
	free = nil
	return r.cleanedUp()
}

// roundOn is one round on one node.
type roundOn struct {
	*bench
	node *node
	pods []*pod
	last string // the host end that the kernel removes last, when its pod dies
}

// measure runs a program and keeps its time in milliseconds.
func (r *roundOn) measure(name, command string, p program, c call) (stdout []byte, err error) {
	time.Sleep(settle)
	stdout, took, err := p.time(r.node, c)
	if err == nil {
		f := figure{name, command, r.node.Name()}
		r.samples[f] = append(r.samples[f], float64(took)/float64(time.Millisecond))
	}
	return stdout, err
}

// coordinatorLife measures all verbs of coordinator with one attachment.
func (r *roundOn) coordinatorLife(p *pod) error {
	added, err := r.measure("coordinator", "ADD", r.node.coordinator, call{command: "ADD", pod: p, prev: p.result})
	if err != nil {
		return err
	}
	result := json.RawMessage(added)
	for _, v := range []struct {
		name string
		call call
	}{
		{"re-ADD", call{command: "ADD", pod: p, prev: p.result}},
		{"CHECK", call{command: "CHECK", pod: p, prev: result}},
		{"DEL", call{command: "DEL", pod: p, prev: result}},
		{"STATUS", call{command: "STATUS"}},
	} {
		if _, err := r.measure("coordinator", v.name, r.node.coordinator, v.call); err != nil {
			return err
		}
	}
	return nil
}

// furtherNIC measures ADD of a pod's second NIC.
func (r *roundOn) furtherNIC(p *pod) error {
	first := call{command: "ADD", pod: p, prev: p.result}
	if _, _, err := r.node.coordinator.time(r.node, first); err != nil {
		return err
	}
	result, err := p.addNIC(r.node, "net1", nextAddresses(48, "fd00:6::3:%x/64"))
	if err != nil {
		return err
	}
	further := call{command: "ADD", pod: p, nic: "net1", prev: result}
	if _, err := r.measure("coordinator", "ADD of a further NIC", r.node.coordinator, further); err != nil {
		return err
	}
	return r.remove(further, first)
}

// overlayNIC measures ADD of an underlay NIC in a pod whose eth0 is an overlay's.
func (r *roundOn) overlayNIC() error {
	p, err := r.node.newOverlayPod()
	if err != nil {
		return err
	}
	defer p.Close()
	result, err := p.addNIC(r.node, "net1", nextAddresses(64, "fd00:6::4:%x/64"))
	if err != nil {
		return err
	}
	add := call{command: "ADD", pod: p, nic: "net1", prev: result}
	if _, err := r.measure("coordinator", "ADD in overlay mode", r.node.coordinator, add); err != nil {
		return err
	}
	return r.remove(add)
}

// byBridge measures coordinator with hostLink macvlan, on a node that has the macvlan.
func (r *roundOn) byBridge(p *pod) error {
	return r.lifeAgain("coordinator", " by the bridge", r.node.coordinator, call{pod: p, prev: p.result, keys: map[string]any{"serviceCIDR": serviceCIDR, "hostLink": "macvlan"}})
}

// routeBridge measures route with a bridge, on a node that has the macvlan.
func (r *roundOn) routeBridge(p *pod) error {
	return r.lifeAgain("route", " by the bridge", r.node.route, call{pod: p, prev: p.result, keys: map[string]any{"master": nic, "bridge": nic + ".host"}})
}

// routeSBR measures route with a routing table for the NIC.
func (r *roundOn) routeSBR(p *pod) error {
	return r.lifeAgain("route", " of a table", r.node.route, call{pod: p, prev: p.result, keys: map[string]any{"sbr": true}})
}

// lifeAgain measures ADD and DEL of an attachment, after an ADD and DEL that it doesn't
// measure.
func (r *roundOn) lifeAgain(name, how string, plugin program, c call) error {
	for _, command := range []string{"ADD", "DEL"} {
		c.command = command
		if _, _, err := plugin.time(r.node, c); err != nil {
			return err
		}
	}
	for _, command := range []string{"ADD", "DEL"} {
		c.command = command
		if _, err := r.measure(name, command+how, plugin, c); err != nil {
			return err
		}
	}
	return nil
}

// remove calls DEL for ADDs, without measuring it.
func (r *roundOn) remove(added ...call) error {
	for _, c := range added {
		c.command = "DEL"
		if _, _, err := r.node.coordinator.time(r.node, c); err != nil {
			return err
		}
	}
	return nil
}

// bareDeletion measures the deletion of the link that coordinator's DEL deletes.
func (r *roundOn) bareDeletion(p *pod) error {
	added, _, err := r.node.coordinator.time(r.node, call{command: "ADD", pod: p, prev: p.result})
	if err != nil {
		return err
	}
	link, err := hostEnd(added)
	if err != nil {
		return err
	}
	_, err = r.measure("floor", "DEL", r.floor, call{command: "DEL", pod: p, link: link})
	return err
}

// kernelsWork measures floor: the requests of an ADD alone.
func (r *roundOn) kernelsWork(p *pod) error {
	_, err := r.measure("floor", "ADD", r.floor, r.floorAdd(p))
	return err
}

// kernelsWorkWithoutNFT measures floor without the requests to nftables.
func (r *roundOn) kernelsWorkWithoutNFT(p *pod) error {
	c := r.floorAdd(p)
	c.args = []string{"without-nft"}
	_, err := r.measure("floor without nft", "ADD", r.floor, c)
	return err
}

func (r *roundOn) floorAdd(p *pod) call {
	r.last = "floor" + p.id[len(p.id)-8:]
	return call{command: "ADD", pod: p, prev: p.result, link: r.last}
}

// echoes measures all verbs of echo.
func (r *roundOn) echoes(p *pod) error {
	for _, c := range []call{
		{command: "ADD", pod: p, prev: p.result},
		{command: "CHECK", pod: p, prev: p.result},
		{command: "DEL", pod: p, prev: p.result},
		{command: "STATUS"},
	} {
		if _, err := r.measure("echo", c.command, r.echo, c); err != nil {
			return err
		}
	}
	return nil
}

// peakMemory measures the peak memory of ADD in MiB.
func (r *roundOn) peakMemory(p *pod) error {
	for name, program := range map[string]program{"echo": r.echo, "coordinator": r.node.coordinator} {
		kib, err := program.peakMemory(r.node, call{command: "ADD", pod: p, prev: p.result})
		if err != nil {
			return err
		}
		f := figure{name, "memory", r.node.Name()}
		r.samples[f] = append(r.samples[f], float64(kib)/1024)
	}
	return nil
}

// cleanedUp waits until the kernel has removed the links of dead pods, so that this work
// doesn't slow down the next round.
func (r *roundOn) cleanedUp() error {
	return r.node.Do(func() error {
		for range 1000 {
			if _, err := os.Stat("/proc/sys/net/ipv4/conf/" + r.last); os.IsNotExist(err) {
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
		return fmt.Errorf("link %s outlives its pod", r.last)
	})
}
