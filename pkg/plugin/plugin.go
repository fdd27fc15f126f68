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

// Plugin holds the name and the functions of one plugin. [Main] runs it.
type Plugin struct {
	// Name begins every error.
	Name string
	Load Load
	// Defaults reads the node's defaults for a Conf that is [Defaulted]; nil if there are none.
	Defaults func() Defaults
	// OfPod returns the values that the annotations of a container's pod give to keys, for a
	// Conf that is [Defaulted]; nil if there are none.
	OfPod func(containerID string) (map[string]json.RawMessage, error)
	// NodeOnly is set for a plugin that works on the node alone: the driver opens no pod
	// and passes results through unchanged.
	NodeOnly bool
	// Records is the directory of the plugin's records.
	Records records.Set
	// Ignored lists keys without effect: keys that other systems read without effect, or
	// keys without a meaning here. The driver accepts them and logs a warning.
	Ignored []string
	// ObserveOwned reads the input of Remove into the view. If t.Kernel.Pod is nil, there
	// is no pod to read.
	ObserveOwned func(t *Task) error
	// Remove returns operations that delete everything the attachment owns. It is pure,
	// like a plan, and must not rely on a prevResult, a configuration or a pod.
	Remove func(v *View) []netstate.Op
	// Attachments returns the attachments that own something on the node.
	Attachments func(t *Task) ([]attachment.Attachment, error)
	// Unused returns operations that delete objects shared by attachments and used by
	// none any more. It is nil if the plugin leaves no such objects.
	Unused func(t *Task) ([]netstate.Op, error)
}

// Load reads and checks the plugin's own keys before anything is touched. It returns a
// nil Conf if the configuration switches the plugin off: results then pass through.
type Load func(raw map[string]json.RawMessage) (Conf, error)

// Conf is a valid configuration of a plugin.
type Conf interface {
	// Observe reads the input of Plan into the task.
	Observe(t *Task) error
	// Plan returns the wanted state.
	Plan(v *View) (netstate.Plan, error)
	// Record returns facts about the attachment that DEL needs and the kernel can't
	// store; nil if there are none.
	Record(v *View, plan netstate.Plan) *records.Record
	// Status returns an error if ADD can't work on this node now.
	Status(t *Task) error
}

// Prober is a Conf that sends probes on the wire before ADD changes anything, to learn
// facts that the kernel doesn't have. Probing takes time, so CHECK, which runtimes
// repeat, doesn't probe.
type Prober interface {
	Probe(t *Task) error
}

// View is the whole input of a plan: the request and the observed state. It holds no
// kernel, no log and no lock, so a plan can only decide.
type View struct {
	attachment.Attachment
	Netns    string          // path of the pod's namespace, "" if there is none
	Prev     *current.Result // nil if there is none
	Snapshot *netstate.Snapshot
	Node     []netip.Addr     // the node's addresses that pods use
	Subnets  []netip.Prefix   // of the node itself
	Marks    netstate.Backend // holds the reply marks in the pod
	Parent   string           // the node's link below the pod's first NIC; read only for plans that need it
	Own      *records.Record  // written by an earlier call for the attachment; nil if there is none
	Others   []records.Record // of other attachments; read only for plans that need them
	Gone     []netip.Addr     // addresses that the pod has routes to as the node's and the node no longer has
	// Checking is set in CHECK. The plan then wants nothing for addresses that appeared
	// by themselves since ADD, such as those of a router advertisement.
	Checking bool
}

// Task is one call of a verb: the view, and the means to observe and to act.
type Task struct {
	View
	Kernel *kernel.Namespaces
	Keys   map[string]json.RawMessage // of the configuration
	Log    *slog.Logger

	former  map[netip.Addr]attachment.Attachment // pods whose addresses the attachment takes over
	earlier []netstate.Op                        // operations that were not applied: see Explain and How
	living  bool                                 // Reconcile has the attachment
	how     How                                  // of Reconcile

	version string   // of CNI
	ignored []string // keys of the configuration that have no effect
	logFile io.Closer
	unlock  func() // releases the lock on the pod's records; nil if the task doesn't hold it
}

