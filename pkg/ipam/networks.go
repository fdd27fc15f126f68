// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/multihome/multihome/pkg/netconf"
)

// Annotations by which a pod names its networks, as Multus reads them.
const (
	NetworksAnnotation       = "k8s.v1.cni.cncf.io/networks"
	DefaultNetworkAnnotation = "v1.multus-cni.io/default-network"
)

const (
	maxAnnotation  = 64 << 10 // bytes of an annotation
	maxConfig      = 1 << 20  // bytes of a NetworkAttachmentDefinition's config
	maxAttachments = 128      // networks of a pod
	maxInterface   = 15       // bytes: IFNAMSIZ without the zero

	firstInterface = "eth0" // what the kubelet and the runtimes ask for
)

// PodFacts is what is read of a pod.
type PodFacts struct {
	Namespace, Name     string
	Labels, Annotations map[string]string
	NodeName            string
	HostNetwork         bool
	Phase               string // of its status, such as Running
	Ordinal             *int   // of a StatefulSet's pod, nil of another one
	Start               int    // of that StatefulSet: the ordinal of its first pod
}

// Settings is what the nodes' configuration of Multus says of the networks of all pods
// (multus-cni, docs/configuration.md).
type Settings struct {
	// The network of the first NIC: the name of a NetworkAttachmentDefinition in
	// MultusNamespace, or of a network or a path in the nodes' files. Empty if Multus has
	// delegates instead, of which there may be one.
	ClusterNetwork string
	// Further networks of all pods, named in the same way. Multus reads them together with
	// ClusterNetwork only.
	DefaultNetworks []string
	MultusNamespace string // kube-system by default
	// Namespaces whose pods don't have DefaultNetworks; nil for kube-system alone.
	SystemNamespaces []string
	// NamespaceIsolation keeps pods from the networks of other namespaces, but for those of
	// GlobalNamespaces; nil for default alone.
	NamespaceIsolation bool
	GlobalNamespaces   []string
}

func (s Settings) multusNamespace() string {
	if s.MultusNamespace == "" {
		return "kube-system"
	}
	return s.MultusNamespace
}

func orElse(list []string, without string) []string {
	if list == nil {
		return []string{without}
	}
	return list
}

// Attachment is a network of a pod: Multus makes a NIC of each.
type Attachment struct {
	Interface string
	// The NetworkAttachmentDefinition. Both are empty if only the nodes' files have the
	// network.
	Namespace, Name string
	// OrFile says that Multus looks into the nodes' files if it can't use the
	// NetworkAttachmentDefinition.
	OrFile bool
	// What the pod asks for with "ips" and "mac". Nothing here reads it.
	IPs []string
	MAC string
}

// NAD returns NAMESPACE/NAME of the NetworkAttachmentDefinition, or "".
func (a Attachment) NAD() string {
	if a.Name == "" {
		return ""
	}
	return a.Namespace + "/" + a.Name
}

