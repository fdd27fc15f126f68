// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	coordinator "github.com/multihome/multihome/pkg/coordinator/keys"
	"github.com/multihome/multihome/pkg/netconf"
)

// Annotations of a pod that say where its addresses come from.
const (
	SubnetsAnnotation = "ipam.spidernet.io/subnets"
	SubnetAnnotation  = "ipam.spidernet.io/subnet"
	IPPoolsAnnotation = "ipam.spidernet.io/ippools"
	IPPoolAnnotation  = "ipam.spidernet.io/ippool"
	RoutesAnnotation  = "ipam.spidernet.io/routes"
)

// DefaultRouteNICAnnotation is the annotation of a pod that names the NIC with its default routes.
const DefaultRouteNICAnnotation = coordinator.DefaultRouteNICAnnotation

// Annotations of a namespace that say where the addresses of its pods come from.
const (
	DefaultIPv4Annotation = "ipam.spidernet.io/default-ipv4-ippool"
	DefaultIPv6Annotation = "ipam.spidernet.io/default-ipv6-ippool"
)

const (
	maxPools = 64  // of a list
	maxName  = 253 // bytes of a pattern
)

// What is right, for messages.
const (
	wantSubnets = `want such as [{"interface": "eth0", "ipv4": ["lan"]}, {"interface": "net1", "ipv4": ["storage"]}]`
	wantSubnet  = `want such as {"ipv4": ["lan"], "ipv6": ["lan6"]}`
	wantIPPools = `want such as [{"interface": "eth0", "ipv4": ["lan"]}, {"interface": "net1", "ipv4": ["storage", "spare-*"]}]`
	wantIPPool  = `want such as {"ipv4": ["lan", "spare-*"], "ipv6": ["lan6"]}`
	wantRoutes  = `want such as [{"dst": "10.7.0.0/16", "gw": "10.6.0.1"}]`
	wantNames   = `want such as ["lan", "spare-*"]`
)

func annotation(key string) string { return "annotation " + key + " of the pod" }

// entry is an entry of the annotations ippools and subnets, and what ippool and subnet are.
// Unknown fields are allowed.
type entry struct {
	Interface    string   `json:"interface"`
	IPv4         []string `json:"ipv4"`
	IPv6         []string `json:"ipv6"`
	CleanGateway *bool    `json:"cleangateway"`
}

func (e entry) check(want string) error {
	if len(e.IPv4)+len(e.IPv6) == 0 {
		return errors.New("it names neither ipv4 nor ipv6: " + want)
	}
	if e.Interface != "" && !isInterface(e.Interface) {
		return fmt.Errorf("interface %s: want the name of a NIC, such as net1", quote(e.Interface))
	}
	if err := checkPools(e.IPv4); err != nil {
		return err
	}
	return checkPools(e.IPv6)
}

// entries reads an annotation with an entry for each NIC: with the name of the interface in
// all entries, or in none.
func entries(what, text, want string) ([]entry, error) {
	var list []entry
	if err := decode(what, text, want, &list); err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: it has no entry: %s", what, want)
	}
	if len(list) > maxAttachments {
		return nil, fmt.Errorf("%s: %d entries: want at most %d", what, len(list), maxAttachments)
	}
	seen := map[string]int{}
	for i, e := range list {
		if err := e.check(want); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", what, i+1, err)
		}
		if (e.Interface == "") != (list[0].Interface == "") {
			return nil, fmt.Errorf("%s: want \"interface\" in all entries, or in none of them: entry %d differs from entry 1", what, i+1)
		}
		if former, ok := seen[e.Interface]; ok && e.Interface != "" {
			return nil, fmt.Errorf("%s: interface %s is in entries %d and %d: want it once", what, e.Interface, former, i+1)
		}
		seen[e.Interface] = i + 1
	}
	return list, nil
}

