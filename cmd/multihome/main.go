// SPDX-License-Identifier: Apache-2.0

// Command multihome is the tool for people: it installs the plugins of this suite, shows
// what they do, finds out why pods don't work, and repairs pods.
//
//	multihome install --drop-ins iproute2      # put the plugins onto this node
//	multihome explain underlay.conflist        # what would ADD do?
//	multihome show POD                         # what does the pod have?
//	multihome trace POD --to 10.96.0.10:80     # which way does a packet take?
//	multihome doctor                           # why doesn't it work?
//	multihome repair                           # restore what was removed
//	multihome lab                              # try it without a cluster
//
// Beware: install, repair and doctor --fix change the machine. All other commands leave it
// as it is; lab builds in network namespaces of its own. Most commands need root.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	c, err := command().ExecuteContextC(ctx)
	switch {
	case errors.Is(err, errFindings):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "multihome:", err)
		status, _ := strconv.Atoi(c.Annotations[errorStatus])
		os.Exit(max(status, 1))
	}
}

// errorStatus is the key of a command's annotation with the exit status of an error. The
// default is 1.
const errorStatus = "multihome/error-status"

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "multihome",
		Short:         "Install the multihome CNI plugins; explain, show, trace and repair what they do",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(doctorCommand(), explainCommand(), installCommand(), labCommand(), lintCommand(), renderCommand(), repairCommand(), showCommand(), traceCommand(), uninstallCommand(), waitCommand())
	return root
}
