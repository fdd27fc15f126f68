// SPDX-License-Identifier: Apache-2.0

package defaults

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/multihome/multihome/controlplane/api/v2beta1"
	"github.com/multihome/multihome/pkg/netconf"
)

// Reasons of the condition Ready of a SpiderCoordinator.
const (
	Found      = "Found"      // True: the lists are what the sources say
	Missing    = "Missing"    // False: no source has a list
	Unreadable = "Unreadable" // False: a source can't be read, or what it says isn't understood
)

// Sources holds what was read of the cluster.
type Sources struct {
	ServiceCIDRs       Objects   // CIDRs of ServiceCIDRs
	Kubeadm            ConfigMap // kube-system/kubeadm-config
	ControllerManagers Objects   // words of the command lines of kube-controller-manager
	APIServers         Objects   // words of the command lines of kube-apiserver
	Nodes              Objects   // spec.podCIDRs
	CalicoPools        Objects   // CIDRs of the IPPools that give addresses to pods
	Cilium             ConfigMap // kube-system/cilium-config
	CiliumPools        Objects   // CIDRs of the CiliumPodIPPools
}

// Objects are those of one kind. Err says why they couldn't be read. A kind that the
// cluster doesn't have is empty.
type Objects struct {
	Items []Object
	Err   error
}

// Object is a name, and what the object says.
type Object struct {
	Name   string
	Values []string
}

// ConfigMap is one ConfigMap. Data is nil if it is absent; Err says why it couldn't be read.
type ConfigMap struct {
	Data map[string]string
	Err  error
}

const (
	kubeadmName = "ConfigMap kube-system/kubeadm-config"
	ciliumName  = "ConfigMap kube-system/cilium-config"
)

// Discover returns the status of a SpiderCoordinator of this spec and generation. A list of
// the last status stays as long as a source can't be read, or if no source has one any more.
// The condition's time is that of the last status, and zero if its status changed.
func Discover(spec netconf.ClusterCoordinator, s Sources, last v2beta1.SpiderCoordinatorStatus, generation int64) v2beta1.SpiderCoordinatorStatus {
	services, pods := services(spec, s), pods(spec, s, last)
	out := v2beta1.SpiderCoordinatorStatus{Phase: v2beta1.Synced, PodCIDRType: pods.kind}
	ready := metav1.Condition{Type: v2beta1.Ready, Status: metav1.ConditionTrue, Reason: Found, ObservedGeneration: generation}
	var faults, says []string
	for _, l := range []struct {
		finding
		into *[]string
		last []string
	}{{services, &out.ServiceCIDR, last.ServiceCIDR}, {pods.finding, &out.OverlayPodCIDR, last.OverlayPodCIDR}} {
		why := l.why()
		*l.into = l.list()
		kept := why != "" && len(l.last) > 0 && !slices.Equal(*l.into, l.last)
		if kept {
			why += "; the list of before stays"
			*l.into = slices.Clone(l.last)
		}
		if why != "" {
			faults = append(faults, why)
			ready.Status = metav1.ConditionFalse
			if len(l.unreadable) > 0 {
				ready.Reason = Unreadable
			} else if ready.Reason == Found {
				ready.Reason = Missing
			}
		}
		if !kept && (why == "" || len(l.from) > 0) {
			says = append(says, l.says())
		}
	}
	if len(faults) > 0 {
		out.Phase, out.Reason = v2beta1.NotReady, strings.Join(faults, "; ")
	}
	ready.Message = strings.Join(append(faults, says...), "; ")
	if was := meta.FindStatusCondition(last.Conditions, ready.Type); was != nil && was.Status == ready.Status {
		ready.LastTransitionTime = was.LastTransitionTime
	}
	out.Conditions = slices.DeleteFunc(slices.Clone(last.Conditions), func(c metav1.Condition) bool { return c.Type == ready.Type })
	out.Conditions = append(out.Conditions, ready)
	return out
}

// services finds the CIDRs of Services.
func services(spec netconf.ClusterCoordinator, s Sources) finding {
	f := finding{what: "service CIDRs", help: "fill spec.serviceCIDR"}
	if len(spec.ServiceCIDR) > 0 {
		f.add("spec.serviceCIDR", spec.ServiceCIDR, nil)
		return f
	}
	f.objects("ServiceCIDR", s.ServiceCIDRs)
	f.kubeadm(s.Kubeadm, "serviceSubnet")
	if len(f.cidrs) == 0 {
		f.arguments("kube-controller-manager", s.ControllerManagers, "--service-cluster-ip-range")
	}
	if len(f.cidrs) == 0 {
		f.arguments("kube-apiserver", s.APIServers, "--service-cluster-ip-range")
	}
	return f
}

type podFinding struct {
	finding
	kind string // whose network: cluster, calico, cilium, none; "" with an explicit list
}

