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

// setting is a line key=value, below its [section], of a configuration file in the
// format of systemd.syntax(7) and of GLib's key files.
type setting struct{ section, key, value string }

// settings reads the files in turn. It takes a missing file for an empty one.
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

// last returns the last value of a key, which is the one that counts, or byDefault if
// the key isn't set.
func last(list []setting, section, key, byDefault string) string {
	for _, s := range list {
		if s.section == section && s.key == key {
			byDefault = s.value
		}
	}
	return byDefault
}

// dropIns returns the files in the directories whose names end in suffix, sorted by
// name. A file hides files of the same name in later directories. A link to /dev/null
// hides them too, and is left out itself.
func dropIns(suffix string, dirs ...string) []string {
	byName := map[string]string{}
	for _, dir := range slices.Backward(dirs) {
		entries, _ := os.ReadDir(dir) // most don't exist
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

// firstOf returns the first file that exists, "" if none does.
func firstOf(files ...string) string {
	for _, f := range files {
		if _, err := os.Stat(f); err == nil {
			return f
		}
	}
	return ""
}

// neighbourEntries returns the number of entries of a neighbour table: the first column
// of the second line of a file in /proc/net/stat, in hexadecimal (neigh_stat_seq_show in
// net/core/neighbour.c). It counts all network namespaces.
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
