// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"testing"
	"time"

	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/testbed"
)

// TestLocksOfTwo: one plugin has a link's lock and wants the node's for itself,
// which waits for the other plugin, which waits for the link.
func TestLocksOfTwo(t *testing.T) {
	node, err := testbed.NewMachine("node")
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	plugin := func(f func(k *kernel.Namespaces) error) chan error {
		done := make(chan error, 1)
		go func() {
			done <- node.Run(func() error {
				k, err := kernel.OpenHost()
				if err != nil {
					return err
				}
				defer k.Close()
				if err := k.LockHost(false); err != nil {
					return err
				}
				return f(k)
			})
		}()
		return done
	}
	hasLink, hasNode := make(chan struct{}), make(chan struct{})
	one := plugin(func(k *kernel.Namespaces) error {
		if err := k.LockLinks("link"); err != nil {
			return err
		}
		close(hasLink)
		<-hasNode
		return k.LockHost(true)
	})
	<-hasLink
	other := plugin(func(k *kernel.Namespaces) error {
		close(hasNode)
		return k.LockLinks("link")
	})
	for _, done := range []chan error{one, other} {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Minute):
			t.Fatal("they wait for each other")
		}
	}
}
