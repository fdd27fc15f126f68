// SPDX-License-Identifier: Apache-2.0

package hostile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/lab"
)

// TestBadInput gives ADD and CHECK input that they must refuse, with a CNI error on
// standard output, exit status 1, and everything as it was.
func TestBadInput(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	dir := t.TempDir()
	fifo, file := filepath.Join(dir, "fifo"), filepath.Join(dir, "file")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stdin := func(text string) func(fixture.Call) fixture.Call {
		return func(c fixture.Call) fixture.Call { c.Stdin = []byte(text); return c }
	}
	conf := func(over fixture.Keys) func(fixture.Call) fixture.Call {
		return func(c fixture.Call) fixture.Call { c.Stdin = s.WebNIC.Config(over); return c }
	}
	env := func(name, value string) func(fixture.Call) fixture.Call {
		return func(c fixture.Call) fixture.Call { return c.With(name, value) }
	}
	prev := func(part string) func(fixture.Call) fixture.Call { // a prevResult with one part replaced
		return func(c fixture.Call) fixture.Call {
			var over map[string]any
			if err := json.Unmarshal([]byte(part), &over); err != nil {
				t.Fatal(err)
			}
			b, err := json.Marshal(s.WebNIC.Prev)
			if err != nil {
				t.Fatal(err)
			}
			result := map[string]any{}
			if err := json.Unmarshal(b, &result); err != nil {
				t.Fatal(err)
			}
			for key, value := range over {
				result[key] = value
			}
			c.Stdin = s.WebNIC.Config(fixture.Keys{"prevResult": result})
			return c
		}
	}
	before := s.State(t)
	for _, bad := range []struct {
		name string
		make func(fixture.Call) fixture.Call
		code uint
		says string
	}{
		{"nothing", stdin(""), types.ErrDecodingFailure, ""},
		{"garbage", stdin("\x00\xff garbage"), types.ErrDecodingFailure, ""},
		{"half a configuration", stdin(`{"cniVersion": "1.1.0", "name": "lan"`), types.ErrDecodingFailure, ""},
		{"a list", stdin(`[]`), types.ErrDecodingFailure, ""},
		{"null", stdin(`null`), types.ErrInvalidNetworkConfig, "name"},
		{"a configuration with something behind", stdin(string(s.WebNIC.Config()) + "x"), types.ErrDecodingFailure, ""},
		{"no name", conf(fixture.Keys{"name": nil}), types.ErrInvalidNetworkConfig, "name"},
		{"a name that is none", conf(fixture.Keys{"name": 5}), types.ErrDecodingFailure, "name"},
		{"a name with a slash", conf(fixture.Keys{"name": "a/b"}), types.ErrInvalidNetworkConfig, ""},
		{"a version of the future", conf(fixture.Keys{"cniVersion": "9.0.0"}), types.ErrIncompatibleCNIVersion, ""},
		{"a version that is none", conf(fixture.Keys{"cniVersion": "x"}), 0, ""},
		{"no prevResult", conf(fixture.Keys{"prevResult": nil}), types.ErrInvalidNetworkConfig, "prevResult: missing"},
		{"prevResult null", conf(fixture.Keys{"prevResult": json.RawMessage("null")}), types.ErrInvalidNetworkConfig, "prevResult: missing"},
		{"a prevResult that is none", conf(fixture.Keys{"prevResult": "x"}), types.ErrDecodingFailure, "prevResult"},
		{"an empty prevResult", conf(fixture.Keys{"prevResult": fixture.Keys{}}), 0, "prevResult"},
		{"no interfaces", prev(`{"interfaces": []}`), types.ErrInvalidNetworkConfig, "prevResult: interfaces: empty"},
		{"no addresses", prev(`{"ips": []}`), types.ErrInvalidNetworkConfig, "prevResult: ips: empty"},
		{"an address without its length", prev(`{"ips": [{"address": "10.6.168.171"}]}`), types.ErrDecodingFailure, "prevResult"},
		{"no address in ips", prev(`{"ips": [{"interface": 0}]}`), 0, "prevResult"},
		{"an address of an interface that is not there", prev(`{"ips": [{"address": "10.6.168.171/16", "interface": 1}]}`), types.ErrInvalidNetworkConfig, "prevResult: ips: 10.6.168.171/16: interface: 1"},
		{"an address of a negative interface", prev(`{"ips": [{"address": "10.6.168.171/16", "interface": -1}]}`), types.ErrInvalidNetworkConfig, "prevResult: ips: 10.6.168.171/16: interface: -1"},
		{"an address that the NIC lacks", prev(`{"ips": [{"address": "10.6.168.199/16", "interface": 0}]}`), 0, "10.6.168.199"},
		{"the unspecified address", prev(`{"ips": [{"address": "0.0.0.0/0", "interface": 0}]}`), types.ErrInvalidNetworkConfig, "prevResult: ips: 0.0.0.0/0: want the address of a NIC"},
		{"a loopback address", prev(`{"ips": [{"address": "127.0.0.1/8"}]}`), types.ErrInvalidNetworkConfig, "prevResult: ips: 127.0.0.1/8: want the address of a NIC"},
		{"IPv4 as IPv6", prev(`{"ips": [{"address": "::ffff:10.6.168.171/112", "interface": 0}]}`), types.ErrInvalidNetworkConfig, "want an IPv4 address written as IPv4"},
		{"a multicast gateway", prev(`{"ips": [{"address": "10.6.168.171/16", "gateway": "224.0.0.1", "interface": 0}]}`), types.ErrInvalidNetworkConfig, "prevResult: ips: gateway: 224.0.0.1: want the address of a router"},
		{"a loopback gateway", prev(`{"ips": [{"address": "fd00:6::171/64", "gateway": "::1", "interface": 0}]}`), types.ErrInvalidNetworkConfig, "prevResult: ips: gateway: ::1"},
		{"a default route by the broadcast address", prev(`{"routes": [{"dst": "0.0.0.0/0", "gw": "255.255.255.255"}]}`), types.ErrInvalidNetworkConfig, "prevResult: routes: gw: 255.255.255.255"},
		{"interfaces null", prev(`{"interfaces": [null]}`), types.ErrInvalidNetworkConfig, "prevResult: interfaces"}, // DEFECT
		{"ips null", prev(`{"ips": [null]}`), types.ErrInvalidNetworkConfig, "prevResult: ips"},                      // DEFECT

		{"no netns", env("CNI_NETNS", ""), types.ErrInvalidEnvironmentVariables, "CNI_NETNS"},
		{"a netns that is gone", env("CNI_NETNS", filepath.Join(dir, "none")), types.ErrInvalidNetNS, filepath.Join(dir, "none")},
		{"a file for a netns", env("CNI_NETNS", file), types.ErrInvalidNetNS, file},
		{"a FIFO for a netns", env("CNI_NETNS", fifo), types.ErrInvalidNetNS, fifo},
		{"a directory for a netns", env("CNI_NETNS", dir), types.ErrInvalidNetNS, dir},
		{"another sort of namespace", env("CNI_NETNS", "/proc/self/ns/mnt"), types.ErrInvalidNetNS, "/proc/self/ns/mnt"},
		{"the node's own netns", env("CNI_NETNS", s.Node.Path()), types.ErrInvalidNetNS, ""},

		{"no NIC of that name", env("CNI_IFNAME", "net7"), 0, "net7"},
		{"no first NIC of that name", func(c fixture.Call) fixture.Call {
			c.Stdin = s.WebNIC.Config(fixture.Keys{"podDefaultCNINIC": "net7"})
			return c.With("CNI_IFNAME", "net7")
		}, 0, "link net7: no such device"},
		{"no interface name", env("CNI_IFNAME", ""), types.ErrInvalidEnvironmentVariables, "CNI_IFNAME"},
		{"an interface name of 16 bytes", env("CNI_IFNAME", "sixteen-bytes-16"), types.ErrInvalidEnvironmentVariables, ""},
		{"an interface name with a slash", env("CNI_IFNAME", "net/1"), types.ErrInvalidEnvironmentVariables, ""},
		{"an interface name with a space", env("CNI_IFNAME", "net 1"), types.ErrInvalidEnvironmentVariables, ""},
		{"an interface called ..", env("CNI_IFNAME", ".."), types.ErrInvalidEnvironmentVariables, ""},
		{"no container ID", env("CNI_CONTAINERID", ""), types.ErrInvalidEnvironmentVariables, "CNI_CONTAINERID"},
		{"a container ID that is a path", env("CNI_CONTAINERID", "../web"), types.ErrInvalidEnvironmentVariables, ""},

		{"an unknown key", conf(fixture.Keys{"serviceCDIR": "10.96.0.0/12"}), types.ErrInvalidNetworkConfig, `unknown key "serviceCDIR": the nearest known one is "serviceCIDR"`},
		{"a key of the bridge plugin", conf(fixture.Keys{"ipMasq": true}), types.ErrInvalidNetworkConfig, `unknown key "ipMasq": it is another plugin's: put it into the configuration of the plugin bridge or ptp`},
		{"a key of whoever makes the NIC", conf(fixture.Keys{"mtu": 1500}), types.ErrInvalidNetworkConfig, `put it into the configuration of the plugin that makes the NIC`},
		{"a key in two spellings", conf(fixture.Keys{"mode": "underlay", "MODE": "overlay"}), types.ErrInvalidNetworkConfig, `another spelling of the same key`},
		{"a value in two spellings of its key", conf(fixture.Keys{"mode": "underlay", "MODE": "underlay"}), types.ErrInvalidNetworkConfig, `another spelling of the same key`},
		{"a key twice", stdin(strings.Replace(string(s.WebNIC.Config(fixture.Keys{"mode": "auto"})), `"mode":"auto"`, `"mode":"auto","mode":"underlay"`, 1)), types.ErrInvalidNetworkConfig, "mode: there twice: want every key once"},
		{"a key twice within another", conf(fixture.Keys{"detectOptions": json.RawMessage(`{"retries": 1, "retries": 2}`)}), types.ErrInvalidNetworkConfig, "retries: there twice"},
		{"a destination by the NIC and by the node", conf(fixture.Keys{"policyRoutes": []fixture.Keys{{"dst": "10.96.0.0/12", "gw": "10.6.0.1"}}}), types.ErrInvalidNetworkConfig, "policyRoutes: dst 10.96.0.0/12: it is in serviceCIDR too"},
		{"the node by the NIC", conf(fixture.Keys{"policyRoutes": []fixture.Keys{{"dst": "10.6.168.123", "gw": "10.6.0.1"}}}), types.ErrInvalidNetworkConfig, "policyRoutes: dst 10.6.168.123/32 via 10.6.0.1: the pod has another route to it"},
		{"a gateway beyond the subnet", conf(fixture.Keys{"policyRoutes": []fixture.Keys{{"dst": "10.9.0.0/16", "gw": "10.7.0.1"}}}), types.ErrInvalidNetworkConfig, "gw 10.7.0.1: want a router in a subnet of link eth0: it is in none"},
		{"the pod as its gateway", conf(fixture.Keys{"policyRoutes": []fixture.Keys{{"dst": "fd09::/64", "gw": "fd00:6::171"}}}), types.ErrInvalidNetworkConfig, "it is the pod's own, on link eth0"},
		{"another unknown key", conf(fixture.Keys{"hostTable": 500}), types.ErrInvalidNetworkConfig, `"hostTable"`},
		{"node addresses of no family of the pod", func(c fixture.Call) fixture.Call {
			c.Stdin = s.WebNIC.Config(fixture.Keys{"nodeAddresses": []string{"!0.0.0.0/0", "!::/0"}})
			return c
		}, 0, "nodeAddresses"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			for _, verb := range []string{"ADD", "CHECK"} {
				e := bad.make(s.WebNIC.Call(verb)).Fails(t)
				if bad.code != 0 && e.Code != bad.code || !strings.Contains(e.Msg+e.Details, bad.says) {
					t.Errorf("%s: code %d, %q; want code %d and a word about %q", verb, e.Code, e.Msg, bad.code, bad.says)
				}
			}
			fixture.Same(t, "refused ADD", before, s.State(t))
		})
	}
	if e := s.WebNIC.Call("PLUG").Fails(t); e.Code != types.ErrInvalidEnvironmentVariables {
		t.Errorf("an unknown verb: %v", e)
	}
	// The control: the input from which all of these were made is good.
	s.WebNIC.Add(t)
	s.WebNIC.Check(t)
	after := s.State(t)
	if e := s.WebNIC.Call("ADD").With("CNI_IFNAME", "veth0").Fails(t); e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Msg, "veth0") {
		t.Errorf("ADD for our own link: %v", e)
	}
	fixture.Same(t, "ADD for our own link", after, s.State(t))
}

