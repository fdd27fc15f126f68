// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/records"
)

// Plugin is what makes a plugin out of the driver.
type Plugin struct {
	// Name is how errors begin.
	Name string
	Load Load
	// NodeOnly plugins work on the node alone: no pod is opened, and results
	// pass through as they are.
	NodeOnly bool
	// Records is where the plugin keeps its records.
	Records records.Set
	// Ignored are keys that other systems read without effect, or that have no
	// meaning here: they are no error, and a warning in the log.
	Ignored []string
	// ObserveOwned reads into the view what Remove goes by. If t.Kernel.Pod is nil, there
	// is no pod to be read.
	ObserveOwned func(t *Task) error
	// Remove returns what the attachment owns, to be deleted. It must not rely on a
	// prevResult, a configuration or a pod. Like a plan it is pure.
	Remove func(v *View) []netstate.Op
	// Attachments returns those that own something on the node.
	Attachments func(t *Task) ([]attachment.Attachment, error)
	// Unused returns what attachments have in common and none uses any more;
	// nil if that never is left over.
	Unused func(t *Task) ([]netstate.Op, error)
}

// Load reads and checks a plugin's own keys, before anything is touched. A nil
// Conf means that the plugin is switched off: results pass through.
type Load func(raw map[string]json.RawMessage) (Conf, error)

// Conf is a configuration that was found good.
type Conf interface {
	// Observe reads what Plan needs to know into the task.
	Observe(t *Task) error
	// Plan returns what shall be.
	Plan(v *View) (netstate.Plan, error)
	// Record returns what DEL will need to know of the attachment and the
	// kernel has no room for; nil if that is nothing.
	Record(v *View, plan netstate.Plan) *records.Record
	// Status says why ADD can't work on this node now, if so.
	Status(t *Task) error
}

// Prober is a Conf that, before ADD changes anything, asks on the wire what the
// kernel can't know. That takes time, so CHECK, which is to be repeated, doesn't.
type Prober interface {
	Probe(t *Task) error
}

// View is all that a plan may go by: what was asked for, and what was observed. It
// holds no kernel, no log and no lock, so that a plan can decide and nothing else.
type View struct {
	attachment.Attachment
	Netns    string          // path of the pod's namespace, "" if there is none
	Prev     *current.Result // nil if there is none
	Snapshot *netstate.Snapshot
	Node     []netip.Addr     // the node's addresses: what pods call it by
	Marks    netstate.Backend // what holds reply marks in the pod
	Parent   string           // the node's link that the pod's first NIC sits on, where that is asked for
	Own      *records.Record  // what an earlier call noted of the attachment, nil if it has noted nothing
	Others   []records.Record // what is noted of other attachments, as far as it was asked for
	Gone     []netip.Addr     // that the pod takes for the node's, and that the node hasn't
	// Checking is set in CHECK: nothing is asked for that came by itself since
	// ADD, such as an address out of a router advertisement.
	Checking bool
}

// Task is one call of a verb: the view, and what it takes to observe and to act.
type Task struct {
	View
	Kernel *kernel.Namespaces
	Keys   map[string]json.RawMessage // of the configuration
	Log    *slog.Logger

	former  map[netip.Addr]attachment.Attachment // whose addresses the attachment takes over
	earlier []netstate.Op                        // that plugins before this one would have done, in an explanation

	version string   // of CNI
	ignored []string // keys of the configuration that have no effect
	logFile io.Closer
	unlock  func() // lets go of the pod's records; nil: it has them not
}

// versions are the CNI versions that are spoken.
var versions = version.VersionsStartingFrom("0.3.0")

// Main runs the verb that the environment asks for, prints what CNI prescribes,
// and ends the process with an exit status other than zero on an error.
func Main(p Plugin) {
	// The driver refuses the node's own namespace before it does anything. The
	// skeleton would look again afterwards, by opening whatever is at the path
	// by then: a FIFO for ever, and an error behind a result that is out.
	if err := os.Setenv("CNI_NETNS_OVERRIDE", "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    p.verb(p.add),
		Check:  p.verb(p.check),
		Del:    p.verb(p.del),
		GC:     p.verb(p.gc),
		Status: p.verb(p.status),
	}, versions, "CNI plugin "+p.Name+" of multihome")
}

// verb puts the plugin's name before an error and keeps its code.
func (p Plugin) verb(f func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) error {
		err := f(args)
		if err == nil {
			return nil
		}
		out := types.NewError(types.ErrInternal, p.Name+": "+err.Error(), "")
		if e, ok := asError(err); ok {
			out.Code = e.Code
		}
		return out
	}
}

