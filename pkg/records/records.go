// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
)

// Record holds the facts about an attachment that the kernel can't store. It is written
// before the state that it describes, and removed after it.
type Record struct {
	Network     string
	ContainerID string
	IfName      string
	Netns       netns.ID     `json:",omitzero"`
	Addresses   []netip.Addr // of the NIC
	Table       int          // of the node's routes to Addresses
	Device      string       // the link of these routes, "" if there are none
	MAC         string       // to which the node sends on Device
	Node        []netip.Addr `json:",omitempty"` // addresses of the node for which the NIC has neighbour entries

	// Proto is the protocol of the objects that plugin route made. Without it, an earlier
	// version made them, with the protocol of coordinator.
	Proto netstate.Protocol `json:",omitempty"`
	// Former holds earlier records that this one replaces, while their state may still be
	// there.
	Former []Record `json:",omitempty"`
	// MACs holds the MACs of the NIC before and after ADD, if ADD was to change it.
	MACs *MACs `json:",omitempty"`

	Links        []string `json:",omitempty"` // links of the node that the attachment uses
	RemoveUnused []string `json:",omitempty"` // those of Links to remove with the last attachment
}

// MACs holds the MACs of a link before and after a change.
type MACs struct{ Before, After string }

// Has reports whether an address is one of the record's Addresses.
func (r Record) Has(a netip.Addr) bool { return slices.Contains(r.Addresses, a) }

// Dir is the directory for all files that have to outlive a process.
const Dir = "/run/multihome"

// Set is a set of records: a directory below /run/multihome. It holds a directory for each
// pod, with a file for each attachment.
type Set string

// All sets. Their names can't be those of pods: a container's ID doesn't begin with '.'.
const (
	NodeRoutes   Set = ""        // the node's routes to the NICs of pods
	BridgeRoutes Set = ".routes" // the node's routes in table main by a macvlan of its own
	LinkUsers    Set = ".users"  // the attachments that use links of the node
)

// spoolDir is the directory of package spool beside the pods' directories, and agentLock the file
// by which the agents of a node take turns. Runtimes' container IDs are longer.
const (
	spoolDir  = "ipam"
	agentLock = spoolDir + ".lock"
)

func (s Set) path(pod, ifname string) string {
	return filepath.Join(Dir, string(s), pod, ifname)
}

// dirs returns the directories on the path to a pod's records, each in the one before.
func (s Set) dirs(pod string) []string {
	return []string{Dir, s.path("", ""), s.path(pod, "")}
}

// Write writes the record of an attachment. pod is the file name of its container
// (attachment.Attachment.Pod). After an error the former record, or none, is there.
func (s Set) Write(pod string, r Record) error {
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("record %s: %w", s.path(pod, r.IfName), err)
	}
	if err := s.writeWhole(pod, r.IfName, data); err != nil {
		if e := s.sweep(pod, r.IfName); e != nil {
			err = fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, e)
		}
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

// unfinished is the prefix of the name of a file that is being written. The name of its
// attachment's link follows. No record has such a name: it is longer than the name of any
// link (IFNAMSIZ), and a record has the name of its link.
const unfinished = ".half-written-of-"

// formerUnfinished is the prefix in earlier versions. A link may have such a name.
const formerUnfinished = ".new-"

// isUnfinished reports whether a file isn't completely written, and returns the name of its
// attachment's link.
func (s Set) isUnfinished(pod, file string) (ifname string, is bool) {
	if ifname, is = strings.CutPrefix(file, unfinished); is {
		return ifname, true
	}
	if ifname, is = strings.CutPrefix(file, formerUnfinished); is {
		_, err := s.ReadOne(pod, file)
		is = err != nil // without an error it is the record of a link of that name
	}
	return ifname, is
}

// writeWhole makes the directories and writes a file under another name, which it then
// renames. So the file is complete or isn't there, and a symbolic link at its path is
// replaced, not followed.
func (s Set) writeWhole(pod, ifname string, data []byte) error {
	tmp := s.path(pod, unfinished+ifname)
	f, err := create(tmp, s.dirs(pod)...)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, s.path(pod, ifname))
}

