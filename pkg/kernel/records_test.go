// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/multihome/multihome/pkg/nettest"
)

// TestRecordsOfOnePodAtOnce: attachments of one pod may come and go at the same
// time. With the last one the pod's directory goes, and the next one makes it
// anew.
func TestRecordsOfOnePodAtOnce(t *testing.T) {
	const nics, rounds = 8, 200
	m, err := nettest.NewMachine("node")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	err = m.Run(func() error { // as a process leaves it that is killed while it writes
		f, err := create(NodeRoutes.unfinished("killed", "net1"))
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
					if _, err := NodeRoutes.Write("pod", Record{IfName: nic}); err != nil {
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
