// SPDX-License-Identifier: Apache-2.0

// Package guide checks what commands print, and what passes the wire, against what the users'
// guides print for the objects in examples/: docs/addresses.md, docs/fixed-addresses.md and
// docs/static-macvlan.md. Whoever applies these objects to a cluster checks it by the same:
//
//	err := guide.Subnets(3)(output of `kubectl get spidersubnet`)
//
// A check takes what the guides print, with the addresses of these. Its error says what is
// wanted instead.
package guide

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/multihome/multihome/pkg/testbed"
)

// column is a heading of a table: words with one space between them.
var column = regexp.MustCompile(`\S+(?: \S+)*`)

// table parses a table of kubectl: a map from headings to cells for each row.
func table(text string) []map[string]string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	headings := column.FindAllStringIndex(lines[0], -1)
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, h := range headings {
			end := len(line)
			if i+1 < len(headings) {
				end = min(end, headings[i+1][0])
			}
			row[lines[0][h[0]:h[1]]] = strings.TrimSpace(line[min(h[0], end):end])
		}
		rows = append(rows, row)
	}
	return rows
}

// cells compares rows with the wanted cells of each, which patterns describe. Rows may have
// more columns, and come in any order. Rows that are wanted alike fit the same patterns.
func cells(text string, want ...map[string]string) error {
	rows := table(text)
	var errs []error
	for _, w := range want {
		if !slices.ContainsFunc(rows, func(row map[string]string) bool { return fits(row, w) }) {
			errs = append(errs, fmt.Errorf("want a row with %s", inWords(w)))
		}
	}
	for _, row := range rows {
		if !slices.ContainsFunc(want, func(w map[string]string) bool { return fits(row, w) }) {
			errs = append(errs, fmt.Errorf("%s is not as wanted", row["NAME"]))
		}
	}
	if len(rows) != len(want) {
		errs = append(errs, fmt.Errorf("%d rows, want %d like %s", len(rows), len(want), inWords(want[0])))
	}
	return errors.Join(errs...)
}

func fits(row, want map[string]string) bool {
	for name, pattern := range want {
		cell, ok := row[name]
		if !ok || !regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(cell) {
			return false
		}
	}
	return true
}

