// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/explain"
	"github.com/multihome/multihome/pkg/report"
)

// explainFlags holds the flags that don't go into [explain.Options] unchanged.
type explainFlags struct {
	format, prevResult, snapshot     string
	given, addresses, gateways, node []string
}

func explainCommand() *cobra.Command {
	var o explain.Options
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain CONFLIST",
		Short: "Show what ADD of a network would do, command by command, without doing it",
		Long: `Explain prints the operations that ADD would do for a pod, and does none of them.
Each is a command for a shell on the node, with its reason. The text is a shell script.
CONFLIST is a file with a list of plugins, a single plugin, or a
NetworkAttachmentDefinition; - is standard input. Explain runs no plugins of others.

With --netns, the pod is a pod of this node that has the NIC already. If it lacks
nothing, there are no operations.

Without --netns, flags or a snapshot describe the pod. A snapshot is a file with a line
for each object, such as

  host: link ens192 address 00:50:56:b4:3c:82 mtu 1500 up
  host: addr 10.6.168.123/16 dev ens192
  pod: link eth0 address 02:00:00:00:00:aa mtu 1500 up type macvlan
  pod: addr 10.6.168.171/16 dev eth0
  pod: route default via 10.6.0.1 dev eth0
  pod: -6 rule pref 1000 from all lookup 500

Explain makes assumptions for all that the description leaves open, and names them: it
takes the NIC's address from the configuration of host-local, static or whereabouts,
the first one there. A described pod needs neither root nor the node.

Keys of coordinator and veth that the network lacks have the node's values, if its file
/etc/cni/multihome/coordinator.json has some, and explain says which. For a described
pod explain doesn't read that file: name one with --node-defaults.`,
		Example: `  multihome explain underlay.conflist
  multihome explain underlay.conflist --address 10.6.168.171/16 --gateway 10.6.0.1
  multihome explain vlan.conflist --given 'host: link ens192 mtu 9000 up' --ifname net1 --address 10.7.0.5/16
  multihome explain underlay.conflist --netns cni-1f0c2d34-... --ifname eth0
  kubectl get net-attach-def macvlan-ens192 -o yaml | multihome explain - --address 10.6.168.171/16 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeConflist,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := runExplain(c.InOrStdin(), args[0], f, o)
			if err != nil {
				return fmt.Errorf("explain: %w", err)
			}
			return report.Write(c.OutOrStdout(), f.format, r)
		},
	}
	outputFlag(c, &f.format)
	cacheFlag(c, &o.CacheDirs)
	flags := c.Flags()
	flags.StringVar(&o.Netns, "netns", "", "a pod of this node: name or path of its network namespace, ID of a process in it, or container ID")
	flags.StringVar(&o.IfName, "ifname", "eth0", "the NIC's name in the pod")
	flags.StringVar(&o.ContainerID, "container-id", "", "ID of the pod's sandbox; names and MACs of links are derived from it")
	flags.StringVar(&f.prevResult, "prev-result", "", "file with the result of the plugins before ours, to use instead of the known one")
	flags.StringVar(&o.NodeDefaults, "node-defaults", "", "file of the node's defaults; for a pod of this node, its own if this is empty")
	flags.StringVar(&f.snapshot, "snapshot", "", "file that describes the pod and its node")
	flags.StringArrayVar(&f.given, "given", nil, "a line of a snapshot; may be repeated")
	flags.StringSliceVar(&f.addresses, "address", nil, "address of the NIC, with its prefix length")
	flags.StringSliceVar(&f.gateways, "gateway", nil, "gateway of the NIC")
	flags.StringSliceVar(&f.node, "node-address", nil, "address by which the pod reaches its node")
	for _, described := range []string{"snapshot", "given", "address", "gateway", "node-address"} {
		c.MarkFlagsMutuallyExclusive("netns", described)
	}
	_ = c.RegisterFlagCompletionFunc("netns", func(c *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return completePods(c, nil, word) // fails for an unknown flag
	})
	return c
}

// completeConflist completes the names of files that hold networks.
func completeConflist(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return []cobra.Completion{"conflist", "conf", "json", "yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

// runExplain reads the files and flags, and explains a network.
func runExplain(stdin io.Reader, network string, f explainFlags, o explain.Options) (r *explain.Report, err error) {
	if o.Network, err = readInput(network, stdin); err != nil {
		return nil, err
	}
	if f.prevResult != "" {
		if o.PrevResult, err = os.ReadFile(f.prevResult); err != nil {
			return nil, err
		}
	}
	if o.Given, err = f.lines(); err != nil {
		return nil, err
	}
	if o.Addresses, err = parseAll("address", f.addresses, netip.ParsePrefix); err != nil {
		return nil, err
	}
	if o.Gateways, err = parseAll("gateway", f.gateways, netip.ParseAddr); err != nil {
		return nil, err
	}
	if o.NodeAddresses, err = parseAll("node-address", f.node, netip.ParseAddr); err != nil {
		return nil, err
	}
	return explain.Explain(o)
}

// lines returns the lines of the snapshot file, followed by those of --given. It leaves
// out the file's empty lines and its comments, which begin with #.
func (f explainFlags) lines() ([]string, error) {
	var out []string
	if f.snapshot != "" {
		text, err := os.ReadFile(f.snapshot)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
	}
	return append(out, f.given...), nil
}

// parseAll parses the values of a flag.
func parseAll[T any](flag string, values []string, parse func(string) (T, error)) ([]T, error) {
	var out []T
	for _, value := range values {
		v, err := parse(value)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		out = append(out, v)
	}
	return out, nil
}
