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

// outputFlag adds -o to a command that prints what it found, with formats beyond
// those of [report.Write].
func outputFlag(c *cobra.Command, format *string, more ...string) {
	formats := slices.Concat(report.Formats, more)
	*format = formats[0]
	c.Flags().VarP(choice{format, formats}, "output", "o", "one of "+strings.Join(formats, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag
}

// choice is a flag that takes one of some words.
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

// cacheFlag adds the flag for where runtimes keep what plugins answered.
func cacheFlag(c *cobra.Command, dirs *[]string) {
	c.Flags().StringSliceVar(dirs, "cache-dir", inspect.CacheDirs, "where runtimes keep results (libcni)")
}

// completePods completes the name of a pod by the container IDs of those there are.
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
	return out, cobra.ShellCompDirectiveDefault // a path of a namespace is one, too
}