// Attachments returns the networks of a pod in the order in which Multus attaches them, the
// default network first. It reads the pod's annotations as Multus does (multus-cni 4.2.3,
// pkg/k8sclient and getIfname of pkg/multus), and its errors name what Multus or the CNI
// library refuses. A pod in the host's network, or one that is finished, has none.
func Attachments(pod PodFacts, s Settings) ([]Attachment, error) {
	if pod.HostNetwork || pod.Phase == "Succeeded" || pod.Phase == "Failed" {
		return nil, nil
	}
	all := []Attachment{s.common(s.ClusterNetwork)}
	if s.ClusterNetwork != "" && !slices.Contains(orElse(s.SystemNamespaces, "kube-system"), pod.Namespace) {
		for _, name := range s.DefaultNetworks {
			all = append(all, s.common(name))
		}
	}
	var gateways gatewayCount
	if text, ok := pod.Annotations[DefaultNetworkAnnotation]; ok {
		what := annotation(DefaultNetworkAnnotation)
		selected, err := selections(what, text, s.multusNamespace())
		if err != nil {
			return nil, err
		}
		if len(selected) != 1 {
			return nil, fmt.Errorf("%s: %s: it names %d networks: want one", what, quote(text), len(selected))
		}
		all[0] = selected[0].attachment()
		gateways.add(selected[0])
	}
	if text := pod.Annotations[NetworksAnnotation]; text != "" {
		what := annotation(NetworksAnnotation)
		selected, err := selections(what, text, pod.Namespace)
		if err != nil {
			return nil, err
		}
		for _, n := range selected {
			if s.NamespaceIsolation && n.Namespace != pod.Namespace && !slices.Contains(orElse(s.GlobalNamespaces, "default"), n.Namespace) {
				return nil, fmt.Errorf("%s: %s/%s: Multus isolates namespaces: want a network of namespace %s", what, n.Namespace, n.Name,
					strings.Join(append([]string{pod.Namespace}, orElse(s.GlobalNamespaces, "default")...), " or "))
			}
			all = append(all, n.attachment())
			gateways.add(n)
		}
		if gateways.v4 > 1 || gateways.v6 > 1 {
			return nil, fmt.Errorf("%s: more than one default-route of a family: Multus wants one", what)
		}
	}
	if len(all) > maxAttachments {
		return nil, fmt.Errorf("%s: the pod has %d networks: want at most %d", annotation(NetworksAnnotation), len(all), maxAttachments)
	}
	return all, nameInterfaces(all)
}

// common returns a network that all pods have (getNetDelegate of Multus' pkg/k8sclient).
func (s Settings) common(name string) Attachment {
	if name == "" || strings.Contains(name, "/") {
		return Attachment{OrFile: true}
	}
	return Attachment{Namespace: s.multusNamespace(), Name: name, OrFile: true}
}

// nameInterfaces gives names to the NICs that ask for none: eth0 to the first one, and netN
// to others, where N is the place among all networks of the pod. A name that is there twice
// is refused, as Multus finds the interface there already.
func nameInterfaces(all []Attachment) error {
	taken := map[string]bool{}
	for i := range all {
		a, what := &all[i], annotation(NetworksAnnotation)
		if i == 0 {
			what = annotation(DefaultNetworkAnnotation)
		}
		switch {
		case a.Interface != "":
			if !isInterface(a.Interface) {
				return fmt.Errorf("%s: interface %s of network %s: want 1 to %d bytes without blanks, '/' and ':'",
					what, quote(a.Interface), a.NAD(), maxInterface)
			}
		case i == 0:
			a.Interface = firstInterface
		default:
			a.Interface = "net" + strconv.Itoa(i)
		}
		if taken[a.Interface] || a.Interface == "lo" {
			return fmt.Errorf("%s: network %s gets interface %s, which the pod has already: want another name behind '@' or in \"interface\"",
				what, a.NAD(), a.Interface)
		}
		taken[a.Interface] = true
	}
	return nil
}

// isInterface reports whether the CNI library takes a name (pkg/utils, ValidateInterfaceName).
func isInterface(name string) bool {
	return name != "" && len(name) <= maxInterface && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return r == '/' || r == ':' || unicode.IsSpace(r) })
}

// selection is an element of the annotations (NetworkSelectionElement of Multus' pkg/types).
// It has all fields: Multus refuses a value of a wrong type in any of them.
type selection struct {
	Name                       string          `json:"name"`
	Namespace                  string          `json:"namespace"`
	IPRequest                  []string        `json:"ips"`
	MacRequest                 string          `json:"mac"`
	InfinibandGUIDRequest      string          `json:"infiniband-guid"`
	InterfaceRequest           string          `json:"interface"`
	DeprecatedInterfaceRequest string          `json:"interfaceRequest"`
	PortMappingsRequest        []*portMapping  `json:"portMappings"`
	BandwidthRequest           *bandwidth      `json:"bandwidth"`
	DeviceID                   string          `json:"deviceID"`
	CNIArgs                    *map[string]any `json:"cni-args"`
	GatewayRequest             *[]net.IP       `json:"default-route"`
}