// create makes the directories and opens an empty file in the last one. It tries again if
// that directory disappears: it is removed with the record of the pod's last attachment,
// which may happen at the same time.
func create(path string, dirs ...string) (f *os.File, err error) {
	const tries = 20
	for range tries {
		if err = MakeDirs(dirs...); err == nil {
			f, err = openFile(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return f, err
}

// Sweep removes the unfinished files of writers that were killed. No writer may be at work.
func (s Set) Sweep() error {
	pods, err := s.pods()
	errs := []error{err}
	for _, pod := range pods {
		if err := s.sweep(pod, ""); err != nil {
			errs = append(errs, fmt.Errorf("record: %w", err))
		}
	}
	return errors.Join(errs...)
}

// sweep removes the unfinished files of an attachment, or of all attachments of the pod with
// "", and the pod's directory if it is empty then.
func (s Set) sweep(pod, ifname string) error {
	if privateDirs(s.dirs(pod)...) != nil {
		return nil //nolint:nilerr // the directory isn't there, or isn't ours
	}
	dir := s.path(pod, "")
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	empty := true
	for _, f := range files {
		of, is := s.isUnfinished(pod, f.Name())
		if !is || ifname != "" && ifname != of {
			empty = false
		} else if err := os.Remove(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !empty {
		return nil
	}
	// Meanwhile the ADD or DEL of another attachment may have written to the directory or
	// removed it.
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// pods returns the names of the pods that have a directory in the set.
func (s Set) pods() ([]string, error) {
	if err := privateDirs(s.dirs("")...); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	dirs, err := os.ReadDir(s.path("", ""))
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	var out []string
	for _, d := range dirs {
		switch name := d.Name(); {
		case name[0] == '.': // another set
		case name == spoolDir, name == agentLock:
		default:
			out = append(out, name)
		}
	}
	return out, nil
}

// Read returns the records of a pod, or of all pods with "". The error names the files and
// directories that aren't records, or to which others than root have access. The other
// records are returned together with it.
func (s Set) Read(pod string) ([]Record, error) {
	if pod != "" {
		return s.readPod(pod)
	}
	pods, err := s.pods()
	errs := []error{err}
	var out []Record
	for _, pod := range pods {
		records, err := s.readPod(pod)
		out, errs = append(out, records...), append(errs, err)
	}
	return out, errors.Join(errs...)
}

func (s Set) readPod(pod string) ([]Record, error) {
	if err := privateDirs(s.dirs(pod)...); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	files, err := os.ReadDir(s.path(pod, ""))
	if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	var out []Record
	var errs []error
	for _, f := range files {
		if _, is := s.isUnfinished(pod, f.Name()); is {
			continue
		}
		r, err := s.ReadOne(pod, f.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// Earlier returns the record that an ADD is about to replace. It returns nil if there is
// none, or if the file isn't a valid record. It returns an error only if reading the file
// failed, which another try may not.
func (s Set) Earlier(pod, ifname string) (*Record, error) {
	r, err := s.ReadOne(pod, ifname)
	switch {
	case err == nil:
		return &r, nil
	case errors.As(err, new(*fs.PathError)) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR):
		return nil, err
	}
	return nil, nil
}

// ReadOne returns the record of an attachment. The error is fs.ErrNotExist if there is none.
// That is the usual case, so it opens the file first and checks the directories after that.
func (s Set) ReadOne(pod, ifname string) (Record, error) {
	path := s.path(pod, ifname)
	data, err := ReadPrivate(path)
	if err == nil {
		err = privateDirs(s.dirs(pod)...)
	}
	if err != nil {
		return Record{}, fmt.Errorf("record: %w", err)
	}
	r, err := parseRecord(data, ifname)
	if err != nil {
		return r, fmt.Errorf("record %s: %w", path, err)
	}
	return r, nil
}

// parseRecord decodes a record. It returns an error if the record's IfName differs from the
// name of its file.
func parseRecord(data []byte, ifname string) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, err
	}
	if r.IfName != ifname {
		return Record{}, fmt.Errorf("it is the record of link %q, and its file has another name", r.IfName)
	}
	return r, nil
}

// Lock locks a pod's records and returns the function that unlocks them. Where there is no
// namespace to lock, the lock keeps two plugins from removing the pod's state at the same
// time, and from removing it during an ADD. A pod without records has at most one
// attachment and needs no lock: then unlock is nil.
func (s Set) Lock(pod string) (unlock func(), err error) {
	dir, err := unix.Open(s.path(pod, ""), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // Read reports a path that isn't a directory
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("records: lock %s: %w", s.path(pod, ""), err)
	}
	if err := netns.Lock(dir, unix.LOCK_EX); err != nil {
		_ = unix.Close(dir)
		return nil, fmt.Errorf("records: %w", err)
	}
	return func() { _ = unix.Close(dir) }, nil
}

// Hold takes the same lock for an ADD that has just written its record: a plugin that
// removes the recorded state waits until ADD has made all of it. It returns an error if the
// record is gone: then the attachment was deleted meanwhile.
func (s Set) Hold(pod, ifname string) (unlock func(), err error) {
	if unlock, err = s.Lock(pod); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(s.path(pod, ifname)); err != nil {
		if unlock != nil {
			unlock()
		}
		return nil, fmt.Errorf("record: %w", err)
	}
	return unlock, nil
}

// Disown removes an address from an attachment's record, as far as the node leads to it by
// that device and MAC: by these DEL couldn't tell it from what its next owner has. It is
// no error if there is no such record.
func (s Set) Disown(pod, ifname string, addr netip.Addr, device, mac string) error {
	unlock, err := s.Lock(pod)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	r, err := s.ReadOne(pod, ifname)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	disown := func(r *Record) {
		if r.Device == device && r.MAC == mac {
			r.Addresses = slices.DeleteFunc(r.Addresses, func(a netip.Addr) bool { return a == addr })
		}
	}
	disown(&r)
	for i := range r.Former {
		disown(&r.Former[i])
	}
	return s.Write(pod, r)
}

// Remove removes the record of an attachment, and the pod's directory after the last
// record. It is no error if there is no record. A directory at the record's path stays, and
// so does everything in a directory to which others than root have access.
func (s Set) Remove(pod, ifname string) error {
	if privateDirs(s.dirs(pod)...) != nil {
		return nil //nolint:nilerr // the directory isn't there, or isn't ours
	}
	path := s.path(pod, ifname)
	info, err := os.Lstat(path)
	if err == nil && !info.IsDir() {
		err = os.Remove(path)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = s.sweep(pod, ifname)
	}
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}
