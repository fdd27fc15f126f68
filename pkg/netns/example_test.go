// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"errors"
	"fmt"
	"log"
	"net"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netns"
)

// The links of another namespace.
func Example() {
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		log.Fatal(err)
	}
	pod, err := netns.Open("/run/netns/pod")
	if err != nil {
		log.Fatal(err)
	}
	_, err = netns.Within(pod, home, func() error {
		links, err := net.Interfaces()
		fmt.Println(links)
		return err
	})
	fmt.Println(err)
}

// What is no network namespace is told from one that can't be opened.
func ExampleOpen() {
	_, err := netns.Open("/etc/hostname")
	fmt.Println(errors.Is(err, netns.ErrNone))
	// Output: true
}
