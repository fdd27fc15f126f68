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
		Short: "Give the living pods of this node back what they should have",
		Long: `Repair does for every living pod, or for one POD, what a repeated ADD would do:
after something else on the node flushed rules or tables, after the node got other
addresses, or after the configuration of a network in --conf-dir was changed. It goes
by the results that runtimes keep, and changes nothing on a healthy node.

What no attachment of a pod asks for any more goes, as long as it is known what each
of them asks for. A result or a configuration that can't be read is named, and the
exit status is 1.

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
					return fmt.Errorf("repair: pod %q: nobody noted what it should have: see --cache-dir", args[0])
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
	c.Flags().BoolVar(&o.DryRun, "dry-run", false, "print what would be done and change nothing")
	c.Flags().StringVar(&o.ConfDir, "conf-dir", "/etc/cni/net.d", "configurations that go before the cached ones")
	cacheFlag(c, &o.CacheDirs)
	return c
}
