// SPDX-License-Identifier: Apache-2.0

package neighbours_test

import (
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/multihome/multihome/pkg/neighbours"
	"github.com/multihome/multihome/pkg/netstate"
)

// Does anybody on the link with index 7 have 10.6.0.5?
func Example() {
	mac, err := netstate.ParseMAC("02:00:00:00:00:01") // of that link
	if err != nil {
		log.Fatal(err)
	}
	w, err := neighbours.Open(7, mac)
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	how := neighbours.Probe{Tries: 3, Interval: 50 * time.Millisecond, Timeout: 200 * time.Millisecond}
	found, conflict, err := w.Conflict([]netip.Addr{netip.MustParseAddr("10.6.0.5")}, []netstate.MAC{mac}, how)
	fmt.Println(found, conflict, err)
}
