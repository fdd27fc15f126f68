// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// setting is a line of a configuration file in the manner of systemd(7) and of
// GLib's key files: [section], key=value.
type setting struct{ section, key, value string }

// settings reads the files in turn. One that isn't there is empty.
func settings(files ...string) (out []setting, err error) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		section := ""
		for line := range strings.Lines(string(data)) {
			line = strings.TrimSpace(line)
			if name, ok := strings.CutPrefix(line, "["); ok {
				section = strings.TrimSuffix(name, "]")
				continue
			}
			key, value, ok := strings.Cut(line, "=")
			if ok && line[0] != '#' && line[0] != ';' {
				out = append(out, setting{section, strings.TrimSpace(key), strings.TrimSpace(value)})
			}
		}
	}
	return out, nil
}

// last returns the value of a key that counts, or else what it is by default.
func last(list []setting, section, key, byDefault string) string {
	for _, s := range list {
		if s.section == section && s.key == key {
			byDefault = s.value
		}
	}
	return byDefault
}

// dropIns returns the files of directories whose names end so, in the order of their
// names. One of an earlier directory stands for all of its name, and a link to
// /dev/null for none.
func dropIns(suffix string, dirs ...string) []string {
	byName := map[string]string{}
	for _, dir := range slices.Backward(dirs) {
		entries, _ := os.ReadDir(dir) // most are not there
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), suffix) {
				byName[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if to, _ := os.Readlink(byName[name]); to != os.DevNull {
			out = append(out, byName[name])
		}
	}
	return out
}

// firstOf returns the first file that is there, "" if none is.
func firstOf(files ...string) string {
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// neighbourEntries reads the first column of the second line below /proc/net/stat:
// the entries of the whole table, in hexadecimal.
func neighbourEntries(name string) (int, error) {
	path := filepath.Join("/proc/net/stat", name)
	data, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	lines := strings.Split(string(data), "\n")
	if len(lines) < 2 || len(strings.Fields(lines[1])) == 0 {
		return 0, fmt.Errorf("%s: want a line of counters", path)
	}
	entries, err := strconv.ParseInt(strings.Fields(lines[1])[0], 16, 0)
	return int(entries), err
}
