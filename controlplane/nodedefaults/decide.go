// SPDX-License-Identifier: Apache-2.0

package nodedefaults

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/coordinator/keys"
)

// Decide returns the content of the node's file, nil if the file is to stay as it is: nobody
// has looked for the cluster's CIDRs yet. own are the node's addresses with the lengths of
// their subnets. The error says why this node must not have these defaults, for example CIDRs
// that overlap its own subnet.
func Decide(c *v2beta1.SpiderCoordinator, own []netip.Prefix) (map[string]json.RawMessage, error) {
	if c.Status.Phase != v2beta1.Synced && len(c.Status.ServiceCIDR)+len(c.Status.OverlayPodCIDR) == 0 {
		return nil, nil
	}
	out := c.Spec.NodeDefaults(c.Status.ServiceCIDR, c.Status.OverlayPodCIDR)
	if err := keys.CheckNode(out, own); err != nil {
		return nil, fmt.Errorf("SpiderCoordinator %s: %w", c.Name, err)
	}
	return out, nil
}
