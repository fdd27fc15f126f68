// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go4.org/netipx"
)

// Annotations of an application's pods about its pools.
const (
	IPNumberAnnotation = "ipam.spidernet.io/ippool-ip-number"
	ReclaimAnnotation  = "ipam.spidernet.io/ippool-reclaim"
)

// AutoAnnotation is an annotation of a SpiderIPPool that is an application's. It says what for,
// as an AutoPool in JSON.
const AutoAnnotation = "multihome.io/auto-pool"

// ReclaimLabel is a label of an application's pool: false keeps it when the application is
// deleted.
const ReclaimLabel = "ipam.spidernet.io/ippool-reclaim"

// SubnetPool and the name of a SpiderSubnet stand for a pool in an IPAddress and in a claim,
// where an address comes straight from the subnet.
const SubnetPool = "subnet/"

const (
	wantNumber  = "want a number of addresses, such as 5, or how many more than replicas, such as +1"
	wantReclaim = "want true or false"
	mostNumber  = 1_000_000
)

// Application is what has pools of its own: a Deployment, a StatefulSet, ...
type Application struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid"`
}

// String names the application in messages.
func (a Application) String() string { return a.Kind + " " + a.Namespace + "/" + a.Name }

// AutoPool says what a pool of an application is for.
type AutoPool struct {
	Application Application `json:"application"`
	Interface   string      `json:"interface"`
	Subnet      string      `json:"subnet"`
	IPv6        bool        `json:"ipv6,omitempty"`
}

// AutoPoolOf reads the annotation of a pool; nil: it is no application's.
func AutoPoolOf(annotations map[string]string) *AutoPool {
	text, ok := annotations[AutoAnnotation]
	if !ok {
		return nil
	}
	var a AutoPool
	if json.Unmarshal([]byte(text), &a) != nil {
		return nil
	}
	return &a
}

// Annotation returns the annotation of the pool.
func (a AutoPool) Annotation() string {
	text, _ := json.Marshal(a) // of strings alone
	return string(text)
}

// Labels returns the labels of the pool. What a label can't hold is cut, with a hash behind it.
func (a AutoPool) Labels(cidr netip.Prefix, reclaim bool) map[string]string {
	gv := "v1"
	if a.Application.Group != "" {
		gv = a.Application.Group + "_v1"
	}
	family := "IPv4"
	if a.IPv6 {
		family = "IPv6"
	}
	out := map[string]string{
		"owner-spider-subnet":         a.Subnet,
		"owner-application-gv":        gv,
		"owner-application-kind":      a.Application.Kind,
		"owner-application-namespace": a.Application.Namespace,
		"owner-application-name":      a.Application.Name,
		"owner-application-uid":       a.Application.UID,
		"interface":                   a.Interface,
		"ip-version":                  family,
		"ippool-cidr":                 strings.NewReplacer(".", "-", ":", "-", "/", "-").Replace(cidr.String()),
		"ippool-reclaim":              strconv.FormatBool(reclaim),
	}
	labels := make(map[string]string, len(out))
	for key, value := range out {
		labels["ipam.spidernet.io/"+key] = label(value)
	}
	return labels
}

var labelValue = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)

// label makes a text the value of a label.
func label(text string) string {
	if text == "" || labelValue.MatchString(text) {
		return text
	}
	text, hash := objectName(text), hash(text)
	return strings.Trim(text[:min(len(text), 63-len(hash)-1)], "-.") + "-" + hash
}

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:4])
}

// objectName replaces what the name of an object can't have.
func objectName(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '.':
			return r
		}
		return '-'
	}, strings.ToLower(text))
}

// Name returns the name of the nth pool of an application for a NIC and a family, 1 for the
// first one: auto-APPLICATION-v4-NIC-GROUP, with the last group of the application's UID. Of
// the application's name it has what fits into 253 bytes.
func (a AutoPool) Name(nth int) string {
	family := "v4"
	if a.IPv6 {
		family = "v6"
	}
	end := "-" + family + "-" + objectName(a.Interface) + "-" + a.Application.UID[strings.LastIndexByte(a.Application.UID, '-')+1:]
	if nth > 1 {
		end += "-" + strconv.Itoa(nth)
	}
	app := objectName(a.Application.Name)
	app = app[:min(len(app), maxName-len("auto-")-len(end))]
	return "auto-" + strings.TrimRight(app, "-.") + end
}

// Number says how many addresses the pools of an application have.
type Number struct {
	N    int
	More bool // N more than replicas
}

// ParseNumber reads a number as the annotation ippool-ip-number has it.
func ParseNumber(text string) (Number, error) {
	digits, more := strings.CutPrefix(text, "+")
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strings.HasPrefix(digits, "+") || n > mostNumber {
		return Number{}, fmt.Errorf("%s: %s, at most %d", quote(text), wantNumber, mostNumber)
	}
	return Number{int(n), more}, nil
}

// String returns the number as the annotation has it.
func (n Number) String() string {
	if n.More {
		return "+" + strconv.Itoa(n.N)
	}
	return strconv.Itoa(n.N)
}

// Size returns how many addresses a pool has for so many replicas.
func (n Number) Size(replicas int) int {
	if n.More {
		return min(max(0, replicas), math.MaxInt32) + n.N
	}
	return n.N
}

