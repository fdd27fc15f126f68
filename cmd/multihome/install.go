// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/install"
)

func installCommand() *cobra.Command {
	var from, to, etc string
	var software []string
	c := &cobra.Command{
		Use:   "install",
		Short: "Copy the plugins to the node's CNI directory, and drop-ins to its /etc",
		Long: `Install copies the plugins to the node's CNI directory, and drop-ins for other
software of the node to its /etc. It replaces a file atomically, and only if the
file differs; it touches nothing else in these directories. You have to restart
the software yourself, or make it read its configuration again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if from == "" {
				self, err := os.Executable()
				if err != nil {
					return fmt.Errorf("install: %w", err)
				}
				from = filepath.Dir(self)
			}
			plugins, err := install.Plugins(from, to)
			if err != nil {
				return fmt.Errorf("install: %w", err)
			}
			dropIns, err := install.DropIns(software, etc)
			if err != nil {
				return fmt.Errorf("install: %w", err)
			}
			err = install.Files(append(plugins, dropIns...), func(f install.File, changed bool) {
				state := "unchanged"
				if changed {
					state = "installed"
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", f.Path, state)
			})
			if err != nil {
				return fmt.Errorf("install: %w", err)
			}
			return nil
		},
	}
	c.Flags().StringVar(&from, "from", "", "directory of the plugins (default: the directory of this program)")
	c.Flags().StringVar(&to, "to", "/opt/cni/bin", "the node's CNI directory, which must be there")
	c.Flags().StringSliceVar(&software, "drop-ins", nil, "software to install drop-ins for: "+strings.Join(install.Software(), ", "))
	c.Flags().StringVar(&etc, "etc", "/etc", "the node's /etc")
	return c
}

// waitCommand returns the command for the main container of a DaemonSet whose init
// container installs the plugins. The pods of a DaemonSet must not end.
func waitCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "wait",
		Short:  "Do nothing until SIGTERM or SIGINT",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			<-c.Context().Done()
			return nil
		},
	}
}