type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

type bandwidth struct {
	IngressRate  int `json:"ingressRate"`
	IngressBurst int `json:"ingressBurst"`
	EgressRate   int `json:"egressRate"`
	EgressBurst  int `json:"egressBurst"`
}

func (n selection) attachment() Attachment {
	return Attachment{Interface: n.InterfaceRequest, Namespace: n.Namespace, Name: n.Name, IPs: n.IPRequest, MAC: n.MacRequest}
}

// gatewayCount counts default routes that networks ask for (CheckGatewayConfig of Multus'
// pkg/types).
type gatewayCount struct{ v4, v6 int }

func (c *gatewayCount) add(n selection) {
	if n.GatewayRequest == nil {
		return
	}
	for _, gw := range *n.GatewayRequest {
		if gw.To4() != nil {
			c.v4++
		} else {
			c.v6++
		}
	}
}

// nameInList is a namespace or a name in the list that isn't JSON.
var nameInList = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)

const wantNetworks = `want NAMESPACE/NAME@INTERFACE, of which NAME is enough, with commas between several; or JSON, such as [{"namespace": "kube-system", "name": "lan", "interface": "net1"}]`

// selections reads an annotation that names networks (parsePodNetworkAnnotation of Multus'
// pkg/k8sclient). The text is JSON if it has one of [ { ".
func selections(what, text, namespace string) ([]selection, error) {
	var list []*selection
	switch {
	case text == "":
		return nil, fmt.Errorf("%s: it is empty: %s", what, wantNetworks)
	case strings.ContainsAny(text, "[{\""):
		if err := decode(what, text, wantNetworks, &list); err != nil {
			return nil, err
		}
	case len(text) > maxAnnotation:
		return nil, tooLong(what, text)
	default:
		for item := range strings.SplitSeq(text, ",") {
			n, ok := parseSelection(strings.TrimSpace(item))
			if !ok {
				return nil, fmt.Errorf("%s: %s: %s", what, quote(item), wantNetworks)
			}
			list = append(list, &n)
		}
	}
	out := make([]selection, 0, len(list))
	for i, n := range list {
		if n == nil {
			return nil, fmt.Errorf("%s: entry %d is null: %s", what, i+1, wantNetworks)
		}
		if err := n.check(namespace); err != nil {
			return nil, fmt.Errorf("%s: entry %d: %w", what, i+1, err)
		}
		out = append(out, *n)
	}
	return out, nil
}

// parseSelection reads NAMESPACE/NAME@INTERFACE (parsePodNetworkObjectName of Multus'
// pkg/k8sclient).
func parseSelection(item string) (n selection, ok bool) {
	parts := strings.Split(item, "/")
	switch len(parts) {
	case 1:
	case 2:
		n.Namespace = strings.TrimSpace(parts[0])
	default:
		return n, false
	}
	parts = strings.Split(parts[len(parts)-1], "@")
	n.Name = strings.TrimSpace(parts[0])
	if len(parts) == 2 {
		n.InterfaceRequest = strings.TrimSpace(parts[1])
	}
	return n, len(parts) <= 2 && nameInList.MatchString(n.Name) && (n.Namespace == "" || nameInList.MatchString(n.Namespace)) &&
		len(n.InterfaceRequest) <= maxInterface && !strings.ContainsAny(n.InterfaceRequest, " \t\n\v\f\r/")
}

