// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/repair"
)

func repairCommand() *cobra.Command {
	var o repair.Options
	c := &cobra.Command{
		Use:   "repair [POD]",
		Short: "Restore the rules, routes and links of living pods of this node",
		Long: `Repair does for every living pod, or for one POD, what a repeated ADD would do. Use
it after other software flushed rules or tables, after the node's addresses changed,
or after you changed the configuration of a network in --conf-dir. Repair reads the
results that runtimes keep. It changes nothing on a healthy node.

Repair removes objects that no attachment of a pod asks for any more, but only if it
knows the plans of all of the pod's attachments. It names each result or configuration
that it can't read, and then exits with status 1.

POD is a container ID or the beginning of one, the name or path of a network
namespace, or the ID of a process in it.`,
		Example: `  multihome repair
  multihome repair 3f1c --dry-run`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completePods,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				pod, err := inspect.Find(args[0], o.CacheDirs)
				if err != nil {
					return fmt.Errorf("repair: %w", err)
				}
				if o.Only = pod.ContainerID; o.Only == "" {
					return fmt.Errorf("repair: pod %q: no record says what it should have: see --cache-dir", args[0])
				}
			}
			n := 0
			o.Did = func(a attachment.Attachment, op netstate.Op) {
				n++
				fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s\n", a.ContainerID, a.IfName, op)
			}
			err := repair.Run(o)
			switch {
			case n == 0 && err == nil:
				fmt.Fprintln(cmd.OutOrStdout(), "nothing to repair")
			case o.DryRun:
				fmt.Fprintf(cmd.OutOrStdout(), "%d to be done\n", n)
			}
			return err
		},
	}
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "print the operations and change nothing")
	c.Flags().StringVar(&o.ConfDir, "conf-dir", "/etc/cni/net.d", "directory of the node's configurations, which take precedence over cached ones")
	cacheFlag(c, &o.CacheDirs)
	return c
}