// TestBadValues gives every key values that it doesn't allow, and expects code 7 and a
// message with the key, the value and the allowed values.
func TestBadValues(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	before := s.State(t)
	for key, values := range map[string][]string{
		"mode":               {`"routed"`, `1`, `["underlay"]`},
		"ipMasq":             {`true`},
		"podDefaultCNINIC":   {`"two words"`, `"a/b"`, `".."`, `5`},
		"podDefaultRouteNIC": {`"two words"`, `"a/b"`, `5`},
		"tunePodRoutes":      {`"true"`, `1`},
		"serviceCIDR":        {`"10.96.0.0/33"`, `["10.96.0.0/12","x"]`, `5`, `{}`, `["10.96.0.0/12",5]`, `"fe80::1%eth0"`},
		"overlayPodCIDR":     {`"10.244.0.0/33"`, `[""]`},
		"hijackCIDR":         {`"300.0.0.1"`, `[[]]`, `"0.0.0.0/0"`, `"::/0"`, `"::ffff:1.1.1.0/120"`, `"::ffff:1.1.1.1"`, `"224.0.0.0/4"`, `"ff05::/16"`, `"127.0.0.1"`, `"fe80::/64"`, `"255.255.255.255"`, `"10.096.0.0/12"`},
		"hostRuleTable":      {`0`, `-1`, `253`, `254`, `255`, `2147483648`, `"500"`, `5.5`, `5e2`, `500.0`, `-0`},
		"hostRulePriority":   {`0`, `32766`, `-5`, `"1000"`},
		"podRPFilter":        {`-2`, `3`, `"0"`, `true`},
		"hostRPFilter":       {`-2`, `3`},
		"vethMTU":            {`67`, `65536`, `"1500"`, `-1`},
		"replyMark":          {`0`, `3`, `"0x30000000"`, `"x"`, `4294967296`, `-1`, `["0x1"]`},
		"nodeAddresses":      {`"10.6.0.1/24"`, `["x"]`, `["!x"]`, `5`, `["auto","10.6.168.123"]`, `"127.0.0.1"`, `"::1"`, `"224.0.0.1"`, `"ff02::1"`, `"0.0.0.0"`, `"::"`, `"255.255.255.255"`, `"fe80::1"`, `"::ffff:10.6.168.123"`, `"10.6.168.0123"`, `["10.6.168.123","!10.6.168.124"]`},
		"policyRoutes":       {`[{"dst":"10.0.0.0/8","gw":"10.6.0.1"},{"dst":"10.0.0.1/8","gw":"10.6.0.2"}]`, `[{"dst":"fd09::/64","gw":"fe80::1%net1"}]`, `[{"dst":"10.0.0.0/8","gw":"::ffff:10.6.0.1"}]`, `[{"dst":"10.0.0.0/8","gw":"0.0.0.0"}]`, `[{"dst":"10.0.0.0/8","gw":"224.0.0.1"}]`, `[{"dst":"10.0.0.0/8","gw":"255.255.255.255"}]`, `[{"dst":"10.0.0.0/8","gw":"127.0.0.1"}]`, `[{"dst":"fd09::/64","gw":"::1"}]`, `[{"dst":"0.0.0.0/0","gw":"10.6.0.1"}]`, `[{"dst":"239.0.0.0/8","gw":"10.6.0.1"}]`, `[{"dst":"127.0.0.0/8","gw":"10.6.0.1"}]`, `[{"dst":"x","gw":"10.6.0.1"}]`, `[{"dst":"10.0.0.0/8","gw":"fd00:6::1"}]`, `5`, `[{"dst":"10.0.0.0/8"}]`},
		"txQueueLen":         {`-1`, `"1000"`},
		"vethLinkAddress":    {`"x"`, `"10.0.0.0/33"`, `5`},
	} {
		for _, value := range values {
			t.Run(key+"="+strings.ReplaceAll(value, "/", "_"), func(t *testing.T) {
				for _, verb := range []string{"ADD", "CHECK", "STATUS"} {
					e := s.WebNIC.Call(verb, fixture.Keys{key: json.RawMessage(value)}).Fails(t)
					for _, part := range badValueWords(key, value) {
						if !strings.Contains(e.Msg, part) {
							t.Errorf("%s: %q says nothing of %q", verb, e.Msg, part)
						}
					}
					if e.Code != types.ErrInvalidNetworkConfig {
						t.Errorf("%s: code %d (%s), want 7", verb, e.Code, e.Msg)
					}
				}
			})
		}
	}
	fixture.Same(t, "refused ADDs", before, s.State(t))
}