// check fills in the namespace, and refuses what Multus refuses, and names that no object has.
func (n *selection) check(namespace string) error {
	if n.Namespace == "" {
		n.Namespace = namespace
	}
	if n.InterfaceRequest == "" {
		n.InterfaceRequest = n.DeprecatedInterfaceRequest
	}
	if n.Name == "" {
		return errors.New(`it has no "name": want that of a NetworkAttachmentDefinition`)
	}
	if !netconf.IsSubdomain(n.Name) {
		return fmt.Errorf("name %s: want that of a NetworkAttachmentDefinition", quote(n.Name))
	}
	if !netconf.IsLabel(n.Namespace) {
		return fmt.Errorf("namespace %s: want the name of a namespace", quote(n.Namespace))
	}
	if _, err := net.ParseMAC(n.MacRequest); n.MacRequest != "" && err != nil {
		return fmt.Errorf("mac %s: want an address such as 0a:58:0a:06:00:0a", quote(n.MacRequest))
	}
	if _, err := net.ParseMAC(n.InfinibandGUIDRequest); n.InfinibandGUIDRequest != "" && err != nil {
		return fmt.Errorf("infiniband-guid %s: want a GUID such as c2:11:22:33:44:55:66:77", quote(n.InfinibandGUIDRequest))
	}
	for _, ip := range n.IPRequest {
		if _, _, err := net.ParseCIDR(ip); err != nil && net.ParseIP(ip) == nil {
			return fmt.Errorf("ips %s: want addresses such as 10.6.0.10/16", quote(ip))
		}
	}
	return nil
}

// ipamTypes are the names under which the IPAM plugin of this project is called.
var ipamTypes = []string{"spiderpool", "multihome-ipam", staticIPAM}

// conf is what a network's configuration says of addresses.
type conf struct {
	network       string // the name that plugins see
	ours          bool   // our plugin gives the addresses
	ipv4, ipv6    []string
	cleanGateway  bool
	masterSubnets bool // match_master_subnet
	// What the annotations vlan, static-ip and static-mac say of the NIC's addresses: whether
	// they do if the pod has them, or must.
	static, onlyStatic bool
}

// ipamConf has the keys of "ipam" that are read here.
type ipamConf struct {
	Type              string   `json:"type"`
	DefaultIPv4IPPool []string `json:"default_ipv4_ippool"` // or a single name, see listed
	DefaultIPv6IPPool []string `json:"default_ipv6_ippool"`
	CleanGateway      bool     `json:"clean_gateway"`
	MatchMasterSubnet bool     `json:"match_master_subnet"`
}

// cniPlugin is a plugin's configuration.
type cniPlugin struct {
	Type string          `json:"type"`
	IPAM json.RawMessage `json:"ipam"`
}

// readConfig reads the configuration of a NetworkAttachmentDefinition, a plugin or a list of
// them, as Multus does (GetCNIConfigFromSpec of network-attachment-definition-client, and
// LoadDelegateNetConf of Multus' pkg/types): without a "name", its name is that of the object.
func readConfig(object, config string) (conf, error) {
	if len(config) > maxConfig {
		return conf{}, fmt.Errorf("spec.config: %d bytes: want at most %d", len(config), maxConfig)
	}
	const want = `want a CNI configuration, such as {"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan", "master": "eth0", "ipam": {"type": "spiderpool"}}]}`
	var keys map[string]json.RawMessage
	var c struct {
		Name string `json:"name"`
		cniPlugin
		Plugins []*cniPlugin `json:"plugins"`
	}
	for _, into := range []any{&keys, &c} {
		if err := json.Unmarshal([]byte(config), into); err != nil {
			return conf{}, jsonError("spec.config", config, want, err)
		}
	}
	if keys == nil {
		return conf{}, fmt.Errorf("spec.config: %s: %s", quote(config), want)
	}
	out := conf{network: c.Name}
	// Multus looks for a key that is exactly "name". So does the CNI library in a list; in the
	// configuration of a plugin alone it takes "Name" as well.
	var exactly string
	if name := keys["name"]; name == nil || string(name) == `""` {
		out.network = object
	} else if c.Type == "" {
		if err := json.Unmarshal(name, &exactly); err != nil {
			return conf{}, jsonError("spec.config: name", string(name), want, err)
		}
		out.network = exactly
	}
	if !netconf.IsNetworkName(out.network) {
		return conf{}, fmt.Errorf("spec.config: name %s: want letters, digits, '_', '.' and '-', with a letter or digit first", quote(out.network))
	}
	plugins := c.Plugins
	if c.Type != "" {
		plugins = []*cniPlugin{&c.cniPlugin}
	}
	if len(plugins) == 0 {
		return conf{}, fmt.Errorf("spec.config: it has neither type nor plugins: %s", want)
	}
	for i, p := range plugins {
		if p == nil || p.Type == "" {
			return conf{}, fmt.Errorf("spec.config: plugins[%d] has no type", i)
		}
		if err := out.plugin(*p); err != nil {
			return conf{}, err
		}
	}
	return out, nil
}

