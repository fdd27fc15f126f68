// SPDX-License-Identifier: Apache-2.0

package nettest

import (
	"os"
	"os/exec"
	"testing"
)

func TestMachineHasItsOwnRun(t *testing.T) {
	const file = "/run/nettest-machine"
	a, err := NewMachine("a")
	check(t, err)
	defer a.Close()
	b, err := NewMachine("b")
	check(t, err)
	defer b.Close()

	outside := netnsID(t)
	check(t, a.Run(func() error {
		if netnsID(t) == outside {
			t.Error("Run did not enter the network namespace")
		}
		return exec.Command("touch", file).Run()
	}))
	check(t, a.Run(func() error { _, err := os.Stat(file); return err }))
	if err := b.Run(func() error { _, err := os.Stat(file); return err }); !os.IsNotExist(err) {
		t.Errorf("b sees the /run of a: %v", err)
	}
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("the /run of a is seen outside: %v", err)
	}
	if netnsID(t) != outside {
		t.Error("the thread did not return")
	}
}
