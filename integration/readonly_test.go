// SPDX-License-Identifier: Apache-2.0

package integration

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestReadOnlySysctls runs plugins where /proc/sys can't be written, as in a container: they
// write settings through a procfs of their own.
func TestReadOnlySysctls(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]fixture.Keys{"veth": nil, "macvlan": {"hostLink": "macvlan"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := fixture.NewStage(t, lab.Ens192())
			readOnly := func(is bool) {
				t.Helper()
				err := s.Node.Run(func() error {
					if !is {
						return unix.Unmount("/proc/sys", 0)
					}
					if err := unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""); err != nil {
						return err
					}
					return unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			readOnly(true)
			err := s.Node.Run(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
			if !errors.Is(err, unix.EROFS) {
				t.Fatalf("a write to /proc/sys: %v", err)
			}
			s.WebNIC.Call("ADD", keys).Fine(t)
			s.WebNIC.Call("CHECK", keys).Fine(t)
			readOnly(false)
			s.WebNIC.Call("CHECK", keys).Fine(t)
			readOnly(true)
			s.WebNIC.Call("ADD", keys).Fine(t) // there is nothing to write
			s.WebNIC.Call("DEL", keys).Fine(t)
		})
	}
}
