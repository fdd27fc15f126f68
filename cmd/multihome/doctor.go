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

// errFindings ends the program with exit status 1 and without a message, because the
// findings are printed already.
var errFindings = errors.New("there are findings")

func doctorCommand() *cobra.Command {
	var o doctor.Options
	var format, root string
	c := &cobra.Command{
		Use:   "doctor [POD]",
		Short: "Find the reasons why pods of this node don't work, and say how to fix them",
		Long: `Doctor examines the node and all of its pods that this suite attached, or one
POD. It looks at settings of the kernel, firewalls, kube-proxy, software that
removes objects of the plugins, leftovers of dead pods, and objects that living
pods lack. docs/doctor.md lists all findings.

It changes nothing. With --fix it fixes what is ours: it removes leftovers of dead
pods, and restores in living pods the objects that ADD made, as multihome repair
does.

POD is a container ID or the beginning of one, the name or path of a network
namespace, or the ID of a process in it.

In a container, doctor needs the node's network namespace, its processes (hostPID)
and its file system at --root. kubectl debug node/NODE --profile=sysadmin gives it
these, with the file system at /host.

Exit status: 0 if there are no findings but notes; 1 if there are problems or
warnings; 2 if a check could not be made, and nothing else was found.`,
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
				return errors.New("doctor: some checks could not be made")
			}
			return nil
		},
	}
	outputFlag(c, &format)
	cacheFlag(c, &o.CacheDirs)
	c.Flags().StringVar(&o.ConfDir, "conf-dir", doctor.ConfDir, "directory of the node's configurations, which take precedence over cached ones")
	c.Flags().BoolVar(&o.Fix, "fix", false, "fix what is ours")
	c.Flags().StringVar(&root, "root", "/", "path of the node's file system")
	return c
}

// enter makes a directory the root of all paths (chroot(2)).
func enter(root string) error {
	if root == "/" {
		return nil
	}
	if err := syscall.Chroot(root); err != nil {
		return fmt.Errorf("root %s: %w", root, err)
	}
	return os.Chdir("/")
}
