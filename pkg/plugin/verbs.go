// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/config"
	"github.com/multihome/multihome/pkg/kernel"
	"github.com/multihome/multihome/pkg/netns"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/records"
)

// asError returns the CNI error in err's chain.
func asError(err error) (*types.Error, bool) {
	var e *types.Error
	return e, errors.As(err, &e)
}

// prepare does the common part of ADD and CHECK: it returns the plan and the operations
// that lead to it.
func (p Plugin) prepare(t *Task, conf Conf) (netstate.Plan, []netstate.Op, error) {
	k, err := p.open(t.Netns, t.how.Gentle)
	if err != nil {
		return netstate.Plan{}, nil, err
	}
	t.Kernel = k
	if err := k.LockHost(false); err != nil {
		return netstate.Plan{}, nil, err
	}
	return t.plan(conf)
}

// plan observes, plans and compares.
func (t *Task) plan(conf Conf) (netstate.Plan, []netstate.Op, error) {
	var none netstate.Plan
	if err := conf.Observe(t); err != nil {
		return none, nil, err
	}
	t.Snapshot.Assume(t.earlier)
	plan, err := conf.Plan(&t.View)
	if err != nil {
		return none, nil, err
	}
	if err := t.Kernel.Complete(t.Snapshot, plan); err != nil {
		return none, nil, err
	}
	t.Snapshot.Assume(t.earlier) // Complete read the state before them
	if t.living {
		plan.WantMain(t.Snapshot)
	}
	if err := t.refuseNodes(); err != nil {
		return none, nil, err
	}
	ops, err := t.diff(plan)
	if err == nil {
		err = t.refuseTables(ops)
	}
	ops = slices.DeleteFunc(ops, func(op netstate.Op) bool {
		return t.how.Keep && op.After == nil || t.how.Leave != nil && t.how.Leave(op)
	})
	return plan, ops, err
}

// open opens both namespaces. It returns CNI's code 8 if the pod's namespace can't be
// opened. With gentle, it doesn't wait for the pod's lock.
func (p Plugin) open(netnsPath string, gentle bool) (*kernel.Namespaces, error) {
	if p.NodeOnly {
		return kernel.OpenHost()
	}
	open := kernel.Open
	if gentle {
		open = kernel.TryOpen
	}
	k, err := open(netnsPath)
	if errors.Is(err, netns.ErrNone) || errors.Is(err, netns.ErrOwn) {
		return nil, types.NewError(types.ErrInvalidNetNS, err.Error(), "")
	}
	return k, err
}

func (t *Task) close() {
	if t.Kernel != nil {
		t.Kernel.Close()
	}
	if t.unlock != nil {
		t.unlock()
	}
	if t.logFile != nil {
		_ = t.logFile.Close()
	}
}

// logDone logs a verb, its operations and the keys without effect.
func (t *Task) logDone(verb string, ops []netstate.Op) {
	for _, name := range t.ignored {
		t.Log.Warn("key without effect", "key", name)
	}
	if t.Log.Enabled(context.Background(), slog.LevelDebug) {
		for _, op := range ops {
			t.Log.Debug(verb, "op", op.String(), "why", op.Why)
		}
	}
	t.Log.Info(verb, "ops", len(ops))
}

func (p Plugin) add(args *skel.CmdArgs) error {
	t, raw, err := p.load(args)
	if err != nil {
		return err
	}
	conf, err := p.configure(t, raw)
	if err != nil {
		return err
	}
	if conf == nil {
		return t.output(t.result(netstate.Plan{}))
	}
	defer t.close()
	plan, ops, err := p.prepare(t, conf)
	if err != nil {
		return err
	}
	if c, ok := conf.(Prober); ok {
		if err := c.Probe(t); err != nil {
			return err
		}
	}
	plan, ops, fresh, err := p.make(t, conf, plan, ops)
	if err != nil {
		return err
	}
	if p.NodeOnly {
		plan = netstate.Plan{}
	}
	if err := t.output(t.result(plan)); err != nil {
		// The runtime doesn't learn of the attachment, so nothing of it may stay.
		return p.forget(t, fresh, t.Kernel.Undo(ops, fmt.Errorf("print result: %w", err)))
	}
	t.logDone("ADD", ops)
	return nil
}

