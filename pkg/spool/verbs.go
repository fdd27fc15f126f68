// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/multihome/multihome/pkg/netstate"
)

// Later is an error that goes away without a change of the configuration. The runtime is to
// call ADD again: CNI's code 11.
type Later string

func (l Later) Error() string { return string(l) }

func later(format string, a ...any) error { return Later(fmt.Sprintf(format, a...)) }

// Call is a call of ADD.
type Call struct {
	Want
	Boot string // ID of the running boot, see [BootID]
}

// Attachment is a NIC of a sandbox.
type Attachment struct{ ContainerID, Interface string }

// Add returns what CNI's ADD answers, and leaves a file in sandboxes/. It waits until
// pods/<podUID> has the interface in the call's network: it calls wait before it looks again.
// wait returns nil when something may have changed, and an error when the time is over. The
// error is [Later] if another call may succeed.
//
// After an error nothing of the call is in the spool, unless the error says that a file
// can't be removed.
func Add(f Files, c Call, wait func() error) (NIC, error) {
	if err := c.check(); err != nil {
		return NIC{}, err
	}
	if err := Status(f, c.Boot); err != nil {
		return NIC{}, err
	}
	pod, nic, err := lookUp(f, c.Want)
	if err != nil {
		return NIC{}, err
	}
	if nic != nil {
		return enter(f, c.Want, *nic, false)
	}
	if err := put(f, c.File(), c.Want); err != nil {
		return NIC{}, err
	}
	answer, err := await(f, c.Want, pod, wait)
	if err != nil {
		return NIC{}, undone(err, f.Remove(c.File()))
	}
	return answer, nil
}

// Look returns what the pod's NIC is to have, for the main plugin that makes the NIC. It waits
// as [Add] does, and changes nothing: the call of Add, by IPAM, follows.
func Look(f Files, c Call, wait func() error) (NIC, error) {
	if err := c.check(); err != nil {
		return NIC{}, err
	}
	if err := Status(f, c.Boot); err != nil {
		return NIC{}, err
	}
	for {
		pod, nic, err := lookUp(f, c.Want)
		if err != nil {
			return NIC{}, err
		}
		if nic != nil {
			return *nic, nil
		}
		if err := wait(); err != nil {
			return NIC{}, lacks(c.Want, pod, err)
		}
	}
}

// await waits until the pod has the NIC, and enters it. The want's file is there. DEL removes
// it, and Add must not answer after that.
func await(f Files, w Want, pod *Pod, wait func() error) (NIC, error) {
	for {
		if err := wait(); err != nil {
			return NIC{}, lacks(w, pod, err)
		}
		if err := stillWanted(f, w); err != nil {
			return NIC{}, err
		}
		var nic *NIC
		var err error
		if pod, nic, err = lookUp(f, w); err != nil {
			return NIC{}, err
		}
		if nic != nil {
			return enter(f, w, *nic, true)
		}
	}
}

// lacks returns the error for a NIC that the pod lacked until the time was over.
func lacks(w Want, pod *Pod, over error) error {
	who := fmt.Sprintf("pod %s/%s, NIC %s of network %s", w.Namespace, w.Pod, w.Interface, w.Network)
	switch {
	case pod == nil:
		return later("%s: no addresses: %v: the node's agent has nothing about the pod: is it running, and the controller?", who, over)
	case pod.Reason != "":
		return later("%s: no addresses: %v: %s", who, over, pod.Reason)
	}
	return later("%s: no addresses: %v: the pod's claim lacks this NIC: is the controller running?", who, over)
}

// lookUp returns what the agent says about the pod, and the NIC if the pod has it.
func lookUp(f Files, w Want) (*Pod, *NIC, error) {
	var pod Pod
	err := get(f, PodFile(w.UID), &pod)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(pod.NICs, func(n NIC) bool { return n.Interface == w.Interface && n.Network == w.Network })
	if i < 0 {
		return &pod, nil, nil
	}
	return &pod, &pod.NICs[i], nil
}

// enter writes the sandbox's file and looks again: the agent may have withdrawn the pod before
// it could see the file, and DEL may have been called. waited is whether the want's file is
// there, which is removed.
func enter(f Files, w Want, nic NIC, waited bool) (NIC, error) {
	s := Sandbox{
		Namespace: w.Namespace, Pod: w.Pod, UID: w.UID,
		ContainerID: w.ContainerID, Interface: w.Interface, Call: w.Call,
		Network: w.Network, Netns: w.Netns, Addresses: nic.Addresses, DefaultRouteNIC: nic.DefaultRouteNIC,
	}
	err := put(f, s.File(), s)
	if err == nil {
		err = lookAgain(f, w, s, nic, waited)
	}
	if err == nil {
		return nic, nil
	}
	// A runtime may still read the file by DEL, which makes no difference: the agent looks
	// whether the namespace has the addresses.
	return NIC{}, undone(err, f.Remove(s.File()))
}

// undone returns the error of an ADD whose file was removed, with the error of that.
func undone(err, remove error) error {
	if remove == nil {
		return err
	}
	return fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, remove)
}

// TakeBack removes what an ADD that has succeeded left in sandboxes/. The plugin does so if
// it can't print the result.
func TakeBack(f Files, c Call) error {
	return f.Remove(Sandbox{ContainerID: c.ContainerID, Interface: c.Interface, Call: c.Call}.File())
}

