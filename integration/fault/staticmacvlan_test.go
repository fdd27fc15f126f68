// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fault"
	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/spool"
)

// removeUnnamed is a script that removes in a pod what macvlan has made and not named yet: it
// makes its NIC under a random name, and neither it nor its DEL finds that again if the renaming
// fails, or macvlan is killed before. The end of the pod's namespace removes it.
const removeUnnamed = `ip -o link | sed -n 's/^[0-9]*: \(veth[0-9a-f]\{8\}\)@.*/\1/p' | xargs -r -n 1 ip link del`

// staticMacvlanFaults lets static-macvlan-cni, or a plugin that it calls, fail and die at each
// of their system calls in turn. The link of the VLANSubnet, which outlives the pods, is taken
// away after each verb, so that ADD makes it again.
func staticMacvlanFaults(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	fixture.AgentReady(t, s.Lab)
	nic := fixture.SpoolNIC(s.LANs[0], "net1", "lan", 5)
	nic.MAC, nic.Link = "0a:00:27:00:00:00", &spool.Link{Name: "mv1", Master: "ens192", Mode: "bridge"}
	fixture.InSpool(t, s.Lab, func(d *spool.Directory) error {
		return spool.PutPod(d, spool.Pod{Namespace: "default", Name: "web", UID: s.Web.UID(), NICs: []spool.NIC{nic}})
	})
	var added json.RawMessage // the result of ADD, for CHECK
	call := func(verb string, over ...fixture.Keys) fixture.Call {
		own := fixture.Keys{"type": "static-macvlan-cni", "serviceCIDR": nil, "ipam": fixture.Keys{"type": "static-ipam"}, "prevResult": nil}
		if verb == "CHECK" {
			own["prevResult"] = added
		}
		c := s.WebNIC.Call(verb, append([]fixture.Keys{own}, over...)...).With("CNI_IFNAME", "net1").
			With("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID="+s.Web.UID())
		c.Plugin = "static-macvlan-cni"
		return c
	}
	added = json.RawMessage(call("ADD").Fine(t))
	call("DEL").Fine(t)
	tidy := func(verb string) {
		tidySpool(t, s, verb)
		fixture.Sh(t, s.Node.Netns, "ip link del mv1 2>/dev/null || true")
		fixture.Sh(t, s.Web.Netns, removeUnnamed)
	}
	static := struck{Attachment: s.WebNIC, living: []types.GCAttachment{}, call: call}
	fault.Matrix(t, fixture.Inject(), fault.Subject{
		Run: func(verb string, by ...string) (*types.Error, error) {
			// As runtimes do: macvlan doesn't take over what another ADD left in the pod.
			if verb == "ADD" && len(by) == 0 {
				call("DEL").Fine(t)
				tidy("DEL")
			}
			e, err := static.run(t, verb, by...)
			if errors.Is(err, fault.ErrKilled) {
				sweepSpool(t, s)
			}
			return e, err
		},
		State: func() []string {
			lines := slices.DeleteFunc(static.state(t), func(line string) bool {
				// macvlan goes on if it can't set these two.
				return strings.Contains(line, spool.Dir) || strings.Contains(line, "/net1/arp_notify:") || strings.Contains(line, "/net1/ndisc_notify:")
			})
			return append(lines, inSpool(t, s)...)
		},
		Tidy: tidy,
	})
}
