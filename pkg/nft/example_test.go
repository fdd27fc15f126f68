// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/multihome/multihome/pkg/netlink"
	"github.com/multihome/multihome/pkg/nft"
)

// All tables of the calling thread's network namespace, and their chains.
func Example() {
	c, err := nft.Dial(netlink.NewBuffers())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	tables, err := c.Tables()
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range tables {
		chains, err := c.Chains(t)
		fmt.Println(t.Name, chains, err)
	}
}

// Two expressions are the same as far as the second one says.
func ExampleExpression_Is() {
	mark := nft.Meta(unix.NFT_META_MARK)
	fmt.Println(mark.Is(nft.Meta(unix.NFT_META_MARK)), mark.Is(nft.Meta(unix.NFT_META_IIFNAME)))
	// Output: true false
}