// versions lists the supported CNI versions.
var versions = version.VersionsStartingFrom("0.3.0")

// Main runs the verb that the environment names (CNI_COMMAND), prints the answer that CNI
// prescribes, and ends the process with a non-zero exit status on an error.
func Main(p Plugin) {
	// The driver refuses the node's own namespace before it does anything. CNI's
	// skel package would check again afterwards and open the path a second time. By
	// then the path may be a FIFO, which blocks for ever, or the check may fail after
	// the result was printed.
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

// load parses the configuration. It returns a task with the attachment, the prevResult
// and the log, and the keys that are left for Load. If it returns both a task and an
// error, DEL can ignore the error.
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
	if err != nil || p.NodeOnly { // a NodeOnly plugin passes any prevResult on
		return t, raw, err
	}
	return t, raw, checkAddresses(t.Prev, t.IfName)
}

// lookUp returns the value of a key and the key as the user wrote it. It ignores case.
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

// parseKey reads the value of a key into v. It leaves v unchanged if the key is missing.
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

// ReadResult reads a plugin's result of the CNI version of.
func ReadResult(of string, data json.RawMessage) (types.Result, error) {
	if err := refuseNulls(data); err != nil {
		return nil, err
	}
	return version.NewResult(of, data)
}

// refuseNulls returns an error if one of a result's lists contains null. CNI's library
// panics when it converts such a result from an older version (convertFrom04x in
// pkg/types/100).
func refuseNulls(result json.RawMessage) error {
	if !bytes.Contains(result, []byte("null")) {
		return nil // the usual case, and cheaper than parsing
	}
	var lists struct{ Interfaces, IPs, Routes []json.RawMessage }
	if err := json.Unmarshal(result, &lists); err != nil {
		return nil //nolint:nilerr // version.NewResult reports the error
	}
	for _, list := range []struct {
		key   string
		items []json.RawMessage
	}{{"interfaces", lists.Interfaces}, {"ips", lists.IPs}, {"routes", lists.Routes}} {
		for i, item := range list.items {
			if string(item) == "null" {
				return config.Invalid("prevResult: %s: %d is null: want an object", list.key, i)
			}
		}
	}
	return nil
}

// checkAddresses returns an error if a result gives the NIC an address or a gateway that
// no machine can have.
func checkAddresses(r *current.Result, nic string) error {
	for _, ip := range r.IPs {
		if i := ip.Interface; i != nil && *i >= 0 && *i < len(r.Interfaces) && r.Interfaces[*i].Name != nic {
			continue
		}
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		if a = a.Unmap(); a.Is4() && len(ip.Address.Mask) == net.IPv6len {
			return config.Invalid("prevResult: ips: %s: want an IPv4 address written as IPv4, with a prefix length of 32 at most", ip.Address.String())
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
			continue // no plugin of the suite reads it
		}
		if err := config.CheckHost(GatewayOf(route.GW)); err != nil {
			return config.Invalid("prevResult: routes: gw: %s: want the address of a router (%w)", route.GW, err)
		}
	}
	return nil
}

// GatewayOf returns a result's gateway. The address is not valid if there is none; some
// plugins write that as 0.0.0.0 or :: (route-override with flushgateway).
func GatewayOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || a.Unmap().IsUnspecified() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// output prints the result in the CNI version of the configuration.
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

// printed is [current.Result] in the form in which it is printed. The method of
// [current.Result] encodes the whole result three times to leave out an empty dns.
type printed struct {
	CNIVersion string               `json:"cniVersion,omitempty"`
	Interfaces []*current.Interface `json:"interfaces,omitempty"`
	IPs        []*current.IPConfig  `json:"ips,omitempty"`
	Routes     []*types.Route       `json:"routes,omitempty"`
	DNS        types.DNS            `json:"dns,omitzero"`
}

// AttachmentOf returns the attachment that a record belongs to.
func AttachmentOf(r records.Record) attachment.Attachment {
	return attachment.Attachment{Network: r.Network, ContainerID: r.ContainerID, IfName: r.IfName}
}