// entryOf returns the entry for a NIC. Entries without interfaces are for the pod's NICs in
// their order, eth0 first, whoever gives them their addresses.
func entryOf(what string, list []entry, all []Attachment, n *NIC) (entry, error) {
	i := place(all, n.Interface)
	var has []string
	for at, e := range list {
		if e.Interface == n.Interface || e.Interface == "" && at == i {
			return e, n.besides(what, list, all)
		}
		switch {
		case e.Interface != "":
			has = append(has, e.Interface)
		case at < len(all):
			has = append(has, all[at].Interface)
		}
	}
	return entry{}, fmt.Errorf("%s: it has no entry for %s, only for %s: want one for each NIC that gets its addresses here", what, n.Interface, few(has))
}

// besides refuses entries for a NIC that the pod hasn't, beside that of a NIC of which they are read.
// Of a network that only the node's files have, nobody knows which others these add.
func (n *NIC) besides(what string, list []entry, all []Attachment) error {
	if n.NAD == "" {
		return nil
	}
	for _, e := range list {
		if err := isOf(what, e.Interface, all); e.Interface != "" && err != nil {
			return err
		}
	}
	return nil
}

// isOf refuses a NIC that the pod hasn't.
func isOf(what, name string, all []Attachment) error {
	if place(all, name) >= 0 {
		return nil
	}
	var has []string
	for _, a := range all {
		has = append(has, a.Interface)
	}
	return fmt.Errorf("%s: %s: want one of the pod's NICs: %s", what, quote(name), few(has))
}

// isFor reports whether an annotation that isn't a list is for a NIC: the one that it names, or
// all of them.
func (e entry) isFor(name string) bool { return e.Interface == "" || e.Interface == name }

// single reads an annotation that is for all NICs, or for one that it names.
func single(what, text, want string) (entry, error) {
	var e *entry
	err := decode(what, text, want, &e)
	if err == nil && e == nil {
		err = fmt.Errorf("%s: null: %s", what, want)
	}
	if err != nil {
		return entry{}, err
	}
	if err := e.check(want); err != nil {
		return entry{}, fmt.Errorf("%s: %w", what, err)
	}
	return *e, nil
}

// source completes a NIC by the pools from which it gets addresses: those of the first source
// that is there, and of no other.
func source(pod PodFacts, namespace map[string]string, all []Attachment, n NIC, ipv4, ipv6 []string) (NIC, error) {
	var err error
	if n.Routes, err = podRoutes(pod); err != nil {
		return NIC{}, err
	}
	for _, from := range []func(PodFacts, []Attachment, *NIC) (bool, error){fromSubnets, fromSubnet, fromIPPools, fromIPPool} {
		if found, err := from(pod, all, &n); err != nil {
			return NIC{}, err
		} else if found {
			return n, nil
		}
	}
	if found, err := fromNamespace(pod.Namespace, namespace, &n); err != nil {
		return NIC{}, err
	} else if found {
		return n, nil
	}
	if len(ipv4)+len(ipv6) > 0 {
		n.IPv4Pools, n.IPv6Pools = ipv4, ipv6
		n.From = keys("default_ipv4_ippool", ipv4, "default_ipv6_ippool", ipv6) + " of network " + n.Network
		if n.NAD != "" {
			n.From = keys("default_ipv4_ippool", ipv4, "default_ipv6_ippool", ipv6) + " of NetworkAttachmentDefinition " + n.NAD
		}
		return n, nil
	}
	n.DefaultPools, n.From = true, "the pools with spec.default: true"
	return n, nil
}

// keys names those of two keys that have a list.
func keys(key4 string, ipv4 []string, key6 string, ipv6 []string) string {
	switch {
	case len(ipv6) == 0:
		return key4
	case len(ipv4) == 0:
		return key6
	}
	return key4 + " and " + key6
}

func fromIPPools(pod PodFacts, all []Attachment, n *NIC) (bool, error) {
	text, ok := pod.Annotations[IPPoolsAnnotation]
	if !ok {
		return false, nil
	}
	what := annotation(IPPoolsAnnotation)
	list, err := entries(what, text, wantIPPools)
	if err != nil {
		return false, err
	}
	e, err := entryOf(what, list, all, n)
	n.take(e, what)
	return true, err
}