// badValueWords returns the words that an error about a value must contain. For a key
// of another plugin this is that plugin.
func badValueWords(key, value string) []string {
	if key == "ipMasq" {
		return []string{"coordinator: ", key, "put it into the configuration of"}
	}
	return []string{"coordinator: " + key, value, "want "}
}

// TestOddValues gives keys values that look like mistakes but aren't: the kernel
// accepts the result, and CHECK finds it.
func TestOddValues(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Call("ADD").Fine(t)
	s.WebNIC.Call("DEL").Fine(t) // leaves what pods share
	before := s.State(t)
	for name, over := range map[string]fixture.Keys{
		"the node by hijackCIDR":      {"hijackCIDR": []string{"10.6.168.123", "fd00:6::123/128"}},
		"one range twice":             {"serviceCIDR": []string{"10.96.0.0/12", "10.96.0.1/12", "10.96.0.0/16"}, "hijackCIDR": "10.96.0.0/12"},
		"everything in two halves":    {"hijackCIDR": []string{"0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"}},
		"link-local and class E":      {"hijackCIDR": []string{"169.254.20.10", "240.0.0.0/4"}},
		"a link-local gateway":        {"policyRoutes": []fixture.Keys{{"dst": "fd09::/64", "gw": "fe80::1"}}},
		"one route twice":             {"policyRoutes": []fixture.Keys{{"dst": "10.9.0.0/16", "gw": "10.6.0.1"}, {"dst": "10.9.0.7/16", "gw": "10.6.0.1"}, {"dst": "10.9.9.0/24", "gw": "10.6.0.2"}}},
		"one node address twice":      {"nodeAddresses": []string{"10.6.168.123", "10.6.168.123", "fd00:6::123"}},
		"what generators leave empty": {"ipam": fixture.Keys{}, "dns": fixture.Keys{}, "capabilities": nil, "mtu": json.RawMessage("null")},
		"no gateway, as route-override has it": {"prevResult": fixture.Keys{
			"cniVersion": "1.1.0", "interfaces": s.WebNIC.Prev.Interfaces,
			"ips":    []fixture.Keys{{"address": "10.6.168.171/16", "gateway": "0.0.0.0", "interface": 0}, {"address": "fd00:6::171/64", "gateway": "::", "interface": 0}},
			"routes": []fixture.Keys{{"dst": "0.0.0.0/0", "gw": "0.0.0.0"}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, verb := range []string{"ADD", "CHECK", "ADD", "CHECK", "DEL"} {
				s.WebNIC.Call(verb, over).Fine(t)
			}
			fixture.Same(t, "ADD and DEL", before, s.State(t))
		})
	}
}

// TestDelOfRefusedInput gives DEL the input that ADD refuses: DEL still removes
// everything.
func TestDelOfRefusedInput(t *testing.T) {
	t.Parallel()
	s := fixture.NewStage(t, lab.Ens192())
	s.WebNIC.Call("ADD").Fine(t)
	s.WebNIC.Call("DEL").Fine(t) // leaves what pods share
	before := s.State(t)
	twice := strings.Replace(string(s.WebNIC.Config(fixture.Keys{"mode": "auto"})), `"mode":"auto"`, `"mode":"auto","mode":"underlay"`, 1)
	result := fixture.Keys{"cniVersion": "1.1.0", "interfaces": s.WebNIC.Prev.Interfaces, "ips": []fixture.Keys{{"address": "10.6.168.171/16", "gateway": "224.0.0.1", "interface": 0}}}
	for name, stdin := range map[string][]byte{
		"a key twice":             []byte(twice),
		"a key in two spellings":  s.WebNIC.Config(fixture.Keys{"mode": "underlay", "MODE": "overlay"}),
		"another plugin's key":    s.WebNIC.Config(fixture.Keys{"ipMasq": true}),
		"a gateway that is none":  s.WebNIC.Config(fixture.Keys{"prevResult": result}),
		"an address that is none": s.WebNIC.Config(fixture.Keys{"nodeAddresses": "127.0.0.1"}),
	} {
		s.WebNIC.Call("ADD").Fine(t)
		c := s.WebNIC.Call("DEL")
		c.Stdin = stdin
		c.Fine(t)
		fixture.Same(t, name, before, s.State(t))
	}
}
