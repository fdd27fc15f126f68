// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/install"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/nodeconf"
)

func installCommand() *cobra.Command {
	var from, to, etc string
	var software, services, pods []string
	c := &cobra.Command{
		Use:   "install",
		Short: "Copy the plugins to the node's CNI directory, and drop-ins to its /etc",
		Long: `Install copies the plugins to the node's CNI directory, and drop-ins for other
software of the node to its /etc. It replaces a file atomically, and only if the
file differs; it touches nothing else in these directories. spiderpool and static-ipam,
the other names of multihome-ipam, replace no program of others. You have to restart the
software yourself, or make it read its configuration again.

With --service-cidr and --overlay-pod-cidr it writes the cluster's CIDRs into the node's
file cni/multihome/coordinator.json in its /etc, from which coordinator and veth take them
for networks without such keys. Other keys of that file stay. Where the control plane's
agent runs, it writes the file itself.`,
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
			if err := installDefaults(c.OutOrStdout(), defaultsIn(etc), map[string][]string{"serviceCIDR": services, "overlayPodCIDR": pods}); err != nil {
				return fmt.Errorf("install: %w", err)
			}
			err = install.Files(append(plugins, dropIns...), func(f install.File, changed bool) {
				state := "unchanged"
				switch {
				case f.Other != "":
					state = "not installed, to leave what is there: " + f.Other
				case changed:
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
	c.Flags().StringSliceVar(&services, "service-cidr", nil, "CIDRs of the cluster's Services, for the node's defaults")
	c.Flags().StringSliceVar(&pods, "overlay-pod-cidr", nil, "CIDRs of the pods of the cluster's own network, for the node's defaults")
	return c
}

// defaultsIn returns the path of the node's defaults in its /etc.
func defaultsIn(etc string) string {
	return filepath.Join(etc, strings.TrimPrefix(nodeconf.Path, "/etc/"))
}

// installDefaults writes lists that aren't empty into the node's defaults.
func installDefaults(w io.Writer, path string, lists map[string][]string) error {
	set := map[string]json.RawMessage{}
	for key, list := range lists {
		if len(list) > 0 {
			text, err := json.Marshal(list)
			if err != nil {
				return err
			}
			set[key] = text
		}
	}
	if len(set) == 0 {
		return nil
	}
	own, err := kernel.NodeSubnets()
	if err != nil {
		return err
	}
	if err := install.Defaults(path, set, own); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: has the cluster's CIDRs\n", path)
	return nil
}

func uninstallCommand() *cobra.Command {
	var from, etc string
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove the plugins from the node's CNI directory",
		Long: `Uninstall removes the plugins from the node's CNI directory. It leaves programs of
others that have the name of one of ours. It doesn't remove drop-ins. It removes the node's
defaults (cni/multihome/coordinator.json in its /etc) if install made that file and nobody
has changed it since.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			err := install.Remove(from, func(path, other string) {
				state := "removed"
				if other != "" {
					state = "not removed: " + other
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", path, state)
			})
			if err != nil {
				return fmt.Errorf("uninstall: %w", err)
			}
			stays, removed, err := install.RemoveDefaults(defaultsIn(etc))
			switch {
			case err != nil:
				return fmt.Errorf("uninstall: %w", err)
			case removed:
				fmt.Fprintf(c.OutOrStdout(), "%s: removed\n", defaultsIn(etc))
			case stays:
				fmt.Fprintf(c.OutOrStdout(), "%s: not removed: install didn't make it, or somebody has changed it\n", defaultsIn(etc))
			}
			return nil
		},
	}
	c.Flags().StringVar(&from, "from", "/opt/cni/bin", "the node's CNI directory")
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
