// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// files watches directories by inotify(7).
type files struct {
	fd   int
	dirs map[string]int // watch descriptors
	name map[int]string
}

func openFiles() (*files, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w", err)
	}
	return &files{fd, map[string]int{}, map[int]string{}}, nil
}

func (f *files) add(dir string) error {
	if _, ok := f.dirs[dir]; ok {
		return nil
	}
	wd, err := unix.InotifyAddWatch(f.fd, dir, unix.IN_CLOSE_WRITE|unix.IN_MOVED_TO|unix.IN_MOVED_FROM|unix.IN_DELETE|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_ONLYDIR)
	if err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	f.dirs[dir], f.name[wd] = wd, dir
	return nil
}

// read notes an event for each directory in which something changed.
func (f *files) read(buf []byte, note func(Event)) {
	changed := map[string]bool{}
	for {
		n, err := unix.Read(f.fd, buf)
		if n <= 0 || err != nil {
			break
		}
		// struct inotify_event: wd, mask, cookie, length of the name; the name.
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			wd, mask := int(int32(binary.NativeEndian.Uint32(b))), binary.NativeEndian.Uint32(b[4:])
			if mask&unix.IN_Q_OVERFLOW != 0 {
				for dir := range f.dirs {
					changed[dir] = true
				}
			}
			if dir, ok := f.name[wd]; ok {
				changed[dir] = true
				if mask&(unix.IN_IGNORED|unix.IN_MOVE_SELF) != 0 { // the path may lead elsewhere by now
					delete(f.name, wd)
					delete(f.dirs, dir)
				}
			}
			b = b[min(len(b), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(b[12:]))):]
		}
	}
	for dir := range changed {
		note(Event{Netns: Node, Kind: File, Name: dir})
	}
}