// make writes the record and applies the operations that lead to the plan. It returns the
// plan and the operations that were applied in the end, and reports whether there was no
// record before.
func (p Plugin) make(t *Task, conf Conf, plan netstate.Plan, ops []netstate.Op) (netstate.Plan, []netstate.Op, bool, error) {
	record := conf.Record(&t.View, plan)
	fresh, err := p.record(t, record)
	if err != nil {
		return plan, nil, fresh, p.forget(t, fresh, err)
	}
	err = t.Kernel.Apply(ops)
	for tries := 0; kernel.Retryable(err) && tries < 3; tries++ {
		// Another process may have been faster, and its objects may be the wanted ones.
		t.Snapshot = netstate.NewSnapshot()
		if plan, ops, err = t.plan(conf); err == nil {
			err = t.Kernel.Apply(ops)
		}
	}
	if err != nil {
		return plan, nil, fresh, p.forget(t, fresh, err)
	}
	p.settle(t, record)
	if record != nil {
		if err := t.disown(record); err != nil {
			t.Log.Warn("record of a former pod", "error", err)
		}
	}
	return plan, ops, fresh, nil
}

// forget removes the record of an ADD that failed. It keeps a record that was there
// before, and one that DEL needs for changes that could not be undone.
func (p Plugin) forget(t *Task, fresh bool, err error) error {
	if !fresh || errors.Is(err, netstate.ErrNotUndone) {
		return err
	}
	if e := p.Records.Remove(t.Pod(), t.IfName); e != nil {
		return fmt.Errorf("%w; %w: %w", err, netstate.ErrNotUndone, e)
	}
	return err
}

// record writes the attachment's record and reports whether there was none before. It
// holds the record's lock until the task is closed: a DEL that has no pod namespace to
// wait for waits for this lock.
func (p Plugin) record(t *Task, r *records.Record) (fresh bool, err error) {
	if r == nil {
		return false, nil
	}
	r.Network, r.ContainerID, r.IfName, r.Netns = t.Network, t.ContainerID, t.IfName, t.Kernel.PodNetns(t.Netns)
	r.Former = former(t.Own, *r)
	if err := p.Records.Write(t.Pod(), *r); err != nil || p.NodeOnly {
		return t.Own == nil, err
	}
	t.unlock, err = p.Records.Hold(t.Pod(), t.IfName)
	return t.Own == nil, err
}

// former returns the parts of an earlier record that the new one doesn't name. DEL needs
// them until they are removed.
func former(own *records.Record, r records.Record) []records.Record {
	if own == nil {
		return nil
	}
	out := own.Former
	within := func(a, b []netip.Addr) bool {
		return !slices.ContainsFunc(a, func(addr netip.Addr) bool { return !slices.Contains(b, addr) })
	}
	same := own.Table == r.Table && own.Device == r.Device && own.MAC == r.MAC
	if own.Device != "" && (!same || !within(own.Addresses, r.Addresses) || !within(own.Node, r.Node)) {
		last := *own
		last.Former, last.MACs = nil, nil
		out = append([]records.Record{last}, out...)
	}
	return out
}

// settle writes the record again without the former parts, which are removed by now. An
// error is only logged: a record that names too much does no harm.
func (p Plugin) settle(t *Task, r *records.Record) {
	if r == nil || len(r.Former) == 0 {
		return
	}
	r.Former = nil
	if err := p.Records.Write(t.Pod(), *r); err != nil {
		t.Log.Warn("record", "error", err)
	}
}

// result returns the prevResult with the links that the plan makes and the MACs that it
// gives to other links.
func (t *Task) result(plan netstate.Plan) *current.Result {
	r := t.Prev
	if r == nil {
		r = &current.Result{CNIVersion: current.ImplementedSpecVersion}
	}
	for _, item := range plan.Present {
		l, ok := item.Object.(netstate.Link)
		if !ok {
			continue
		}
		sandbox := ""
		if item.NS == netstate.Pod {
			sandbox = t.Netns
		}
		i := findInterface(r, l.Name, sandbox != "")
		if i == nil && l.Type != "" {
			i = &current.Interface{Name: l.Name, Sandbox: sandbox}
			r.Interfaces = append(r.Interfaces, i)
		}
		if i != nil && l.MAC != (netstate.MAC{}) {
			i.Mac = l.MAC.String()
		}
	}
	return r
}

func findInterface(r *current.Result, name string, sandbox bool) *current.Interface {
	for _, i := range r.Interfaces {
		if i.Name == name && (i.Sandbox != "") == sandbox {
			return i
		}
	}
	return nil
}

