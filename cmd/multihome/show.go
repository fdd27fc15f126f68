// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/show"
)

func showCommand() *cobra.Command {
	var format string
	var cacheDirs []string
	c := &cobra.Command{
		Use:   "show [POD]",
		Short: "Show a pod's NICs, rules and routes, and how the node reaches it",
		Long: `Show the networks of a pod, in the pod and on its node: NICs with their addresses
and parents, rules, routing tables, neighbours and the marks of netfilter, each with
its purpose. Objects that multihome made have a + (and a colour, on a terminal).

POD is a path or name of a network namespace, the ID of a process in it, or a
container ID or the beginning of one. Without POD, show lists the pods of the node.

With -o svg or dot, show draws a picture: LANs, node and pod, the links between them,
and the tables that rules lead to. It goes to standard output.`,
		Example: `  multihome show                            # which pods there are
  multihome show 4b5e57f6                   # one of them, by its container
  multihome show $(pidof nginx) -o yaml
  multihome show 4b5e57f6 -o svg > pod.svg  # for a browser
  multihome show 4b5e57f6 -o dot | dot -Tpdf > pod.pdf`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completePods,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				if isPicture(format) {
					return fmt.Errorf("show: -o %s is for one pod; name it", format)
				}
				return report.Write(c.OutOrStdout(), format, show.ListOf(inspect.Pods(cacheDirs)))
			}
			if f, ok := c.OutOrStdout().(*os.File); ok && format == "svg" && term.IsTerminal(int(f.Fd())) {
				return fmt.Errorf("show: a terminal can't show svg; redirect it to a file: multihome show %s -o svg > pod.svg", args[0])
			}
			pod, err := inspect.Find(args[0], cacheDirs)
			if err != nil {
				return fmt.Errorf("show: %w", err)
			}
			state, err := pod.Read()
			if err != nil {
				return fmt.Errorf("show: %w", err)
			}
			return writeView(c.OutOrStdout(), format, show.Of(pod, state))
		},
	}
	outputFlag(c, &format, pictures...)
	cacheFlag(c, &cacheDirs)
	return c
}

// pictures lists the formats that are pictures, in addition to those of report.Write.
var pictures = []string{"svg", "dot"}

func isPicture(format string) bool { return slices.Contains(pictures, format) }

// writeView writes a view in one of the formats of report.Write, or as a picture.
func writeView(w io.Writer, format string, v show.View) error {
	switch format {
	case "svg":
		return v.Picture().WriteSVG(w)
	case "dot":
		return v.WriteDot(w)
	}
	return report.Write(w, format, v)
}
