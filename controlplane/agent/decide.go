// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"net/netip"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/spool"
)

// observed is what is known of a pod: what was noted, what the API server said, and then the
// files, in the order of the fields.
type observed struct {
	uid      string
	known    bool   // it was withdrawn in this boot
	buriedAs string // the UID of its claim then, if it had one

	name     types.NamespacedName
	networks bool                    // it asks for further networks, so that it may get a claim
	lives    bool                    // the pod is bound to this node, and hasn't finished
	mirror   bool                    // it is a static pod, which may come back under its UID
	asked    bool                    // the controller asks for the UID, which has no claim
	claim    *v2beta1.SpiderEndpoint // nil if there is none for this UID
	ours     bool                    // the claim is of this node and machine
	serve    *spool.Pod              // what pods/<uid> is to be; nil for no file

	pod       *spool.Pod // of pods/<uid>, nil if there is none
	wants     []want
	sandboxes []sandbox
	// held is set if the spool was lost in this boot, and some namespace has an address
	// of the pod.
	held bool
}

// want is a NIC that an ADD waits for.
type want struct {
	spool.Want
	exists bool // the namespace is at its path
	before bool // in the pass before it wasn't
}

// sandbox is what an ADD left.
type sandbox struct {
	spool.Sandbox
	busy   bool // a process of a plugin works for it
	exists bool // the namespace is at its path
	has    bool // one of the addresses is in the namespace
	before bool // in the pass before it was quiet, too
}

// quiet reports whether it seems that nothing uses the sandbox's addresses any more. A DEL
// alone doesn't say so, because the interface may outlive it, nor does a namespace without
// the addresses, because an ADD may be about to set them, also one whose caller is gone.
func (s sandbox) quiet() bool {
	return !s.busy && !s.has && (s.Gone || !s.exists)
}

// gone reports whether nothing uses the addresses any more: it was quiet twice, as a mount may
// be seen late, or DEL and namespace say so both.
func (s sandbox) gone() bool {
	return s.quiet() && (s.before || s.Gone && !s.exists)
}

// verb is what an action does.
type verb string

const (
	remove   verb = "remove"   // the file name
	serve    verb = "serve"    // write pods/<uid>
	stop     verb = "stop"     // write pods/<uid> without addresses
	bury     verb = "bury"     // note that the pod was withdrawn in this boot
	withdraw verb = "withdraw" // write status.withdrawn of the claim
	note     verb = "note"     // remember that the sandbox or want with file name was quiet, and look again
	wait     verb = "wait"     // look again
)

// action is a step towards the wanted state.
type action struct {
	verb verb
	name string
}

// decide says what is to be done for a pod. After actions that change files it is to be
// asked again, with the files observed anew: what is done about sandboxes of a pod that is
// gone must rest on a look at them after the addresses were removed from pods/<uid>.
func decide(o observed) []action {
	if o.lives {
		return living(o)
	}
	if o.serves() {
		return []action{{verb: stop}}
	}
	var out []action
	for _, w := range o.wants {
		out = append(out, action{remove, w.File()})
	}
	for _, s := range o.sandboxes {
		switch {
		case s.gone():
			// In the other order a crash would leave a sandbox without its DEL.
			out = append(out, action{remove, s.File()}, action{remove, s.GoneFile()})
		case s.quiet():
			out = append(out, action{note, s.File()})
		default:
			out = append(out, action{wait, s.File()})
		}
	}
	if len(out) > 0 {
		return out
	}
	if o.held {
		return []action{{verb: wait}}
	}
	if (o.claim != nil || o.asked) && (!o.known || o.claim != nil && o.buriedAs != claimUID(o.claim)) {
		out = append(out, action{verb: bury})
	}
	switch {
	case o.claim != nil && o.ours && o.claim.Status.Withdrawn == nil:
		out = append(out, action{verb: withdraw})
	case o.pod != nil: // until now it kept the pod's name
		out = append(out, action{remove, spool.PodFile(o.uid)})
	}
	return out
}

// serves reports whether an ADD may find addresses.
func (o observed) serves() bool { return o.pod != nil && len(o.pod.NICs) > 0 }

// living decides for a pod that lives.
func living(o observed) []action {
	var out []action
	switch {
	case o.serve == nil && o.pod != nil:
		out = append(out, action{remove, spool.PodFile(o.uid)})
	case !reflect.DeepEqual(o.serve, o.pod):
		out = append(out, action{verb: serve})
	}
	for _, w := range o.wants {
		switch {
		case w.exists: // an ADD may wait
		case w.before:
			out = append(out, action{remove, w.File()})
		default:
			out = append(out, action{note, w.File()})
		}
	}
	for _, s := range o.sandboxes {
		switch {
		case s.exists || s.has:
			// It may be in use. What DEL left of it goes with the pod, or with the namespace.
		case s.gone():
			out = append(out, action{remove, s.File()}, action{remove, s.GoneFile()})
		default:
			out = append(out, action{note, s.File()})
		}
	}
	return out
}

// buried reports whether the pod is not to be served any more in this boot. A static pod
// comes back under its UID, but with another claim.
func (o observed) buried() bool {
	return o.known && (!o.mirror || o.claim != nil && o.buriedAs == claimUID(o.claim))
}

// claimUID returns the UID of a claim's object, "" for none.
func claimUID(c *v2beta1.SpiderEndpoint) string {
	if c == nil {
		return ""
	}
	return string(c.UID)
}

// anyIn reports whether one of a sandbox's addresses is in a list.
func anyIn(addresses []spool.Address, list []netip.Addr) bool {
	return slices.ContainsFunc(addresses, func(a spool.Address) bool {
		return slices.Contains(list, a.Address.Addr())
	})
}

// waits reports whether the living pod has a claim or an ADD that waits for addresses.
func (o observed) waits() bool {
	return o.serve != nil && (o.serve.Reason != "" || slices.ContainsFunc(o.wants, func(w want) bool {
		return !slices.ContainsFunc(o.serve.NICs, func(n spool.NIC) bool {
			return n.Interface == w.Interface && n.Network == w.Network
		})
	}))
}
