// SPDX-License-Identifier: Apache-2.0

package netstate

import "fmt"

// Sysctl is a setting of a link: net.ipv4.conf.<dev>.<name> or its IPv6 twin.
// Dev may also be "all".
type Sysctl struct {
	Family Family
	Dev    string
	Name   string
	Value  int
}

func (s Sysctl) Kind() Kind  { return KindSysctl }
func (s Sysctl) Key() Object { return Sysctl{Family: s.Family, Dev: s.Dev, Name: s.Name} }

func (s Sysctl) Device() string {
	if s.Dev == "all" {
		return ""
	}
	return s.Dev
}

// Owned returns false: a setting has no room for a mark.
func (s Sysctl) Owned() bool { return false }

// Path returns the file's path below /proc/sys. Slashes separate its parts, because
// a link's name may contain a dot.
func (s Sysctl) Path() string {
	return fmt.Sprintf("net/ipv%d/conf/%s/%s", s.Family, s.Dev, s.Name)
}

func (s Sysctl) String() string { return fmt.Sprintf("%s=%d", s.Path(), s.Value) }
