// SPDX-License-Identifier: Apache-2.0

package netlink_test

import (
	"fmt"
	"log"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
)

// The names of all links.
func Example() {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, netlink.NewBuffers())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	req := netlink.NewRequest(unix.RTM_GETLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC))
	names, err := netlink.Dump(c, req, func(msg []byte) (name string, ok bool) {
		netlink.Attrs(msg[unix.SizeofIfInfomsg:], func(typ uint16, value []byte) {
			if typ == unix.IFLA_IFNAME {
				name, ok = unix.ByteSliceToString(value), true
			}
		})
		return name, ok
	})
	fmt.Println(names, err)
}
