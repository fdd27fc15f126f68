// SPDX-License-Identifier: Apache-2.0

package attachment_test

import (
	"fmt"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/netstate"
)

func Example() {
	a := attachment.Attachment{Network: "lan", ContainerID: "0123abcd", IfName: "eth0"}
	fmt.Println(a.Alias())
	fmt.Println(attachment.HostEnd(a.ContainerID), attachment.EndMAC(netstate.Host, a.ContainerID))
	b, ours := attachment.ParseAlias(a.Alias())
	fmt.Println(ours, a.Same(b))
	// Output:
	// multihome:lan/0123abcd/eth0
	// veth88fb52f560b 5e:68:4e:aa:36:5e
	// true true
}
