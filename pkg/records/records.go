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

// Record is what the kernel has no room to note of an attachment. It is written
// before the state it is about, is removed after it, and lies on a tmpfs, so
// that it doesn't outlive that state either.
type Record struct {
	Network     string
	ContainerID string
	IfName      string
	Netns       netns.ID     `json:",omitzero"`
	Addresses   []netip.Addr // of the NIC
	Table       int          // of the node's routes to them
	Device      string       // of those routes; "": there are none
	MAC         string       // that the node sends to on Device
	Node        []netip.Addr `json:",omitempty"` // that the NIC has entries for, as neighbours

	// Proto marks what route made. Without it that was an earlier version, which had
	// the number of coordinator.
	Proto netstate.Protocol `json:",omitempty"`
	// Former is what this record is in place of, while it may still be there.
	Former []Record `json:",omitempty"`
	// MACs are those of the NIC before ADD and by it, where it was to change that.
	MACs *MACs `json:",omitempty"`

	Links        []string `json:",omitempty"` // of the node, that the attachment uses
	RemoveUnused []string `json:",omitempty"` // of these, those to go with the last attachment
}

// MACs are those of a link before a change and after it.
type MACs struct{ Before, After string }

// Has reports whether an address is one of the record's.
func (r Record) Has(a netip.Addr) bool { return slices.Contains(r.Addresses, a) }

// Dir is where everything is that has to outlive a process.
const Dir = "/run/multihome"

// Set is a set of records: a directory below /run/multihome that holds a
// directory for each pod, and in it a file for each attachment.
type Set string

// The sets there are. A container's ID doesn't begin with '.'.
const (
	NodeRoutes   Set = ""        // what the node has for a pod's NIC
	BridgeRoutes Set = ".routes" // the same, by a macvlan of the node's own, in table main
	LinkUsers    Set = ".users"  // what the node's links are used by
)

func (s Set) path(pod, ifname string) string {
	return filepath.Join(Dir, string(s), pod, ifname)
}

// dirs are those that lead to a pod's records, each in the one before.
func (s Set) dirs(pod string) []string {
	return []string{Dir, s.path("", ""), s.path(pod, "")}
}

// Write writes an attachment's record; pod is a name for its container that is fit
// for a file.
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

// unfinished is how the name of a file begins that is not written to its end; that of its
// attachment follows. No record is named so: with this, a name is longer than that of
// any link (IFNAMSIZ), which is what a record is named after.
const unfinished = ".half-written-of-"

// formerHalf is what half was before. A link may be named so.
const formerHalf = ".new-"

// isHalf reports whether a file is not written to its end, and of which attachment.
func (s Set) isHalf(pod, file string) (ifname string, is bool) {
	if ifname, is = strings.CutPrefix(file, unfinished); is {
		return ifname, true
	}
	if ifname, is = strings.CutPrefix(file, formerHalf); is {
		_, err := s.ReadOne(pod, file)
		is = err != nil // or else it is the record of a link of that name
	}
	return ifname, is
}

// writeWhole writes a file and its directories. A file that is renamed into place
// is there whole or not at all, and a link that somebody put there is replaced,
// not followed.
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

// create opens a file to be written anew in the last of these directories, and
// makes those. The last one goes with the record of the pod's last attachment,
// which may be now.
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

// Sweep removes what writers left that were killed. None may be at work.
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

// sweep removes what is half written for an attachment of a pod, or for all of them
// with "", and the pod's directory if nothing else is in it.
func (s Set) sweep(pod, ifname string) error {
	if privateDirs(s.dirs(pod)...) != nil {
		return nil //nolint:nilerr // there is none, or none of ours
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
		of, isHalf := s.isHalf(pod, f.Name())
		if !isHalf || ifname != "" && ifname != of {
			empty = false
		} else if err := os.Remove(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !empty {
		return nil
	}
	// Another attachment's writer or end may have been there in between.
	if err := os.Remove(dir); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// pods returns the names of those that have records.
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
		if d.Name()[0] != '.' { // or else another set
			out = append(out, d.Name())
		}
	}
	return out, nil
}

// Read returns the records of a pod, or of all pods with "". Files and
// directories that are no records, or not root's alone, are named in the error,
// which comes beside the others.
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
	if errors.Is(err, fs.ErrNotExist) { // it has gone just now
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("records: %w", err)
	}
	var out []Record
	var errs []error
	for _, f := range files {
		if _, is := s.isHalf(pod, f.Name()); is {
			continue // by a process that was killed
		}
		r, err := s.ReadOne(pod, f.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has gone just now, too
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, r)
	}
	return out, errors.Join(errs...)
}

// Earlier returns the record that an ADD writes one in place of, nil if there is none,
// or what is none. The error is that the node couldn't read it this time.
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

// ReadOne returns the record of an attachment. Most often there is none, which the
// first request tells.
func (s Set) ReadOne(pod, ifname string) (Record, error) {
	path := s.path(pod, ifname)
	data, err := readFile(path, unix.O_NOFOLLOW, 0o077)
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

// parseRecord reads a record, which is of the link that its file is named after.
func parseRecord(data []byte, ifname string) (Record, error) {
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, err
	}
	if r.IfName != ifname {
		return Record{}, fmt.Errorf("it is of link %q", r.IfName)
	}
	return r, nil
}

// Lock takes the lock of a pod's records, and returns what lets go of it: one at a
// time removes what a pod has, where there is no namespace to lock, and none beside
// an ADD. A pod without records has one attachment at most, and needs no lock: then
// unlock is nil.
func (s Set) Lock(pod string) (unlock func(), err error) {
	dir, err := unix.Open(s.path(pod, ""), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP): // Read says what is wrong with it
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

// Hold takes that lock for an ADD that has just written its record: who removes what
// that tells of has to wait until all is there. If the record is gone, its attachment
// was deleted in between.
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

// Disown removes an address from an attachment's record. It is no error if there is no
// such record.
func (s Set) Disown(pod, ifname string, addr netip.Addr) error {
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
	without := func(addrs []netip.Addr) []netip.Addr {
		return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a == addr })
	}
	r.Addresses = without(r.Addresses)
	for i := range r.Former {
		r.Former[i].Addresses = without(r.Former[i].Addresses)
	}
	return s.Write(pod, r)
}

// Remove removes an attachment's record, and the pod's directory with the
// last one. It is no error if there is none, nor if there is something of its name
// that can't be of ours: that stays.
func (s Set) Remove(pod, ifname string) error {
	if privateDirs(s.dirs(pod)...) != nil {
		return nil //nolint:nilerr // as above
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