// pods finds the CIDRs of the pods of the cluster's own network.
func pods(spec netconf.ClusterCoordinator, s Sources, last v2beta1.SpiderCoordinatorStatus) podFinding {
	f := podFinding{finding{what: "pod CIDRs", help: "fill spec.overlayPodCIDR, or set spec.podCIDRType to that of the cluster's network, or to none"}, spec.PodCIDRType}
	if len(spec.OverlayPodCIDR) > 0 {
		f.kind = ""
		f.add("spec.overlayPodCIDR", spec.OverlayPodCIDR, nil)
		return f
	}
	if auto := f.kind == "" || f.kind == "auto"; auto {
		f.unread(ciliumName, s.Cilium.Err)
		f.unread("Calico IPPool objects", s.CalicoPools.Err)
		switch {
		case s.Cilium.Data != nil:
			f.kind, f.unreadable = "cilium", nil
		case len(s.CalicoPools.Items) > 0:
			f.kind = "calico"
		case (last.PodCIDRType == "cilium" || last.PodCIDRType == "calico") && len(last.OverlayPodCIDR) > 0:
			// It may be on its way to another version. The cluster's pod CIDRs may be others.
			f.kind = last.PodCIDRType
		default:
			f.kind = "cluster"
			// Without any network of its own, as on a cluster of underlay NICs alone.
			f.none = "no source has any"
		}
	}
	switch f.kind {
	case "cilium":
		f.cilium(s)
	case "calico":
		f.objects("Calico IPPool", s.CalicoPools)
	case "none":
		f.none = "spec.podCIDRType is none"
	default:
		f.kubeadm(s.Kubeadm, "podSubnet")
		if len(f.cidrs) == 0 {
			f.arguments("kube-controller-manager", s.ControllerManagers, "--cluster-cidr")
		}
		if len(f.cidrs) == 0 {
			f.nodes(s.Nodes)
		}
		if f.none != "" && len(f.cidrs) == 0 && len(last.OverlayPodCIDR) > 0 {
			f.none = "" // there was one
		}
	}
	return f
}

// finding is one of the two lists.
type finding struct {
	what, help string // "service CIDRs", and what the user can do
	cidrs      []netip.Prefix
	from       []string // the sources that said them
	unreadable []string // the sources that couldn't be read, and why
	empty      []string // the sources without any
	none       string   // why an empty list is right
}

// list returns the CIDRs as text: IPv4 first, each once.
func (f finding) list() []string {
	slices.SortFunc(f.cidrs, netip.Prefix.Compare) // IPv4 first, then by address, then the larger
	var out []string
	for _, p := range slices.Compact(f.cidrs) {
		out = append(out, p.String())
	}
	return out
}

// why says why the list isn't what it should be, or "".
func (f finding) why() string {
	switch {
	case len(f.unreadable) > 0:
		return fmt.Sprintf("%s: %s: repair it, or %s", f.what, strings.Join(f.unreadable, "; "), f.help)
	case len(f.cidrs) == 0 && f.none == "":
		return fmt.Sprintf("no %s in %s: %s", f.what, strings.Join(f.empty, ", "), f.help)
	}
	return ""
}

// says says where the list comes from.
func (f finding) says() string {
	if len(f.cidrs) == 0 {
		return fmt.Sprintf("no %s: %s", f.what, f.none)
	}
	return fmt.Sprintf("%s of %s", f.what, strings.Join(f.from, " and "))
}

// unread notes an error of reading a source.
func (f *finding) unread(source string, err error) bool {
	if err == nil {
		return false
	}
	if why := fmt.Sprintf("%s: %.1000s", source, err); !slices.Contains(f.unreadable, why) {
		f.unreadable = append(f.unreadable, why)
	}
	return true
}

// add takes the CIDRs of a source: all, or none if one of them isn't understood.
func (f *finding) add(source string, texts []string, err error) {
	if f.unread(source, err) {
		return
	}
	var cidrs []netip.Prefix
	for _, t := range texts {
		p, err := parse(t)
		if f.unread(source, err) {
			return
		}
		cidrs = append(cidrs, p)
	}
	if len(cidrs) == 0 {
		f.empty = append(f.empty, source)
		return
	}
	f.cidrs = append(f.cidrs, cidrs...)
	f.from = append(f.from, source)
}

// objects takes the CIDRs of the objects of a kind.
func (f *finding) objects(kind string, o Objects) {
	if len(o.Items) == 0 {
		f.add(kind+" objects", nil, o.Err)
		return
	}
	var names, texts []string
	for _, i := range slices.SortedFunc(slices.Values(o.Items), func(a, b Object) int { return strings.Compare(a.Name, b.Name) }) {
		names, texts = append(names, i.Name), append(texts, i.Values...)
	}
	if more := len(names) - 3; more > 0 {
		names = append(names[:3], fmt.Sprintf("%d more", more))
	}
	f.add(kind+" "+strings.Join(names, ", "), texts, o.Err)
}