func (p Plugin) check(args *skel.CmdArgs) error {
	t, raw, err := p.load(args)
	if err != nil {
		return err
	}
	conf, err := p.configure(t, raw)
	if err != nil || conf == nil {
		return err
	}
	defer t.close()
	t.Checking = true
	plan, ops, err := p.prepare(t, conf)
	if err != nil {
		return err
	}
	if conf.Record(&t.View, plan) != nil && t.Own == nil { // DEL and GC need the record
		_, err = p.Records.ReadOne(t.Pod(), t.IfName)
	}
	if len(ops) > 0 {
		err = errors.Join(&drift{ops}, err)
	}
	if err != nil {
		return err
	}
	t.logDone("CHECK", nil)
	return nil
}

// How says how Reconcile works.
type How struct {
	Dry     bool          // applies nothing
	Earlier []netstate.Op // with Dry: what it would have applied for other attachments of the pod
	Keep    bool          // removes nothing: the configuration may not be the newest
	// Gentle doesn't wait for another plugin that works on the pod: the error is
	// [netns.ErrBusy].
	Gentle bool
	// Living doesn't make an attachment anew of which nothing is left on the node, as after a
	// DEL whose chain goes on: the error is [ErrBare].
	Living bool
	// Leave returns true for operations that are not to be done. nil: all are.
	Leave func(netstate.Op) bool
}

// ErrBare is the error of Reconcile for an attachment that had neither its link nor
// its record on the node any more.
var ErrBare = errors.New("nothing of it is left on the node: a DEL may be at work")

// Reconcile repeats ADD for a living attachment, without probes on the wire, and returns
// the plan and the operations that it applied or, if it is dry, would apply. Standard input
// is the plugin's configuration with the prevResult of the attachment. Damaged defaults of
// the node are an error: what the pod has of the former ones stays. Lookups that missing routes led
// to end ([kernel.Namespaces.EndLookups]).
func (p Plugin) Reconcile(args *skel.CmdArgs, how How) (netstate.Plan, []netstate.Op, error) {
	t, raw, err := p.load(args)
	if err != nil {
		return netstate.Plan{}, nil, err
	}
	conf, err := p.Configure(raw, t.ContainerID)
	if err != nil || conf == nil {
		return netstate.Plan{}, nil, err
	}
	defer t.close()
	t.living, t.how, t.earlier = true, how, how.Earlier
	plan, ops, err := p.prepare(t, conf)
	if err == nil && how.Living {
		err = p.refuseBare(t, conf, plan)
	}
	if err == nil && !how.Dry {
		if plan, ops, _, err = p.make(t, conf, plan, ops); err == nil {
			if err := t.Kernel.EndLookups(ops); err != nil {
				t.Log.Warn("lookups of what is reached again", "error", err) // they end after seconds
			}
		}
	}
	return plan, ops, err
}

// refuseBare returns ErrBare for an attachment that should have a record or a link of the
// node, and has neither.
func (p Plugin) refuseBare(t *Task, conf Conf, plan netstate.Plan) error {
	wants := conf.Record(&t.View, plan) != nil
	for _, item := range plan.Present {
		l, ok := item.Object.(netstate.Link)
		if a, ours := attachment.ParseAlias(l.Alias); !ok || !ours || !a.SamePod(t.Attachment) || item.NS != netstate.Host {
			continue
		}
		if _, there := netstate.Get(t.Snapshot, netstate.Host, netstate.Link{Name: l.Name}); there {
			return nil
		}
		wants = true
	}
	if !wants {
		return nil
	}
	_, err := p.Records.ReadOne(t.Pod(), t.IfName)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrBare
	}
	return err
}

// drift is the error of CHECK. It names every object that differs from the plan.
type drift struct{ ops []netstate.Op }

func (d *drift) Error() string {
	var lines []string
	for _, op := range d.ops {
		switch {
		case op.Before == nil:
			lines = append(lines, fmt.Sprintf("%s: %s is missing", op.NS, netstate.Words(op.After)))
		case op.After == nil:
			lines = append(lines, fmt.Sprintf("%s: %s should not be there", op.NS, netstate.Words(op.Before)))
		default:
			lines = append(lines, fmt.Sprintf("%s: %s is %s, want %s", op.NS, op.After.Kind(), op.Before, op.After))
		}
	}
	return strings.Join(lines, "; ")
}

// del works without a prevResult and without a pod. It doesn't read the plugin's own
// keys: a configuration that was broken after ADD must not prevent the removal.
func (p Plugin) del(args *skel.CmdArgs) error {
	t, _, err := p.load(args)
	if t == nil {
		return err
	}
	defer t.close()
	t.Kernel, err = p.openLeaving(args.Netns)
	if err != nil {
		return err
	}
	return p.remove(t)
}

