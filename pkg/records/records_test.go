// SPDX-License-Identifier: Apache-2.0

package records

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/multihome/multihome/pkg/testbed"
)

// TestRecordsOfOnePodAtOnce: attachments of one pod may come and go at the same
// time, while others read which there are. With the last one the pod's directory goes, and the next one makes it
// anew.
func TestRecordsOfOnePodAtOnce(t *testing.T) {
	const nics, rounds = 8, 200
	m, err := testbed.NewMachine("node")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = m.Run(func() error { // as a process leaves it that is killed while it writes
		f, err := create(NodeRoutes.path("killed", unfinished+"net1"), NodeRoutes.dirs("killed")...)
		if err != nil {
			return err
		}
		return errors.Join(f.Close(), NodeRoutes.Remove("killed", "net1"))
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range nics {
		wg.Go(func() {
			nic := fmt.Sprint("net", i)
			err := m.Run(func() error {
				for range rounds {
					if err := NodeRoutes.Write("pod", Record{IfName: nic}); err != nil {
						return err
					}
					if _, err := NodeRoutes.Read(""); err != nil {
						return err
					}
					if err := NodeRoutes.Remove("pod", nic); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	err = m.Run(func() error {
		left, err := os.ReadDir(NodeRoutes.path("", ""))
		if len(left) > 0 {
			t.Errorf("%s is left", left)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSpoolIsNoRecord: the spool of multihome-ipam and the agents' lock lie beside the records, and
// nobody takes them for a pod's.
func TestSpoolIsNoRecord(t *testing.T) {
	m, err := testbed.NewMachine("node")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = m.Run(func() error {
		if err := MakeDirs(Dir, Dir+"/ipam", Dir+"/ipam/pods"); err != nil {
			return err
		}
		if err := os.WriteFile(Dir+"/ipam.lock", nil, 0o600); err != nil {
			return err
		}
		if list, err := NodeRoutes.Read(""); len(list) > 0 || err != nil {
			t.Errorf("%v, %v: want no records", list, err)
		}
		if err := NodeRoutes.Sweep(); err != nil {
			t.Error(err)
		}
		_, err := os.Stat(Dir + "/ipam/pods")
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// FuzzRecord reads whatever may be in a record's file: it is refused, or reads the
// same after it was written again.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		`{"Network":"lan","ContainerID":"web","IfName":"net1","Netns":{"Path":"/run/netns/a","Inode":4026532000},"Addresses":["10.6.0.5","fd00::5"],"Table":500,"Device":"ens192.host","MAC":"02:00:00:00:00:01"}`,
		`{"IfName":"net1","Links":["bond0"],"RemoveUnused":["bond0"],"Node":["10.6.0.1"]}`,
		`{"IfName":"net1","Addresses":["10.6.0.5%eth0"]}`, `{"ifname":"net1"}`, `[]`, `null`, `{}`, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data, "net1")
		if err != nil {
			if r.IfName != "" || r.Addresses != nil {
				t.Errorf("refused with %v, and read as %+v", err, r)
			}
			return
		}
		written, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRecord(written, "net1")
		if err != nil {
			t.Fatalf("%s reads as %+v, which is written as %s: %v", data, r, written, err)
		}
		if twice, err := json.Marshal(again); err != nil || string(twice) != string(written) {
			t.Errorf("%s is written as %s, and then as %s (%v)", data, written, twice, err)
		}
	})
}
