// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/report"
	"github.com/multihome/multihome/pkg/trace"
)

// traceOptions holds the flags of trace.
type traceOptions struct {
	to, from, mark, in string
	probe              bool
	format             string
	cacheDirs          []string
}

func traceCommand() *cobra.Command {
	var o traceOptions
	c := &cobra.Command{
		Use:   "trace POD --to ADDR[:PORT]",
		Short: "Follow a packet of a pod and its reply, rule by rule",
		Long: `Trace follows a packet from a pod, and the reply to it, through pod and node. It
prints the rules that the kernel asks and the reason why one decides, the route, the
link by which the packet leaves, and the neighbour. At the end it says whether the
reply takes the same way back, and if not, where the two ways part.

With --in, it follows a packet that comes from ADDR to the pod by a link of the
pod, and the pod's reply to it.

POD is the path or the name of a network namespace, the ID of a process in it, or
the beginning of a container ID. With a PORT, the packet is TCP, otherwise a ping.

Trace also asks the kernel for every decision (RTM_GETROUTE). If the kernel decides
otherwise, the output says so, and the exit status is not 0. Trace changes nothing,
and sends packets only with --probe.`,
		Example: `  multihome trace web --to 10.96.0.10:80              a Service
  multihome trace web --to 10.6.168.123 --probe       the node, tried out
  multihome trace 4f1a --to 10.6.0.50 --from 10.7.0.171
  multihome trace 4f1a --to 10.6.0.50 --in net1       who asks by net1: who answers?
  multihome trace /run/netns/web --to fd00:6::123 --mark 0x1 -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completePods,
		RunE: func(c *cobra.Command, args []string) error {
			return runTrace(c.OutOrStdout(), args[0], o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.to, "to", "", "the other end: an address, or ADDR:PORT ([ADDR]:PORT)")
	f.StringVar(&o.from, "from", "", "the pod's address (default: the kernel's choice; with --in, the first of that link)")
	f.StringVar(&o.mark, "mark", "", "mark of the pod's packets, such as 0x1 (SO_MARK)")
	f.StringVar(&o.in, "in", "", "the pod's link by which a packet from --to comes in")
	f.BoolVar(&o.probe, "probe", false, "send real packets as well, and print where they appear")
	_ = c.MarkFlagRequired("to") // fails for an unknown flag
	for _, name := range []string{"to", "from", "mark", "in"} {
		_ = c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions) // likewise
	}
	outputFlag(c, &o.format)
	cacheFlag(c, &o.cacheDirs)
	return c
}

// runTrace follows a packet of the pod that name stands for, and writes its way to w.
func runTrace(w io.Writer, name string, o traceOptions) error {
	q, err := o.query()
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	pod, err := inspect.Find(name, o.cacheDirs)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	q.Pod = pod.Name
	k, err := pod.Look()
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	defer k.Close()
	t, err := trace.Follow(k, q)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	if o.probe {
		if err := t.Send(pod.Netns, q); err != nil {
			return fmt.Errorf("trace: %w", err)
		}
	}
	if err := report.Write(w, o.format, t); err != nil {
		return err
	}
	return t.Err()
}

// query parses the flags.
func (o traceOptions) query() (q trace.Query, err error) {
	if q.To, err = trace.ParseDestination(o.to); err != nil {
		return q, fmt.Errorf("--to %w", err)
	}
	if o.from != "" {
		if q.From, err = netip.ParseAddr(o.from); err != nil {
			return q, fmt.Errorf("--from %q: want an address of the pod", o.from)
		}
		q.From = q.From.Unmap()
	}
	if o.mark != "" {
		mark, err := strconv.ParseUint(o.mark, 0, 32)
		if err != nil {
			return q, fmt.Errorf("--mark %q: want a number of 32 bits, such as 0x1", o.mark)
		}
		q.Mark = uint32(mark)
	}
	q.In = o.in
	return q, nil
}
