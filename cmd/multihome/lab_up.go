// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/lab"
)

func labUpCommand() *cobra.Command {
	var cniPath []string
	c := &cobra.Command{
		Use:   "up [SCENARIO]",
		Short: "Build a scenario and keep it up",
		Long: "Build a scenario and keep it up until `multihome lab down`. Only one can be up at a time. " +
			"Everything in it answers HTTP on port 8080. The scenarios:\n\n" + scenarioTable(),
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			var names []cobra.Completion
			for _, s := range lab.Scenarios() {
				names = append(names, cobra.CompletionWithDesc(s.Name, s.About))
			}
			return completeFirst(args, names)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			scenario := lab.Scenarios()[0]
			if len(args) > 0 {
				var err error
				if scenario, err = lab.FindScenario(args[0]); err != nil {
					return fmt.Errorf("lab: %w", err)
				}
			}
			path, err := pluginPath(cniPath)
			if err != nil {
				return err
			}
			if err := labUp(c.Context(), c.OutOrStdout(), scenario, path); err != nil {
				return fmt.Errorf("lab: %w", err)
			}
			return nil
		},
	}
	pluginPathFlag(c, &cniPath)
	return c
}

// labUp builds a scenario, hands it over to a server process, and describes it on w.
func labUp(ctx context.Context, w io.Writer, scenario lab.Scenario, cniPath []string) error {
	server := exec.Command("/proc/self/exe", "lab", "serve") // found even if the node has other files at its path
	server.Args[0] = "multihome"
	scene, err := scenario.Keep(ctx, server, cniPath...)
	if err != nil {
		return err
	}
	writeScene(w, scenario, scene)
	return nil
}

func labServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "serve",
		Short:  "Hold and serve the lab whose node this process is on",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return lab.Serve(c.Context()) },
	}
}

func labShellCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "shell NAME [-- COMMAND...]",
		Short: "Run a shell or a command in a pod, on the node, the router or a client of the lab",
		Long: `Run a shell, or a command, in a network namespace of the lab that is up: a pod's
(web, app), the node's, the router's or a client's. The node has a /run, a
/var/lib/cni and an /etc/cni of its own, with the files of plugins and libcni.`,
		Example: "  multihome lab shell node\n  multihome lab shell web -- ip route",
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			kept, err := lab.OpenKept()
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			defer kept.Close()
			return completeFirst(args, kept.Names())
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			name, argv := args[0], args[1:]
			if len(argv) > 0 && argv[0] == "--" {
				argv = argv[1:]
			}
			if err := labShell(name, argv...); err != nil {
				return fmt.Errorf("lab: %w", err)
			}
			return nil
		},
	}
	c.Flags().SetInterspersed(false) // flags after NAME are the command's own, even without --
	return c
}

// labShell replaces this process with the command. It puts the directory of this program
// first into PATH, so that the command finds multihome.
func labShell(name string, argv ...string) error {
	kept, err := lab.OpenKept()
	if err != nil {
		return err
	}
	defer kept.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := os.Setenv("PATH", filepath.Dir(self)+":"+os.Getenv("PATH")); err != nil {
		return err
	}
	if len(argv) == 0 {
		argv = []string{cmp.Or(os.Getenv("SHELL"), "/bin/sh")}
	}
	return kept.Exec(name, argv...)
}

func labDownCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the lab that is up, and end all processes in it",
		Long: `Remove the lab that is up, or the rest of a lab whose "up" was interrupted, and end
all processes in it, including shells.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			if err := lab.Down(c.Context()); err != nil {
				return fmt.Errorf("lab: %w", err)
			}
			return nil
		},
	}
}

// completeFirst completes the first argument with names. It leaves further arguments, the
// words of a command, to the shell.
func completeFirst(args []string, names []cobra.Completion) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// scenarioTable returns a table of all scenarios, with a description of each.
func scenarioTable() string {
	var b strings.Builder
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, s := range lab.Scenarios() {
		fmt.Fprintf(tw, "  %s\t%s\n", s.Name, s.About)
	}
	_ = tw.Flush() // a strings.Builder returns no error
	return b.String()
}

// writeScene lists the addresses of a scene, and commands to try.
func writeScene(w io.Writer, scenario lab.Scenario, scene *lab.Scene) {
	fmt.Fprintf(w, "Scenario %s is up: %s.\n\n", scenario.Name, scenario.About)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range scene.Ports() {
		fmt.Fprintf(tw, "  %s\t%s", p.Name, p.Link)
		for _, a := range p.Addrs {
			fmt.Fprintf(tw, "\t%s", a)
		}
		fmt.Fprintln(tw)
	}
	if services := scene.Services(); services != nil {
		fmt.Fprint(tw, "  Service\t")
		for _, at := range services {
			fmt.Fprintf(tw, "\t%s", at)
		}
		fmt.Fprintln(tw)
	}
	_ = tw.Flush()
	fmt.Fprint(w, "\nTry, for example:\n\n")
	for _, try := range scenario.Try {
		name, command, _ := strings.Cut(try, " ")
		fmt.Fprintf(w, "  multihome lab shell %s -- %s\n", name, command)
	}
	fmt.Fprint(w, "  multihome lab shell node\n  multihome lab down\n")
}
