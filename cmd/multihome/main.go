// SPDX-License-Identifier: Apache-2.0

// Command multihome installs the plugins of this suite, shows what they do, and
// repairs it. But for install and repair it changes nothing on the machine: what it
// builds, it builds in network namespaces of its own.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := command().ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "multihome:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "multihome",
		Short:         "Install the multihome CNI plugins, show and repair what they do",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(explainCommand(), installCommand(), labCommand(), repairCommand(), traceCommand(), waitCommand())
	return root
}
