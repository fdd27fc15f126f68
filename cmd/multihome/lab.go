// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/lab"
)

func labCommand() *cobra.Command {
	var cniPath []string
	var without bool
	c := &cobra.Command{
		Use:   "lab",
		Short: "Build a node, a LAN and pods in namespaces, and send traffic through them",
		Long: `Build a node, a LAN with a router and clients, and two pods out of network
namespaces. Connect the pods with a chain of the real plugins. Show the rules and
routes that they made, and whether real traffic takes the right way.

The namespaces and all files are private to this process. Nothing is left when
it ends, even if it is killed. Needs root.

To keep this lab or another one up and look around in it, see up, shell and down.`,
		Args:                       noScenario,
		SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := needRoot(); err != nil {
				return err
			}
			path, err := pluginPath(cniPath)
			if err != nil {
				return err
			}
			var chained []string
			if !without {
				chained = []string{lab.Coordinator}
			}
			return runLab(c.Context(), c.OutOrStdout(), path, chained)
		},
	}
	pluginPathFlag(c, &cniPath)
	c.Flags().BoolVar(&without, "without-coordinator", false, "leave coordinator out of the chain, to see what fails then")
	c.AddCommand(labUpCommand(), labShellCommand(), labDownCommand(), labServeCommand())
	return c
}

// noScenario refuses all arguments. If one is the name of a scenario, the error suggests
// the command up; otherwise, a command of a similar name.
func noScenario(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if s, err := lab.FindScenario(args[0]); err == nil {
		hint = fmt.Sprintf(": did you mean `%s up %s`?", c.CommandPath(), s.Name)
	} else if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(": did you mean `%s %s`?", c.CommandPath(), near[0])
	}
	return fmt.Errorf("lab: unknown command %q%s", args[0], hint)
}

func needRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("lab: needs root, to make network namespaces")
	}
	return nil
}

func pluginPathFlag(c *cobra.Command, dirs *[]string) {
	c.Flags().StringSliceVar(dirs, "cni-path", nil, "directories of the plugins (default: the directory of this program)")
}

// pluginPath returns the directories of the plugins.
func pluginPath(dirs []string) ([]string, error) {
	if len(dirs) > 0 {
		return dirs, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	return []string{filepath.Dir(self)}, nil
}

// runLab builds a scene, and writes its state and the results of its traffic to w. It
// returns an error if a check fails.
func runLab(ctx context.Context, w io.Writer, cniPath, chained []string) (err error) {
	l, err := lab.New(lab.Ens192())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()

	conflist := l.LANs[0].Conflist(chained...)
	fmt.Fprintf(w, "The network that both pods are in:\n\n%s\n", conflist)
	network, err := l.Network(conflist, cniPath...)
	if err != nil {
		return err
	}
	scene, err := l.NewScene(ctx, network)
	if err != nil {
		return err
	}
	if err := l.WriteState(w, scene.Web); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe ways of pod %s:\n\n%s\n", scene.Web.Name(), scene.Draw(scene.Web))

	failed := writeResults(w, lab.RunAll(scene.Checks("tcp")))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, pod := range []*lab.Pod{scene.Web, scene.App} {
		if err := network.Check(ctx, pod, lab.NIC); err != nil {
			return err
		}
	}
	if err := scene.Del(ctx); err != nil {
		return err
	}
	fmt.Fprintln(w, "CNI CHECK and then DEL succeeded for both pods.")
	if failed > 0 {
		return fmt.Errorf("%d checks failed", failed)
	}
	return nil
}

// writeResults prints a table of the results and returns how many failed.
func writeResults(w io.Writer, results []lab.Result) (failed int) {
	fmt.Fprint(w, "Traffic, and what passed the wire:\n\n")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range results {
		verdict, evidence := "ok", r.Evidence
		if r.Err != nil {
			failed++
			verdict, evidence = "FAILED", fmt.Sprintf("%v; %s", r.Err, r.Evidence)
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", verdict, r.Name, evidence)
	}
	_ = tw.Flush() // errors of writing to the terminal are ignored here as everywhere
	fmt.Fprintf(w, "\n%d of %d hold.\n", len(results)-failed, len(results))
	return failed
}
