// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/multihome/multihome/pkg/spool"
)

// TestConflict: only an address that a sandbox has from the spool is noted, once for each NIC,
// with the latest answer.
func TestConflict(t *testing.T) {
	d, err := spool.MakeDir(filepath.Join(t.TempDir(), "run", "ipam"))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	v4 := spool.Address{Address: netip.MustParsePrefix("10.6.0.5/16"), Space: "vlan100", Pool: "lan"}
	v6 := spool.Address{Address: netip.MustParsePrefix("fd00:6::5/64"), Space: "vlan100", Pool: "lan6"}
	for _, c := range []string{"c1", "c2"} { // the runtime made the sandbox again
		w := spool.Want{Namespace: "default", Pod: "web-1", UID: "u", ContainerID: c, Interface: "eth0", Call: "1", Network: "lan"}
		if err := spool.PutReady(d, spool.Ready{Boot: "b"}); err != nil {
			t.Fatal(err)
		}
		nic := spool.NIC{Interface: "eth0", Network: "lan", Addresses: []spool.Address{v4, v6}}
		if err := spool.PutPod(d, spool.Pod{UID: "u", NICs: []spool.NIC{nic}}); err != nil {
			t.Fatal(err)
		}
		if _, err := spool.Add(d, spool.Call{Want: w, Boot: "b"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	note := func(c, nic, addr string) error {
		return spool.NoteConflict(d, spool.Attachment{ContainerID: c, Interface: nic}, netip.MustParseAddr(addr), "02:00:00:00:00:09", at)
	}
	for _, x := range []struct{ c, nic, addr string }{{"c1", "eth0", "10.6.0.6"}, {"c1", "net1", "10.6.0.5"}, {"c", "eth0", "10.6.0.5"}} {
		if err := note(x.c, x.nic, x.addr); !errors.Is(err, spool.ErrNotServed) {
			t.Errorf("%v: %v", x, err)
		}
	}
	for _, x := range []struct{ c, addr string }{{"c1", "10.6.0.5"}, {"c2", "10.6.0.5"}, {"c2", "fd00:6::5"}} {
		if err := note(x.c, "eth0", x.addr); err != nil {
			t.Errorf("%v: %v", x, err)
		}
	}
	got, err := spool.Conflicts(d)
	if err != nil {
		t.Fatal(err)
	}
	want := []spool.Conflict{
		{Namespace: "default", Pod: "web-1", UID: "u", ContainerID: "c2", Interface: "eth0", Address: v4, MAC: "02:00:00:00:00:09", At: at},
		{Namespace: "default", Pod: "web-1", UID: "u", ContainerID: "c2", Interface: "eth0", Address: v6, MAC: "02:00:00:00:00:09", At: at},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got[1].File() != "conflicts/u:eth0:fd00-0006-0000-0000-0000-0000-0000-0005" {
		t.Error(got[1].File())
	}
}