// plugin reads "ipam" of a plugin.
func (c *conf) plugin(p cniPlugin) error {
	onlyStatic := p.Type == staticPlugin
	if p.IPAM == nil && onlyStatic {
		p.IPAM = json.RawMessage(`{"type": "` + staticIPAM + `"}`)
	}
	if p.IPAM == nil {
		return nil
	}
	// Other IPAM plugins may have these keys with other values.
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(p.IPAM, &kind); err != nil {
		return jsonError("spec.config: ipam of "+p.Type, string(p.IPAM), `want {"type": "spiderpool"}`, err)
	}
	if !slices.Contains(ipamTypes, kind.Type) {
		return nil
	}
	if c.ours {
		return fmt.Errorf("spec.config: ipam of %s: another plugin of the list has one, too: want one for the NIC", p.Type)
	}
	var i ipamConf
	text := listed(p.IPAM)
	if err := json.Unmarshal(text, &i); err != nil {
		return jsonError("spec.config: ipam of "+p.Type, string(text), `want {"type": "spiderpool", "default_ipv4_ippool": ["lan"]}`, err)
	}
	for _, list := range [][]string{i.DefaultIPv4IPPool, i.DefaultIPv6IPPool} {
		if err := checkPools(list); err != nil {
			return fmt.Errorf("spec.config: ipam of %s: %w", p.Type, err)
		}
	}
	*c = conf{
		c.network, true, i.DefaultIPv4IPPool, i.DefaultIPv6IPPool, i.CleanGateway, i.MatchMasterSubnet,
		onlyStatic || kind.Type == staticIPAM, onlyStatic,
	}
	return nil
}

// listed returns the keys of "ipam" with a list where the plugin also takes a single name of a pool.
func listed(ipam json.RawMessage) json.RawMessage {
	var keys map[string]json.RawMessage
	if json.Unmarshal(ipam, &keys) != nil {
		return ipam
	}
	single := false
	for _, key := range []string{"default_ipv4_ippool", "default_ipv6_ippool"} {
		if raw := keys[key]; len(raw) > 0 && raw[0] == '"' {
			keys[key], single = slices.Concat(json.RawMessage("["), raw, json.RawMessage("]")), true
		}
	}
	if !single {
		return ipam
	}
	out, err := json.Marshal(keys)
	if err != nil {
		return ipam
	}
	return out
}

// NIC is a NIC that wants addresses. It has the fields of v2beta1.EndpointNIC, so that one
// converts into the other.
type NIC struct {
	Interface     string
	NAD           string // NAMESPACE/NAME, "" if only the node's files have the network
	Network       string // the "name" of the CNI configuration
	From          string // where the pools come from, in words
	IPv4Pools     []string
	IPv6Pools     []string
	Subnets       bool // IPv4Pools and IPv6Pools are SpiderSubnets
	DefaultPools  bool
	CleanGateway  bool
	Routes        []Route // of the pod's annotation; AnswerRoutes says which are this NIC's
	MasterSubnets []string
	Static        *StaticNIC
	// DefaultRouteNIC is the NIC with the pod's default routes, by its annotation.
	DefaultRouteNIC string
}

// Intent is which NICs of a pod want addresses.
type Intent struct {
	NICs []NIC
	// Missing names NetworkAttachmentDefinitions that don't exist (yet): the pod can't start
	// without them, and its claim waits for them.
	Missing []string
	// Late names NICs that may want addresses, which turns out when their plugin asks: only
	// the node's files have the network, or the choice of pools depends on the node's port
	// (match_master_subnet). LateNIC serves them.
	Late []string
}