func fromIPPool(pod PodFacts, all []Attachment, n *NIC) (bool, error) {
	text, ok := pod.Annotations[IPPoolAnnotation]
	if !ok {
		return false, nil
	}
	what := annotation(IPPoolAnnotation)
	e, err := single(what, text, wantIPPool)
	if err != nil {
		return false, err
	}
	if !e.isFor(n.Interface) {
		return false, n.besides(what, []entry{e}, all)
	}
	n.take(e, what)
	return true, nil
}

// take takes over what an annotation says of the NIC.
func (n *NIC) take(e entry, from string) {
	n.IPv4Pools, n.IPv6Pools, n.From = e.IPv4, e.IPv6, from
	if e.CleanGateway != nil {
		n.CleanGateway = *e.CleanGateway
	}
}

func fromNamespace(name string, annotations map[string]string, n *NIC) (bool, error) {
	lists := [2][]string{}
	for i, key := range []string{DefaultIPv4Annotation, DefaultIPv6Annotation} {
		text, ok := annotations[key]
		if !ok {
			continue
		}
		what := fmt.Sprintf("annotation %s of namespace %s", key, name)
		if err := decode(what, text, wantNames, &lists[i]); err != nil {
			return false, err
		}
		if err := checkPools(lists[i]); err != nil {
			return false, fmt.Errorf("%s: %w", what, err)
		}
	}
	if len(lists[0])+len(lists[1]) == 0 {
		return false, nil
	}
	n.IPv4Pools, n.IPv6Pools = lists[0], lists[1]
	n.From = fmt.Sprintf("annotation %s of namespace %s", keys(DefaultIPv4Annotation, lists[0], DefaultIPv6Annotation, lists[1]), name)
	return true, nil
}

// fromSubnets reads the annotation subnets.
func fromSubnets(pod PodFacts, all []Attachment, n *NIC) (bool, error) {
	text, ok := pod.Annotations[SubnetsAnnotation]
	if !ok {
		return false, nil
	}
	what := annotation(SubnetsAnnotation)
	list, err := entries(what, text, wantSubnets)
	if err != nil {
		return false, err
	}
	e, err := entryOf(what, list, all, n)
	if err != nil {
		return false, err
	}
	return true, n.takeSubnets(e, what)
}

// fromSubnet reads the annotation subnet, as fromSubnets does.
func fromSubnet(pod PodFacts, all []Attachment, n *NIC) (bool, error) {
	text, ok := pod.Annotations[SubnetAnnotation]
	if !ok {
		return false, nil
	}
	what := annotation(SubnetAnnotation)
	e, err := single(what, text, wantSubnet)
	if err != nil {
		return false, err
	}
	if !e.isFor(n.Interface) {
		return false, n.besides(what, []entry{e}, all)
	}
	return true, n.takeSubnets(e, what)
}