// remove removes everything that the task's attachment owns, and its record last. If the
// pod's namespace is gone and there was no record at first, a record that appears
// meanwhile belongs to a later ADD, and stays.
func (p Plugin) remove(t *Task) error {
	later := false
	if t.Kernel.Pod == nil && !p.NodeOnly { // NodeOnly plugins have locks of their own
		unlock, err := p.Records.Lock(t.Pod())
		if err != nil {
			return err
		}
		if later = unlock == nil; !later {
			defer unlock()
		}
	}
	if err := p.ObserveOwned(t); err != nil {
		return err
	}
	ops := p.Remove(&t.View)
	if err := t.Kernel.Remove(ops); err != nil {
		return err
	}
	t.logDone("DEL", ops)
	if later {
		return nil
	}
	return p.Records.Remove(t.Pod(), t.IfName)
}

// Release removes everything owned by an attachment whose pod is gone, as DEL does, but
// without a runtime that calls it.
func (p Plugin) Release(a attachment.Attachment) error {
	k, err := kernel.OpenHost()
	if err != nil {
		return err
	}
	defer k.Close()
	return p.remove(&Task{View: View{Attachment: a, Snapshot: netstate.NewSnapshot()}, Kernel: k, Log: slog.New(slog.DiscardHandler)})
}

// Readable filters the error of reading records. It drops an error about a file that is
// no record and names the file on standard error, which runtimes log: a runtime repeats a
// failed DEL for ever. It keeps an error of the file system ([fs.PathError]): there may
// be records that DEL needs.
func (t *Task) Readable(list []records.Record, err error) ([]records.Record, error) {
	if errors.As(err, new(*fs.PathError)) {
		return nil, err
	}
	if err != nil {
		t.Log.Warn("unreadable", "error", err)
		fmt.Fprintln(os.Stderr, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return list, nil
}

// openLeaving opens the node's namespace, and the pod's if it still exists.
func (p Plugin) openLeaving(netnsPath string) (*kernel.Namespaces, error) {
	if netnsPath == "" || p.NodeOnly {
		return kernel.OpenHost()
	}
	k, err := kernel.Open(netnsPath)
	if errors.Is(err, netns.ErrNone) || errors.Is(err, netns.ErrOwn) {
		return kernel.OpenHost()
	}
	return k, err
}

func (p Plugin) gc(args *skel.CmdArgs) error {
	t, raw, err := p.load(args)
	if err != nil {
		return err
	}
	valid, err := validAttachments(t.Network, raw)
	if err != nil {
		return err
	}
	defer t.close()
	if t.Kernel, err = kernel.OpenHost(); err != nil {
		return err
	}
	attachments, err := p.Attachments(t)
	errs := []error{err}
	for _, a := range attachments {
		if a.SameNetwork(t.Attachment) && !slices.ContainsFunc(valid, a.Same) {
			errs = append(errs, p.remove(&Task{View: View{Attachment: a, Snapshot: netstate.NewSnapshot()}, Kernel: t.Kernel, Log: t.Log}))
		}
	}
	// The lock keeps ADD out while GC looks for unused objects. If an ADD runs now,
	// the next GC looks for them.
	if locked, err := t.Kernel.TryLockHost(); !locked {
		return errors.Join(append(errs, err)...)
	}
	errs = append(errs, p.Records.Sweep())
	if p.Unused == nil {
		return errors.Join(errs...)
	}
	ops, err := p.Unused(t)
	return errors.Join(append(errs, err, t.Kernel.Remove(ops))...)
}

// validAttachments returns the list of living attachments.
func validAttachments(network string, raw map[string]json.RawMessage) ([]attachment.Attachment, error) {
	list, err := config.ValidAttachments(raw)
	var out []attachment.Attachment
	for _, a := range list {
		out = append(out, attachment.Attachment{Network: network, ContainerID: a.ContainerID, IfName: a.IfName})
	}
	return out, err
}

func (p Plugin) status(args *skel.CmdArgs) error {
	t, raw, err := p.load(args)
	if err != nil {
		return err
	}
	conf, err := p.Configure(raw, t.ContainerID)
	if errors.As(err, new(*Damage)) {
		err = nil // STATUS makes the node NotReady; ADD decides whether it needs them
	}
	if err != nil || conf == nil {
		return err
	}
	defer t.close()
	if t.Kernel, err = kernel.OpenHost(); err != nil {
		return notAvailable(err)
	}
	return notAvailable(conf.Status(t))
}

// notAvailable gives an error CNI's code 50: ADD can't be served.
func notAvailable(err error) error {
	if err == nil {
		return nil
	}
	return types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
}