// NICs says which of a pod's networks want addresses from us, and from which pools.
// namespace has the annotations of the pod's namespace. configs has spec.config of the
// NetworkAttachmentDefinitions that exist, by NAMESPACE/NAME: only those of the attachments
// are read. The error is about the NetworkAttachmentDefinitions, or about annotations, if they
// concern a NIC of ours: another try leads to the same, until one of them is changed.
func NICs(pod PodFacts, namespace map[string]string, all []Attachment, configs map[string]string) (Intent, error) {
	var out Intent
	var static []int // in out.NICs
	for at, a := range all {
		config, exists := configs[a.NAD()]
		if !exists && !a.OrFile {
			if !slices.Contains(out.Missing, a.NAD()) {
				out.Missing = append(out.Missing, a.NAD())
			}
			continue
		}
		if !exists || config == "" {
			out.Late = append(out.Late, a.Interface)
			continue
		}
		c, err := readConfig(a.Name, config)
		switch {
		case err != nil && a.OrFile: // Multus goes on to the node's files
			out.Late = append(out.Late, a.Interface)
		case err != nil:
			return Intent{}, fmt.Errorf("NetworkAttachmentDefinition %s: %w", a.NAD(), err)
		case !c.ours:
		case c.onlyStatic || c.static && pod.Annotations[VLANAnnotation] != "":
			static = append(static, len(out.NICs))
			out.NICs = append(out.NICs, NIC{Interface: a.Interface, NAD: a.NAD(), Network: c.network, CleanGateway: c.cleanGateway || at > 0})
		case c.masterSubnets:
			out.Late = append(out.Late, a.Interface)
		default:
			n, err := source(pod, namespace, all, NIC{Interface: a.Interface, NAD: a.NAD(), Network: c.network, CleanGateway: c.cleanGateway}, c.ipv4, c.ipv6)
			if err != nil {
				return Intent{}, err
			}
			out.NICs = append(out.NICs, n)
		}
	}
	if len(out.NICs) > 0 {
		named, err := defaultRouteNIC(pod, all)
		if err != nil {
			return Intent{}, err
		}
		for i := range out.NICs {
			out.NICs[i].DefaultRouteNIC = named
		}
	}
	if len(out.Missing) > 0 { // nobody knows yet how many NICs the annotations are for
		return out, nil
	}
	return out, fromStatic(pod, out.NICs, static)
}

// Want is what a NIC's plugin asks for, as the node's agent reports it.
type Want struct {
	Interface     string
	Network       string
	IPv4Pools     []string // default_ipv4_ippool
	IPv6Pools     []string // default_ipv6_ippool
	CleanGateway  bool
	MasterSubnets []string
}

// LateNIC says from which pools a NIC gets addresses whose plugin asked for them.
func LateNIC(pod PodFacts, namespace map[string]string, all []Attachment, w Want) (NIC, error) {
	n := NIC{Interface: w.Interface, Network: w.Network, CleanGateway: w.CleanGateway, MasterSubnets: w.MasterSubnets}
	if i := place(all, w.Interface); i >= 0 {
		n.NAD = all[i].NAD()
	}
	var err error
	if n.DefaultRouteNIC, err = defaultRouteNIC(pod, all); err != nil {
		return NIC{}, err
	}
	for _, list := range [][]string{w.IPv4Pools, w.IPv6Pools} {
		if err := checkPools(list); err != nil {
			return NIC{}, fmt.Errorf("network %s: ipam: %w", w.Network, err)
		}
	}
	return source(pod, namespace, all, n, w.IPv4Pools, w.IPv6Pools)
}

// place returns which network of the pod has an interface, -1 if none has.
func place(all []Attachment, name string) int {
	return slices.IndexFunc(all, func(a Attachment) bool { return a.Interface == name })
}