// inWords prints wanted cells, in the order of their names.
func inWords(want map[string]string) string {
	var words []string
	for name, pattern := range want {
		words = append(words, name+" "+pattern)
	}
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// Empty wants no output.
func Empty(text string) error {
	if text != "" {
		return errors.New("want nothing")
	}
	return nil
}

// ReadyNodes wants so many nodes that are ready.
func ReadyNodes(count int) func(string) error {
	return func(text string) error {
		return cells(text, slices.Repeat([]map[string]string{{"STATUS": "Ready"}}, count)...)
	}
}

// WebPool wants the pool of docs/addresses.md.
func WebPool(text string) error {
	return cells(text, map[string]string{
		"NAME": "lan", "VERSION": "4", "SUBNET": `10\.6\.0\.0/16`, "ALLOCATED-IP-COUNT": "3", "TOTAL-IP-COUNT": "10", "DEFAULT": "false", "DISABLE": "false",
	})
}

// Subnets wants the two subnets, each with so many of its 10 addresses in pools.
func Subnets(allocated int) func(string) error {
	return func(text string) error {
		count := strconv.Itoa(allocated)
		return cells(text,
			map[string]string{"NAME": "subnet-test-ens192", "VERSION": "4", "SUBNET": `10\.6\.0\.1/16`, "ALLOCATED-IP-COUNT": count, "TOTAL-IP-COUNT": "10"},
			map[string]string{"NAME": "subnet-test-ens224", "VERSION": "4", "SUBNET": `10\.7\.0\.1/16`, "ALLOCATED-IP-COUNT": count, "TOTAL-IP-COUNT": "10"})
	}
}

// autoPool is the name of a pool of test-app.
var autoPool = regexp.MustCompile(`\bauto-test-app-v4-(eth0|net1)-([0-9a-f]{12})\b`)

// Pools wants the two pools of test-app, with so many addresses, of which pods have so many.
func Pools(allocated, total int) func(string) error {
	return func(text string) error {
		pool := func(nic, subnet string) map[string]string {
			return map[string]string{
				"NAME": "auto-test-app-v4-" + nic + "-[0-9a-f]{12}", "VERSION": "4", "SUBNET": subnet,
				"ALLOCATED-IP-COUNT": strconv.Itoa(allocated), "TOTAL-IP-COUNT": strconv.Itoa(total), "DEFAULT": "false", "DISABLE": "false",
			}
		}
		if err := cells(text, pool("eth0", `10\.6\.0\.1/16`), pool("net1", `10\.7\.0\.1/16`)); err != nil {
			return err
		}
		if names := autoPool.FindAllStringSubmatch(text, -1); names[0][2] != names[1][2] {
			return fmt.Errorf("want both pools to end with the same 12 digits")
		}
		return nil
	}
}

// PoolOf returns the name of the pool of a NIC of test-app, eth0 or net1, in what Pools takes.
func PoolOf(text, nic string) string {
	for _, m := range autoPool.FindAllStringSubmatch(text, -1) {
		if m[1] == nic {
			return m[0]
		}
	}
	return ""
}

// AppNICs are the NICs of test-app's pods, the nodes' NICs in their LANs, and the addresses of
// the LANs' subnets.
var AppNICs = []struct {
	Name, LAN string
	Subnet    Interval
}{
	{"eth0", "ens192", Interval{netip.MustParseAddr("10.6.168.171"), netip.MustParseAddr("10.6.168.180")}},
	{"net1", "ens224", Interval{netip.MustParseAddr("10.7.168.171"), netip.MustParseAddr("10.7.168.180")}},
}

// Interval is a range of addresses.
type Interval struct{ First, Last netip.Addr }

func (i Interval) String() string { return fmt.Sprintf("%s-%s", i.First, i.Last) }

// Has reports whether an address is in the range.
func (i Interval) Has(a netip.Addr) bool { return i.First.Compare(a) <= 0 && a.Compare(i.Last) <= 0 }

// addresses returns how many there are.
func (i Interval) addresses() int {
	n := 1
	for a := i.First; a != i.Last; a = a.Next() {
		n++
	}
	return n
}

// OneInterval returns the range that a pool's spec.ips has. It wants one interval of so many
// addresses of the subnet's.
func OneInterval(text string, size int, subnet Interval) (Interval, error) {
	want := fmt.Errorf("want one range of %d addresses of %s", size, subnet)
	var ranges []string
	if err := json.Unmarshal([]byte(text), &ranges); err != nil {
		return Interval{}, fmt.Errorf("%w: %w", want, err)
	}
	if len(ranges) != 1 {
		return Interval{}, want
	}
	a, b, _ := strings.Cut(ranges[0], "-")
	first, err1 := netip.ParseAddr(a)
	last, err2 := netip.ParseAddr(b)
	i := Interval{first, last}
	if err1 != nil || err2 != nil || !subnet.Has(first) || !subnet.Has(last) || last.Less(first) || i.addresses() != size {
		return Interval{}, want
	}
	return i, nil
}

// RunningPods wants so many running pods with different addresses of a range, none of which
// has one of the former names.
func RunningPods(count int, of Interval, former []string) func(string) error {
	return func(text string) error {
		want := map[string]string{"NAME": "test-app-.*", "READY": "1/1", "STATUS": "Running", "NODE": "node[12]"}
		if err := cells(text, slices.Repeat([]map[string]string{want}, count)...); err != nil {
			return err
		}
		var errs []error
		seen := map[string]string{}
		for _, row := range table(text) {
			if slices.Contains(former, row["NAME"]) {
				errs = append(errs, fmt.Errorf("%s: want a new pod", row["NAME"]))
			}
			if a, err := netip.ParseAddr(row["IP"]); err != nil || !of.Has(a) {
				errs = append(errs, fmt.Errorf("%s has %s: want an address of %s", row["NAME"], row["IP"], of))
			}
			if other := seen[row["IP"]]; other != "" {
				errs = append(errs, fmt.Errorf("%s and %s both have %s", other, row["NAME"], row["IP"]))
			}
			seen[row["IP"]] = row["NAME"]
		}
		return errors.Join(errs...)
	}
}

// link is what `ip a` prints of a link, as far as checks look at it.
type link struct {
	parent string // after the @
	mac    string
	inet   []netip.Prefix
}

var (
	linkLine  = regexp.MustCompile(`^\d+: ([^:@ ]+)(?:@([^: ]+))?:`)
	etherLine = regexp.MustCompile(`^ +link/ether (\S+)`)
	inetLine  = regexp.MustCompile(`^ +inet (\S+)`)
)

// links parses the output of `ip a` or `ip link`.
func links(text string) map[string]*link {
	out := map[string]*link{}
	current := &link{}
	for line := range strings.Lines(text) {
		if m := linkLine.FindStringSubmatch(line); m != nil {
			current = &link{parent: m[2]}
			out[m[1]] = current
		}
		if m := etherLine.FindStringSubmatch(line); m != nil {
			current.mac = m[1]
		}
		if m := inetLine.FindStringSubmatch(line); m != nil {
			if p, err := netip.ParsePrefix(m[1]); err == nil {
				current.inet = append(current.inet, p)
			}
		}
	}
	return out
}

// AddressOf returns the one IPv4 address of a link in the output of `ip a`.
func AddressOf(text, name string) (netip.Prefix, error) {
	if l := links(text)[name]; l != nil && len(l.inet) == 1 {
		return l.inet[0], nil
	}
	return netip.Prefix{}, fmt.Errorf("want a link %s with one IPv4 address in:\n%s", name, text)
}

// Shown is a command of a guide, and the check of its output.
type Shown struct {
	Command string
	Check   func(string) error
}

// InPod returns what docs/fixed-addresses.md runs in a pod of test-app. Its NICs have these
// addresses, its node has that one.
func InPod(eth0, net1 netip.Prefix, node netip.Addr) []Shown {
	toNode := node.String() + " dev veth0"
	services := "10.96.0.0/12 via " + toNode
	return []Shown{
		{"ip a", twoNICs(eth0, net1)},
		{"ip r show", lines("default via 10.6.0.1 dev eth0", "10.6.0.0/16 dev eth0", toNode, services)},
		{"ip rule show", lines("from "+net1.Addr().String()+" lookup 100", "from all to "+net1.String()+" lookup 100")},
		{"ip route show table 100", lines("default via 10.7.0.1 dev net1", toNode, "10.7.0.0/16 dev net1", services)},
	}
}

// twoNICs wants the pod's NICs with these addresses, and veth0 without any.
func twoNICs(eth0, net1 netip.Prefix) func(string) error {
	return func(text string) error {
		return errors.Join(nic(text, "eth0", eth0), nic(text, "net1", net1), nic(text, "veth0"))
	}
}

// nic wants a link with exactly these IPv4 addresses.
func nic(text, name string, want ...netip.Prefix) error {
	l := links(text)[name]
	if l == nil || !slices.Equal(l.inet, want) {
		return fmt.Errorf("want a link %s with the IPv4 addresses %v", name, want)
	}
	return nil
}

// StaticNIC wants net1 with an address, and with the MAC, if one is given.
func StaticNIC(address netip.Prefix, mac string) func(string) error {
	return func(text string) error {
		err := nic(text, "net1", address)
		if l := links(text)["net1"]; err == nil && mac != "" && l.mac != mac {
			return fmt.Errorf("net1 has the MAC %s, want %s", l.mac, mac)
		}
		return err
	}
}

// OnParent wants a link on a parent.
func OnParent(name, parent string) func(string) error {
	return func(text string) error {
		if l := links(text)[name]; l == nil || l.parent != parent {
			return fmt.Errorf("want a link %s@%s", name, parent)
		}
		return nil
	}
}

var priority = regexp.MustCompile(`^\d+:\s+`)

// lines wants a line that begins with each of these words: routes or rules of ip. What
// follows is its attributes.
func lines(want ...string) func(string) error {
	return func(text string) error {
		var errs []error
		for _, w := range want {
			found := false
			for line := range strings.Lines(text) {
				line = priority.ReplaceAllString(strings.TrimSpace(line), "")
				found = found || line == w || strings.HasPrefix(line, w+" ")
			}
			if !found {
				errs = append(errs, fmt.Errorf("want a line %q", w))
			}
		}
		return errors.Join(errs...)
	}
}

// VLANSubnet wants the VLANSubnet of the guide.
func VLANSubnet(text string) error {
	return cells(text, map[string]string{"NAME": `mv1\.100`, "MASTER": "eth0", "CIDR": `192\.168\.1\.0/24`})
}

// The address and the MAC of samplepod1 in docs/static-macvlan.md.
var (
	StaticAddress = netip.MustParsePrefix("192.168.1.100/24")
	StaticMAC     = "0a:00:27:00:00:00"
)

var staticCIDR = netip.MustParsePrefix("192.168.1.0/24")

// WithoutVLAN returns the guide's VLANSubnet without its VLAN, for kernels that have none. The
// link that pods get on the node is a macvlan then.
func WithoutVLAN(vlanSubnet string) (string, error) {
	const vlan = "  vlan: 100\n"
	without := strings.Replace(vlanSubnet, vlan, "", 1)
	if without == vlanSubnet {
		return "", fmt.Errorf("want a line %q in:\n%s", vlan, vlanSubnet)
	}
	return without, nil
}

// StaticPods returns the address of samplepod2. It wants the StaticPods of two pods with these
// UIDs; the address is none of the network, the broadcast and samplepod1.
func StaticPods(text, uid1, uid2 string) (netip.Prefix, error) {
	err := cells(text,
		map[string]string{"NAME": "samplepod1", "VLAN": `mv1\.100`, "POD-ID": uid1, "IP": regexp.QuoteMeta(StaticAddress.String()), "MAC": StaticMAC},
		map[string]string{"NAME": "samplepod2", "VLAN": `mv1\.100`, "POD-ID": uid2, "IP": `192\.168\.1\.\d+/24`})
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, row := range table(text) {
		if row["NAME"] != "samplepod2" {
			continue
		}
		p, err := netip.ParsePrefix(row["IP"])
		last := staticCIDR.Addr().As4()
		last[3] = 255
		if err != nil || !staticCIDR.Contains(p.Addr()) || slices.Contains([]netip.Addr{staticCIDR.Addr(), netip.AddrFrom4(last), StaticAddress.Addr()}, p.Addr()) {
			return netip.Prefix{}, fmt.Errorf("samplepod2 has %s: want an address of a host in %s that is free", row["IP"], staticCIDR)
		}
		return p, nil
	}
	return netip.Prefix{}, errors.New("want samplepod2")
}

// OnWire wants frames of two addresses in both directions on the wires of a LAN, and none on
// those of another one. lanOf returns the LAN of the link by which a frame passed, "" for a
// link outside of the LANs.
func OnWire(frames []testbed.Frame, lanOf func(link string) string, lan string, a, b netip.Addr) error {
	there, back := 0, 0
	for _, f := range frames {
		src, dst := f.Src.Addr(), f.Dst.Addr()
		if src != a && src != b || dst != a && dst != b {
			continue
		}
		switch on := lanOf(f.Link); {
		case on == "":
		case on != lan:
			return fmt.Errorf("a frame is in the LAN of %s, want %s: %s", on, lan, f)
		case src == a:
			there++
		default:
			back++
		}
	}
	if there == 0 || back == 0 {
		return fmt.Errorf("%d frames from %s to %s and %d back in the LAN of %s: want some of each", there, a, b, back, lan)
	}
	return nil
}
