// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/doctor"
	"github.com/multihome/multihome/pkg/report"
)

// errFindings ends the program with exit status 1, and without a word: the findings
// are printed.
var errFindings = errors.New("there are findings")

func doctorCommand() *cobra.Command {
	var o doctor.Options
	var format, root string
	c := &cobra.Command{
		Use:   "doctor [POD]",
		Short: "Say what keeps pods of this node from working, why, and what mends it",
		Long: `Doctor looks at the node and all of its pods that have to do with this suite, or
at one POD: settings of the kernel, firewalls, kube-proxy, software that takes
away what the plugins make, leftovers of dead pods, and what living ones lack.
docs/doctor.md lists what it finds.

It changes nothing. With --fix it mends what is ours: it removes what dead pods
left, and gives living ones back what ADD made, as multihome repair does.

POD is a container ID or the beginning of one, the name or path of a network
namespace, or the ID of a process in it.

In a container it wants the node's network namespace, its processes (hostPID)
and its file system at --root, as kubectl debug node/NODE --profile=sysadmin has
them at /host.

Exit status: 0 if there is nothing to mend, notes aside; 1 if there is; 2 if
something could not be looked at, and nothing else was found.`,
		Example: `  multihome doctor
  multihome doctor 3f1c -o yaml
  multihome doctor --fix`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completePods,
		Annotations:       map[string]string{errorStatus: "2"},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Pod = args[0]
			}
			if err := enter(root); err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			r, err := doctor.Examine(o)
			if err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			if err := report.Write(c.OutOrStdout(), format, r); err != nil {
				return fmt.Errorf("doctor: %w", err)
			}
			switch {
			case !r.Healthy():
				return errFindings
			case len(r.Unseen) > 0:
				return errors.New("doctor: not all could be looked at")
			}
			return nil
		},
	}
	outputFlag(c, &format)
	cacheFlag(c, &o.CacheDirs)
	c.Flags().StringVar(&o.ConfDir, "conf-dir", doctor.ConfDir, "configurations of the node, which go before the cached ones")
	c.Flags().BoolVar(&o.Fix, "fix", false, "mend what is ours")
	c.Flags().StringVar(&root, "root", "/", "where the node's file system is")
	return c
}

// enter makes a directory the root of all paths.
func enter(root string) error {
	if root == "/" {
		return nil
	}
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("root %s: %w", root, err)
	}
	return os.Chdir("/")
}
