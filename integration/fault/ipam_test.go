// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fault"
	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/spool"
)

// ipamFaults lets multihome-ipam fail and die at each of its system calls in turn. What its
// processes leave in the spool when they are killed, the agent removes.
func ipamFaults(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	fixture.AgentReady(t, s.Lab)
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		return spool.PutPod(d, spool.Pod{Namespace: "default", Name: "web", UID: s.Web.UID(), NICs: []spool.NIC{fixture.SpoolNIC(s.LANs[0], lab.NIC, "lan", 0)}})
	})
	ipam := struck{Attachment: s.WebNIC, living: []types.GCAttachment{}, call: func(verb string, over ...fixture.Keys) fixture.Call {
		own := fixture.Keys{"type": "macvlan", "serviceCIDR": nil, "ipam": fixture.Keys{"type": "multihome-ipam"}}
		c := s.WebNIC.Call(verb, append([]fixture.Keys{own}, over...)...).With("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID="+s.Web.UID())
		c.Plugin = "multihome-ipam"
		return c
	}}
	fault.Matrix(t, fixture.Inject(), fault.Subject{
		Run: func(verb string, by ...string) (*types.Error, error) {
			if len(by) > 0 {
				by = slices.Insert(slices.Clone(by), 1, "-reads") // all that it does is to read and write files
			}
			e, err := ipam.run(t, verb, by...)
			if errors.Is(err, fault.ErrKilled) {
				sweepSpool(t, s)
			}
			return e, err
		},
		State: func() []string { return inSpool(t, s) },
		Tidy:  func(verb string) { tidySpool(t, s, verb) },
	})
}

// tidySpool does what the agent does after a verb. DEL and GC leave in gone/ what the agent then
// looks for in the pod's namespace. They also leave what an ADD began to write and then couldn't
// remove.
func tidySpool(t *testing.T, s *fixture.Stage, verb string) {
	t.Helper()
	if verb != "ADD" {
		sweepSpool(t, s)
	}
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		all, err := spool.Sandboxes(d)
		errs := []error{err}
		for _, s := range all {
			if s.Gone {
				errs = append(errs, spool.Forget(d, s))
			}
		}
		return errors.Join(errs...)
	})
}

// sweepSpool removes what killed processes left in the spool.
func sweepSpool(t *testing.T, s *fixture.Stage) {
	t.Helper()
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error { return d.Sweep(time.Now().Add(time.Hour)) })
}

// inSpool returns lines for all in the spool, as a state of the node.
func inSpool(t *testing.T, s *fixture.Stage) []string {
	t.Helper()
	lines := append(fixture.SpoolState(t, s.Lab), unfinished(t, s)...)
	for i := range lines {
		lines[i] = "node: " + lines[i]
	}
	slices.Sort(lines)
	return slices.Compact(lines) // a killed ADD leaves what the next one makes, too
}

// unfinished returns the files in the spool that somebody began to write.
func unfinished(t *testing.T, s *fixture.Stage) []string {
	t.Helper()
	var out string
	err := s.Node.Run(func() (err error) {
		out, err = fixture.Shell("find " + spool.Dir + " -name '.*'")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if out == "" {
		return nil
	}
	return []string{out}
}