// load takes the configuration apart: a task with the attachment, the prevResult
// and the log, and the keys that are left for Load. An error beside a task is
// one that DEL can do without knowing.
func (p Plugin) load(args *skel.CmdArgs) (*Task, map[string]json.RawMessage, error) {
	raw, wrong := config.Object(args.StdinData)
	if wrong != nil && raw == nil {
		return nil, nil, types.NewError(types.ErrDecodingFailure, "configuration: "+wrong.Error(), "")
	}
	t := &Task{
		View: View{
			Attachment: attachment.Attachment{ContainerID: args.ContainerID, IfName: args.IfName},
			Netns:      args.Netns,
			Snapshot:   netstate.NewSnapshot(),
		},
		Keys: raw,
	}
	err := errors.Join(parseKey(raw, "name", &t.Network), parseKey(raw, "cniVersion", &t.version))
	if err != nil {
		return nil, nil, types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	t.Log, t.logFile, err = logging(raw)
	t.Log = t.Log.With("plugin", p.Name, "network", t.Network, "container", t.ContainerID, "ifname", t.IfName)
	if wrong != nil {
		err = wrong
	}
	if err != nil {
		return t, raw, err
	}
	for name := range raw {
		if config.Among(name, p.Ignored) {
			t.ignored = append(t.ignored, name)
			delete(raw, name)
		}
	}
	_, prevResult := lookUp(raw, "prevResult")
	if len(prevResult) == 0 || string(prevResult) == "null" {
		return t, raw, nil
	}
	result, err := ReadResult(t.version, prevResult)
	if err == nil {
		t.Prev, err = current.NewResultFromResult(result)
	}
	if _, worded := asError(err); err != nil && !worded {
		err = types.NewError(types.ErrDecodingFailure, "prevResult: "+err.Error(), "")
	}
	if err != nil || p.NodeOnly { // whose prevResult is passed on, whatever it says
		return t, raw, err
	}
	return t, raw, checkAddresses(t.Prev, t.IfName)
}

// lookUp returns the value of a key, and the key as the user wrote it: keys are matched
// without regard to case.
func lookUp(raw map[string]json.RawMessage, key string) (name string, value json.RawMessage) {
	if value, ok := raw[key]; ok {
		return key, value
	}
	for name, value := range raw {
		if strings.EqualFold(name, key) {
			return name, value
		}
	}
	return "", nil
}

// parseKey reads the value of a key into v, and leaves v as it is if there is no such key.
func parseKey(raw map[string]json.RawMessage, key string, v any) error {
	name, value := lookUp(raw, key)
	if value == nil {
		return nil
	}
	if err := json.Unmarshal(value, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// ReadResult reads the result of a plugin, which is of that version.
func ReadResult(of string, data json.RawMessage) (types.Result, error) {
	if err := refuseNulls(data); err != nil {
		return nil, err
	}
	return version.NewResult(of, data)
}

// refuseNulls returns an error for a result with null in one of its lists, where
// nobody expects it: to convert such a one from an older version is a panic
// (convertFrom04x of CNI's types/100).
func refuseNulls(result json.RawMessage) error {
	if !bytes.Contains(result, []byte("null")) {
		return nil // as is usual, and read faster
	}
	var lists struct{ Interfaces, IPs, Routes []json.RawMessage }
	if err := json.Unmarshal(result, &lists); err != nil {
		return nil //nolint:nilerr // whoever reads it says what is wrong
	}
	for _, list := range []struct {
		key   string
		items []json.RawMessage
	}{{"interfaces", lists.Interfaces}, {"ips", lists.IPs}, {"routes", lists.Routes}} {
		for i, item := range list.items {
			if string(item) == "null" {
				return config.Invalid("prevResult: %s: %d is null", list.key, i)
			}
		}
	}
	return nil
}

// checkAddresses returns an error for an address or a gateway that a result gives a NIC
// and no NIC can have.
func checkAddresses(r *current.Result, nic string) error {
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Name != nic {
			continue
		}
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		if a = a.Unmap(); a.Is4() && len(ip.Address.Mask) == net.IPv6len {
			return config.Invalid("prevResult: ips: %s: want IPv4 in its own form, with a length of 32 at most", ip.Address.String())
		}
		if err := config.CheckHost(a); err != nil {
			return config.Invalid("prevResult: ips: %s: want the address of a NIC (%w)", ip.Address.String(), err)
		}
		if err := config.CheckHost(GatewayOf(ip.Gateway)); err != nil {
			return config.Invalid("prevResult: ips: gateway: %s: want the address of a router (%w)", ip.Gateway, err)
		}
	}
	for _, route := range r.Routes {
		if ones, _ := route.Dst.Mask.Size(); ones > 0 {
			continue // no plugin of ours goes by it
		}
		if err := config.CheckHost(GatewayOf(route.GW)); err != nil {
			return config.Invalid("prevResult: routes: gw: %s: want the address of a router (%w)", route.GW, err)
		}
	}
	return nil
}

// GatewayOf returns a gateway of a result. It is not valid where there is none, which
// some plugins write as 0.0.0.0 or :: (route-override, flushgateway).
func GatewayOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || a.Unmap().IsUnspecified() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// output prints the result in the version that the configuration asks for.
func (t *Task) output(r *current.Result) error {
	converted, err := r.GetAsVersion(t.version)
	if err != nil {
		return err
	}
	if newest, ok := converted.(*current.Result); ok {
		return json.NewEncoder(os.Stdout).Encode((*printed)(newest))
	}
	return converted.PrintTo(os.Stdout)
}

// printed is a result as it is printed. The method of [current.Result] for that encodes
// all of it three times, to leave out an empty dns.
type printed struct {
	CNIVersion string               `json:"cniVersion,omitempty"`
	Interfaces []*current.Interface `json:"interfaces,omitempty"`
	IPs        []*current.IPConfig  `json:"ips,omitempty"`
	Routes     []*types.Route       `json:"routes,omitempty"`
	DNS        types.DNS            `json:"dns,omitzero"`
}

// AttachmentOf returns the attachment that a record is of.
func AttachmentOf(r records.Record) attachment.Attachment {
	return attachment.Attachment{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}
}