// Spare returns how many addresses a pool has beyond replicas, 0 if it has less.
func (n Number) Spare(replicas int) int { return max(0, n.Size(replicas)-max(0, replicas)) }

// JobReplicas returns how many pods a Job has for the size of its pools: completions if they
// are given, else parallelism, else one; none counts as one.
func JobReplicas(completions, parallelism *int32) int {
	for _, n := range []*int32{completions, parallelism} {
		if n != nil {
			return max(1, int(*n))
		}
	}
	return 1
}

// PoolSettings are the settings of an application's pools.
type PoolSettings struct {
	Number  Number
	Reclaim bool // the pools go with the application
}

// ReadPoolSettings reads the annotations ippool-ip-number and ippool-reclaim of pods.
func ReadPoolSettings(annotations map[string]string, without Number) (PoolSettings, error) {
	out := PoolSettings{Number: without, Reclaim: true}
	if text, ok := annotations[IPNumberAnnotation]; ok {
		n, err := ParseNumber(text)
		if err != nil {
			return out, fmt.Errorf("%s: %w", annotation(IPNumberAnnotation), err)
		}
		out.Number = n
	}
	if text, ok := annotations[ReclaimAnnotation]; ok {
		reclaim, err := strconv.ParseBool(text)
		if err != nil {
			return out, fmt.Errorf("%s: %s: %s", annotation(ReclaimAnnotation), quote(text), wantReclaim)
		}
		out.Reclaim = reclaim
	}
	return out, nil
}

// WantsSubnets reports whether annotations of pods name subnets.
func WantsSubnets(annotations map[string]string) bool {
	_, many := annotations[SubnetsAnnotation]
	_, one := annotations[SubnetAnnotation]
	return many || one
}

// AutoPools returns which pools an application is to have, by the annotations of its pods: for
// each NIC and family one, from the first subnet that is named. all are the networks of the
// pods, nics those NICs of which it is known that they want addresses. An entry that names its
// NIC has pools, whatever else is known of the NIC, but not if nics are known and the pods haven't it;
// without any, the pods' first NIC counts.
func AutoPools(app Application, pod PodFacts, all []Attachment, nics []NIC) ([]AutoPool, error) {
	var out []AutoPool
	add := func(nic string, e entry) {
		for _, x := range []struct {
			subnets []string
			ipv6    bool
		}{{e.IPv4, false}, {e.IPv6, true}} {
			p := AutoPool{app, nic, "", x.ipv6}
			if len(x.subnets) > 0 && !slices.ContainsFunc(out, func(o AutoPool) bool { return o.Interface == nic && o.IPv6 == x.ipv6 }) {
				p.Subnet = x.subnets[0]
				out = append(out, p)
			}
		}
	}
	if text, ok := pod.Annotations[SubnetsAnnotation]; ok {
		list, err := entries(annotation(SubnetsAnnotation), text, wantSubnets)
		if err != nil {
			return nil, err
		}
		for i, e := range list {
			if err := e.subnets(); err != nil {
				return nil, fmt.Errorf("%s: %w", annotation(SubnetsAnnotation), err)
			}
			if err := isOf(annotation(SubnetsAnnotation), e.Interface, all); e.Interface != "" && len(nics) > 0 && err != nil {
				return nil, err
			}
			switch {
			case e.Interface != "":
				add(e.Interface, e)
			case i < len(all):
				add(all[i].Interface, e)
			}
		}
		return out, nil
	}
	text, ok := pod.Annotations[SubnetAnnotation]
	if !ok {
		return nil, nil
	}
	e, err := single(annotation(SubnetAnnotation), text, wantSubnet)
	if err != nil {
		return nil, err
	}
	if err := e.subnets(); err != nil {
		return nil, fmt.Errorf("%s: %w", annotation(SubnetAnnotation), err)
	}
	if err := isOf(annotation(SubnetAnnotation), e.Interface, all); e.Interface != "" && len(nics) > 0 && err != nil {
		return nil, err
	}
	switch {
	case e.Interface != "":
		nics = []NIC{{Interface: e.Interface}}
	case len(nics) == 0:
		nics = []NIC{{Interface: firstInterface}}
	}
	for _, n := range nics {
		add(n.Interface, e)
	}
	return out, nil
}

// Member is an address of an application's pool.
type Member struct {
	Addr netip.Addr
	Free bool // no pod has it, and none of an identity
}

// Resize says how a pool of so many addresses comes to be: how many more it needs, and which it
// gives back. Those that nobody may get any more go first, then the highest ones; only free
// ones go. may is what the pool may have.
func Resize(members []Member, size int, may *netipx.IPSet) (grow int, giveBack []netip.Addr) {
	var free []netip.Addr
	count := 0
	for _, m := range members {
		switch {
		case m.Free && !may.Contains(m.Addr):
			giveBack = append(giveBack, m.Addr)
			continue
		case m.Free:
			free = append(free, m.Addr)
		}
		count++
	}
	slices.SortFunc(giveBack, netip.Addr.Compare)
	slices.SortFunc(free, func(a, b netip.Addr) int { return b.Compare(a) })
	more := min(max(0, count-size), len(free))
	return max(0, size-count), append(giveBack, free[:more]...)
}
