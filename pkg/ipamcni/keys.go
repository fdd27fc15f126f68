// SPDX-License-Identifier: Apache-2.0

package ipamcni

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/multihome/multihome/pkg/config"
)

// keys holds the keys of a configuration that the plugin reads.
type keys struct {
	CNIVersion    string
	Name          string
	DNS           types.DNS
	PrevResult    json.RawMessage
	DeviceID      string // from Multus, for a network with a device plugin's resource
	RuntimeConfig struct{ DeviceID string }
	IPAM          json.RawMessage

	pools4, pools6                  []string
	cleanGateway, matchMasterSubnet bool
	logFile                         *logFile
}

// device returns the PCI address of the NIC's virtual function, "" if it is none.
func (k keys) device() string {
	if k.RuntimeConfig.DeviceID != "" {
		return k.RuntimeConfig.DeviceID
	}
	return k.DeviceID
}

// load reads a configuration. With an error the keys that could be read are returned, too.
func load(stdin []byte) (keys, error) {
	k := keys{logFile: &logFile{}}
	if err := json.Unmarshal(stdin, &k); err != nil {
		return k, types.NewError(types.ErrDecodingFailure, "configuration: "+err.Error(), "")
	}
	if _, err := config.Object(k.IPAM); err != nil {
		return k, config.Invalid(`ipam: %w: want an object like {"type": "multihome-ipam"}`, err)
	}
	var typ, socket string
	var of struct{ Type string }
	_ = json.Unmarshal(k.IPAM, &of) // Fields says what is wrong with it
	known := append(k.logFile.keys(),
		config.Key{Name: "type", Value: word(&typ)},
		config.Key{Name: "default_ipv4_ippool", Value: pools(&k.pools4)},
		config.Key{Name: "default_ipv6_ippool", Value: pools(&k.pools6)},
		config.Key{Name: "clean_gateway", Value: config.Bool(&k.cleanGateway)},
		config.Key{Name: "match_master_subnet", Value: config.Bool(&k.matchMasterSubnet)},
		config.Key{Name: "ipam_unix_socket_path", Value: word(&socket)}, // another system's; without effect
	)
	if of.Type == StaticIPAM { // networks of the product that it comes from have places for addresses; without effect
		known = append(known, config.Key{Name: "addresses", Value: config.Value{Set: func(json.RawMessage) error { return nil }}})
	}
	if err := config.Fields(k.IPAM, known); err != nil {
		return k, config.Invalid("ipam: %w", err)
	}
	return k, nil
}

// word accepts any text.
func word(p *string) config.Value {
	return config.Value{Want: "text", Set: func(raw json.RawMessage) (err error) {
		*p, err = config.Text(raw)
		return err
	}}
}

// StaticIPAM is the plugin's name in networks of static-macvlan-cni.
const StaticIPAM = "static-ipam"

// pools accepts a list of names of pools, with wildcards, or a single one.
func pools(p *[]string) config.Value {
	return config.Value{Want: `a list of pools, like ["pool-*"]`, Set: func(raw json.RawMessage) error {
		list, err := config.Strings(raw)
		if err == nil && slices.Contains(list, "") {
			err = errors.New("one is empty")
		}
		*p = list
		return err
	}}
}

// PodArgs holds what CNI_ARGS says about the pod. Runtimes of Kubernetes send it.
type PodArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID types.UnmarshallableString //nolint:revive,staticcheck // types.LoadArgs looks for fields of these names
}

// PodOf reads CNI_ARGS.
func PodOf(args string) (PodArgs, error) {
	var pod PodArgs
	if err := types.LoadArgs(args, &pod); err != nil {
		return pod, types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: "+err.Error(), "")
	}
	return pod, nil
}

// prevIPs returns the addresses that prevResult gives a NIC. An address without an interface
// is the NIC's. All versions of CNI since 0.3.0 write them in the same way.
func (k keys) prevIPs(nic string) ([]netip.Prefix, error) {
	if len(k.PrevResult) == 0 {
		return nil, config.Invalid("prevResult: missing: want the result of ADD")
	}
	var prev struct {
		Interfaces []struct{ Name string }
		IPs        []struct {
			Interface *int
			Address   netip.Prefix
		}
	}
	if err := json.Unmarshal(k.PrevResult, &prev); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "prevResult: "+err.Error(), "")
	}
	var out []netip.Prefix
	for _, ip := range prev.IPs {
		if i := ip.Interface; i == nil || *i < 0 || *i >= len(prev.Interfaces) || prev.Interfaces[*i].Name == nic {
			out = append(out, ip.Address)
		}
	}
	return out, nil
}