// takeSubnets takes over the subnets of an annotation: of each family the first one.
func (n *NIC) takeSubnets(e entry, what string) error {
	if err := e.subnets(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	e.IPv4, e.IPv6 = e.IPv4[:min(len(e.IPv4), 1)], e.IPv6[:min(len(e.IPv6), 1)]
	n.take(e, what)
	n.Subnets = true
	return nil
}

// subnets refuses patterns, which the names of subnets can't be.
func (e entry) subnets() error {
	for _, name := range slices.Concat(e.IPv4, e.IPv6) {
		if isPattern(name) {
			return fmt.Errorf("%s: want the name of a SpiderSubnet, not a pattern", quote(name))
		}
	}
	return nil
}

// podRoutes reads the annotation routes.
func podRoutes(pod PodFacts) ([]Route, error) {
	text, ok := pod.Annotations[RoutesAnnotation]
	if !ok {
		return nil, nil
	}
	what := annotation(RoutesAnnotation)
	var list []Route
	if err := decode(what, text, wantRoutes, &list); err != nil {
		return nil, err
	}
	if len(list) > maxRoutes {
		return nil, fmt.Errorf("%s: %d routes: want at most %d", what, len(list), maxRoutes)
	}
	for i, r := range list {
		dst := prefixOf(r.Dst)
		if !dst.IsValid() {
			return nil, fmt.Errorf("%s: entry %d: dst %s: want a CIDR, such as 10.7.0.0/16", what, i+1, quote(r.Dst))
		}
		gw, err := netip.ParseAddr(r.Gw)
		if err != nil || gw.Zone() != "" || gw.Is4In6() {
			return nil, fmt.Errorf("%s: entry %d: gw %s: want an address of the NIC's subnet, such as 10.6.0.1", what, i+1, quote(r.Gw))
		}
		if gw.Is4() != dst.Addr().Is4() {
			return nil, fmt.Errorf("%s: entry %d: dst %s and gw %s: want one family", what, i+1, r.Dst, r.Gw)
		}
	}
	return list, nil
}

// defaultRouteNIC reads the annotation default-route-nic: one of the pod's NICs.
func defaultRouteNIC(pod PodFacts, all []Attachment) (string, error) {
	name, ok := pod.Annotations[DefaultRouteNICAnnotation]
	if !ok {
		return "", nil
	}
	return name, isOf(annotation(DefaultRouteNICAnnotation), name, all)
}

// checkPools checks a list of pools or patterns of them.
func checkPools(list []string) error {
	if len(list) > maxPools {
		return fmt.Errorf("%d pools: want at most %d", len(list), maxPools)
	}
	for _, name := range list {
		if isPattern(name) {
			if _, err := path.Match(name, ""); err != nil || len(name) > maxName {
				return fmt.Errorf("pool %s: want a name, or a pattern with *, ? or [a-z]", quote(name))
			}
		} else if !netconf.IsSubdomain(name) {
			return fmt.Errorf("pool %s: want the name of a pool: lower case letters, digits, '-' and '.', with a letter or digit at both ends; or a pattern with *, ? or [a-z]", quote(name))
		}
	}
	return nil
}

func isPattern(name string) bool { return strings.ContainsAny(name, `*?[\`) }

// decode reads JSON that a person wrote. Its error quotes where it is wrong, and says what is
// right.
func decode(what, text, want string, into any) error {
	if len(text) > maxAnnotation {
		return tooLong(what, text)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return jsonError(what, text, want, err)
	}
	return nil
}

func tooLong(what, text string) error {
	return fmt.Errorf("%s: %d bytes: want at most %d", what, len(text), maxAnnotation)
}

// jsonError says where a text is wrong.
func jsonError(what, text, want string, err error) error {
	offset := len(text)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		offset = int(syntax.Offset) - 1
	case errors.As(err, &kind):
		offset = int(kind.Offset) - 1
		err = fmt.Errorf("want %s, not %s", kindName(kind.Type), kind.Value)
		if kind.Field != "" {
			err = fmt.Errorf("%q: %w", kind.Field, err)
		}
	}
	offset = max(0, min(offset, len(text)))
	before := text[:offset]
	line := strings.Count(before, "\n") + 1
	column := offset - strings.LastIndexByte(before, '\n')
	part := "of"
	if len(text) > quoteAtMost {
		part, text = "near", text[max(0, offset-quoteAtMost/2):min(len(text), offset+quoteAtMost/2)]
	}
	if text = strings.Join(strings.Fields(text), " "); strconv.CanBackquote(text) {
		text = "`" + text + "`"
	} else {
		text = strconv.Quote(text)
	}
	return fmt.Errorf("%s: line %d, column %d, %s %s: %w: %s", what, line, column, part, text, err, want)
}

// kindName says in JSON's words what a Go type holds.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	}
	return "an object"
}

const quoteAtMost = 80 // bytes of a text in a message

// quote quotes what a person wrote, of a long text the beginning.
func quote(text string) string {
	if len(text) > quoteAtMost {
		return strconv.Quote(text[:quoteAtMost]) + "..."
	}
	return strconv.Quote(text)
}

// few names the first three of a list, and says how many more there are.
func few(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}
