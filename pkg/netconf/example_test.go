// SPDX-License-Identifier: Apache-2.0

package netconf_test

import (
	"fmt"

	"github.com/multihome/multihome/pkg/netconf"
)

func Example() {
	c, faults := netconf.Decode([]byte(`{"metadata": {"name": "lan"}, "spec": {"cniType": "macvlan", "macvlan": {"master": ["ens192"], "vlanID": 4095}}}`))
	for _, f := range append(faults, c.Validate()...) {
		fmt.Println(f)
	}
	*c.Spec.Macvlan.VLANID = 100
	fmt.Println(c.Render().Config)
	// Output:
	// spec.macvlan.vlanID: 4095: want a number from 0 to 4094
	// {"cniVersion":"0.3.1","name":"lan","plugins":[{"vlanID":100,"type":"ifacer","interfaces":["ens192"]},{"type":"macvlan","master":"ens192.100","mode":"bridge","ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}
}
