// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/integration/guide"
)

// lanPool shows pods whose second NIC has an address of a pool: docs/addresses.md.
func (d *demo) lanPool(ctx context.Context) error {
	const example = "examples/addresses/lan.yaml"
	d.title("Addresses of a pool: docs/addresses.md")
	if err := d.do(ctx, "kubectl", "apply", "-f", example); err != nil {
		return err
	}
	web := client.MatchingLabels{"app": "web"}
	pods, err := d.podsOf(ctx, 3, web)
	if err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "get", "po", "-l", "app=web", "-o", "wide"); err != nil {
		return err
	}
	if err := d.show(ctx, guide.WebPool, "kubectl", "get", "sp"); err != nil {
		return err
	}
	if err := d.betweenPods(pods, "net1", "ens192"); err != nil {
		return err
	}
	if err := d.do(ctx, "kubectl", "delete", "-f", example); err != nil {
		return err
	}
	return d.nothingOut(ctx)
}