func lookAgain(f Files, w Want, s Sandbox, nic NIC, waited bool) error {
	_, now, err := lookUp(f, w)
	if err != nil {
		return err
	}
	if now == nil || !reflect.DeepEqual(*now, nic) {
		return later("pod %s/%s, NIC %s of network %s: its addresses changed while ADD ran", w.Namespace, w.Pod, w.Interface, w.Network)
	}
	if waited {
		if err := stillWanted(f, w); err != nil {
			return err
		}
		if err := f.Remove(w.File()); err != nil {
			return err
		}
	}
	// This must be the last step: a DEL that found one of the files is over at the end of ADD
	// only if ADD fails.
	_, err = f.Read(s.GoneFile())
	if err == nil {
		return errCalledOff(w)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// stillWanted returns an error if DEL removed the want's file.
func stillWanted(f Files, w Want) error {
	_, err := f.Read(w.File())
	if errors.Is(err, fs.ErrNotExist) {
		return errCalledOff(w)
	}
	return err
}

func errCalledOff(w Want) error {
	return later("pod %s/%s, NIC %s of network %s: DEL was called while ADD ran", w.Namespace, w.Pod, w.Interface, w.Network)
}

// Del moves the files of a NIC from sandboxes/ to gone/, and removes those in wants/, so that
// an ADD that is running fails. It succeeds if there is nothing, as when the agent has not
// made the spool in this boot: no sandbox of this boot has addresses of ours then.
func Del(f Files, containerID, ifname string) error {
	is := func(name string) bool { return strings.HasPrefix(name, ownName(containerID, ifname, "")) }
	wants, err := f.List(wantsDir)
	if err != nil {
		return err
	}
	for _, name := range wants {
		if !is(name) {
			continue
		}
		if err := f.Remove(path.Join(wantsDir, name)); err != nil {
			return err
		}
	}
	sandboxes, err := f.List(sandboxesDir)
	if err != nil {
		return err
	}
	for _, name := range sandboxes {
		if !is(name) {
			continue
		}
		if err := move(f, name); err != nil {
			return err
		}
	}
	return nil
}

// move moves a file from sandboxes/ to gone/, in an order in which it is always in one of
// them. It doesn't look into the file: one that can't be read by others is moved, too.
func move(f Files, name string) error {
	contents, err := f.Read(path.Join(sandboxesDir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // ADD took it back, or another DEL was quicker
	}
	if err != nil {
		return err
	}
	if err := f.Write(path.Join(goneDir, name), contents); err != nil {
		return err
	}
	return f.Remove(path.Join(sandboxesDir, name))
}

// GC does what [Del] does for each NIC of a network that isn't among those to keep. It returns
// an error that names the files whose network it couldn't read, after it has done the others.
func GC(f Files, network string, keep []Attachment) error {
	wants, err := Wants(f)
	errs := []error{err}
	for _, w := range wants {
		if w.Network == network && !slices.Contains(keep, Attachment{w.ContainerID, w.Interface}) {
			errs = append(errs, f.Remove(w.File()))
		}
	}
	sandboxes, err := list[Sandbox](f, sandboxesDir)
	errs = append(errs, err)
	for _, s := range sandboxes {
		if s.Network == network && !slices.Contains(keep, Attachment{s.ContainerID, s.Interface}) {
			errs = append(errs, move(f, path.Base(s.File())))
		}
	}
	return errors.Join(errs...)
}

// Check returns an error unless the spool, the result of ADD and the interface agree: one of
// the files of the NIC in sandboxes/ is of the call's pod and network, and all its addresses are
// among those of the result and of the interface.
func Check(f Files, c Call, result, nic []netip.Prefix) error {
	names, err := f.List(sandboxesDir)
	if err != nil {
		return err
	}
	who := fmt.Sprintf("NIC %s of network %s in container %s", c.Interface, c.Network, c.ContainerID)
	err = fmt.Errorf("%s: no addresses in the spool: ADD did not run in this boot, or DEL did", who)
	for _, name := range names {
		if !strings.HasPrefix(name, ownName(c.ContainerID, c.Interface, "")) {
			continue
		}
		var s Sandbox
		if e := get(f, path.Join(sandboxesDir, name), &s); e != nil {
			err = e
			continue
		}
		if err = s.agrees(c, who, result, nic); err == nil {
			return nil
		}
	}
	return err
}

func (s Sandbox) agrees(c Call, who string, result, nic []netip.Prefix) error {
	if s.Network != c.Network || c.UID != "" && s.UID != c.UID {
		return fmt.Errorf("%s: the spool has it for network %s and pod UID %s", who, s.Network, s.UID)
	}
	for _, a := range s.Addresses {
		if !slices.Contains(result, a.Address) {
			return fmt.Errorf("%s: the spool has %s, prevResult has %v", who, a.Address, result)
		}
		if !slices.Contains(nic, a.Address) {
			return fmt.Errorf("%s: the spool has %s, the interface has %v", who, a.Address, nic)
		}
	}
	return nil
}

// Status returns an error until the agent was ready once in the boot. It never does after
// that: a runtime that gets an error reports the node as not ready.
func Status(f Files, boot string) error {
	var r Ready
	err := get(f, readyFile, &r)
	if errors.Is(err, fs.ErrNotExist) || err == nil && r.Boot != boot {
		return Later("the agent was not ready in this boot: is multihome-agent (DaemonSet multihome) running on this node?")
	}
	return err
}

// get reads a file and decodes it.
func get(f Files, name string, into any) error {
	contents, err := f.Read(name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(contents, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// put encodes a value and writes it.
func put(f Files, name string, v any) error {
	contents, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return f.Write(name, contents)
}
