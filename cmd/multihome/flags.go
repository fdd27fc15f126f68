// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/report"
)

// outputFlag adds -o to a command that prints a result. It allows the formats of
// [report.Write] and some more.
func outputFlag(c *cobra.Command, format *string, more ...string) {
	formats := slices.Concat(report.Formats, more)
	*format = formats[0]
	c.Flags().VarP(choice{format, formats}, "output", "o", "one of "+strings.Join(formats, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag
}

// choice is the value of a flag that takes one of several words.
type choice struct {
	value *string
	among []string
}

func (c choice) Type() string   { return "format" }
func (c choice) String() string { return *c.value }

func (c choice) Set(word string) error {
	if !slices.Contains(c.among, word) {
		return fmt.Errorf("want one of %s", strings.Join(c.among, ", "))
	}
	*c.value = word
	return nil
}

// cacheFlag adds --cache-dir, the directories in which runtimes keep the results of
// plugins.
func cacheFlag(c *cobra.Command, dirs *[]string) {
	c.Flags().StringSliceVar(dirs, "cache-dir", inspect.CacheDirs, "directories in which runtimes keep results (libcni)")
}

// completePods completes the name of a pod with the container IDs of the node's pods.
func completePods(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	dirs, err := c.Flags().GetStringSlice("cache-dir")
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []cobra.Completion
	for _, pod := range inspect.Pods(dirs) {
		out = append(out, cobra.CompletionWithDesc(pod.ContainerID, pod.Name))
	}
	return out, cobra.ShellCompDirectiveDefault // the path of a namespace names a pod, too
}