// kubeadm takes the CIDRs that kubeadm made the cluster with (kubeadm's API v1beta4,
// ClusterConfiguration, networking).
func (f *finding) kubeadm(c ConfigMap, key string) {
	var cluster struct {
		Networking map[string]any `json:"networking"`
	}
	err := c.Err
	if err == nil {
		if yaml.Unmarshal([]byte(c.Data["ClusterConfiguration"]), &cluster) != nil {
			err = fmt.Errorf("key ClusterConfiguration: want a ClusterConfiguration of kubeadm, as YAML")
		} else if v, ok := cluster.Networking[key]; ok && v != nil {
			if _, text := v.(string); !text {
				err = fmt.Errorf("key ClusterConfiguration: networking.%s: %.64q: want CIDRs such as 10.96.0.0/16", key, fmt.Sprint(v))
			}
		}
	}
	value, _ := cluster.Networking[key].(string)
	f.add(kubeadmName, split(value), err)
}

// arguments takes the CIDRs that a program was started with. Its Pods are named by the
// program alone: each node of the control plane has one.
func (f *finding) arguments(program string, pods Objects, flag string) {
	var texts []string
	for _, p := range pods.Items {
		texts = append(texts, split(argument(p.Values, flag))...)
	}
	f.add("arguments "+flag+" of "+program, texts, pods.Err)
}

// argument returns the value of a flag, the last if there are several, as the programs do.
// A word may be a whole command line, for a shell.
func argument(words []string, flag string) string {
	words = strings.Fields(strings.Join(words, " "))
	value := ""
	for i, w := range words {
		if v, ok := strings.CutPrefix(w, flag+"="); ok {
			value = v
		} else if w == flag && i+1 < len(words) {
			value = words[i+1]
		}
	}
	return strings.Trim(value, `"'`)
}

// nodes takes the CIDRs of the Nodes, and joins neighbours: a cluster of a thousand nodes
// gets a few.
func (f *finding) nodes(o Objects) {
	var texts []string
	for _, n := range o.Items {
		texts = append(texts, n.Values...)
	}
	before := len(f.cidrs)
	f.add("Node.spec.podCIDRs", texts, o.Err)
	f.cidrs = append(f.cidrs[:before:before], join(f.cidrs[before:])...)
}

// cilium takes the CIDRs of Cilium's IPAM mode. Its lists have spaces between the CIDRs
// (install/kubernetes/cilium/templates/cilium-configmap.yaml).
func (f *finding) cilium(s Sources) {
	mode := s.Cilium.Data["ipam"]
	switch {
	case s.Cilium.Err != nil || s.Cilium.Data == nil:
		f.add(ciliumName, nil, s.Cilium.Err)
	case mode == "kubernetes":
		f.nodes(s.Nodes)
	case mode == "multi-pool":
		f.objects("CiliumPodIPPool", s.CiliumPools)
	case mode == "cluster-pool" || mode == "cluster-pool-v2beta" || mode == "": // "" is Cilium's default, cluster-pool
		f.add(ciliumName, split(s.Cilium.Data["cluster-pool-ipv4-cidr"]+" "+s.Cilium.Data["cluster-pool-ipv6-cidr"]), nil)
	default:
		f.add(ciliumName, nil, fmt.Errorf("key ipam: %.64q: want one of cluster-pool, kubernetes, multi-pool", mode))
	}
}

// split returns the entries of a list that has commas or spaces between them.
func split(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(", \t\r\n", r) })
}

// parse reads a CIDR, or an address as the CIDR of it alone, and drops the bits of the host.
func parse(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return p, fmt.Errorf("%.64q: want a CIDR such as 10.96.0.0/16", text)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p.Bits() == 0 {
		return p, fmt.Errorf("%.64q: want no default route, but a CIDR such as 10.96.0.0/16", text)
	}
	return p.Masked(), nil
}

// join returns the fewest CIDRs that have the same addresses.
func join(cidrs []netip.Prefix) []netip.Prefix {
	sorted := slices.SortedFunc(slices.Values(cidrs), netip.Prefix.Compare)
	var out []netip.Prefix
	for _, p := range sorted {
		if n := len(out); n > 0 && out[n-1].Overlaps(p) { // the larger sorts first
			continue
		}
		out = append(out, p)
		for n := len(out); n > 1; n = len(out) {
			a, b := out[n-2], out[n-1]
			if a.Bits() != b.Bits() || a.Bits() == 1 || a.Addr().Is4() != b.Addr().Is4() {
				break
			}
			whole := netip.PrefixFrom(a.Addr(), a.Bits()-1).Masked()
			if whole.Addr() != a.Addr() || !whole.Contains(b.Addr()) {
				break
			}
			out = append(out[:n-2], whole)
		}
	}
	return out
}
