// SPDX-License-Identifier: Apache-2.0

package rtnetlink_test

import (
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/rtnetlink"
)

// All links with their indexes.
func Example() {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, netlink.NewBuffers())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	links, err := netlink.Dump(c, rtnetlink.LinkRequest(""), func(msg []byte) (rtnetlink.Link, bool) {
		return rtnetlink.DecodeLink(msg), true
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, l := range links {
		fmt.Println(l.Index, l.Link)
	}
}
