// SPDX-License-Identifier: Apache-2.0

// Command multihome shows what the plugins of this suite do, and repairs it. But
// for repair it changes nothing on the machine: what it builds, it builds in
// network namespaces of its own.
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
		Short:         "Show and repair what the multihome CNI plugins do",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(labCommand(), repairCommand())
	return root
}
