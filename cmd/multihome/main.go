// SPDX-License-Identifier: Apache-2.0

// Command multihome installs the plugins of this suite, shows what they do, says what
// keeps them from it, and repairs it. But for install, repair and doctor --fix it
// changes nothing on the machine: what it builds, it builds in network namespaces of
// its own.
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

// errorStatus is the annotation of a command that says with which exit status an
// error ends it, if not with 1.
const errorStatus = "multihome/error-status"

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "multihome",
		Short:         "Install the multihome CNI plugins; explain, show, trace and mend what they do",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(doctorCommand(), explainCommand(), installCommand(), labCommand(), repairCommand(), showCommand(), traceCommand(), waitCommand())
	return root
}
