// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/netconf"
)

// schema returns the schema of spec in a definition of deploy/crds.
func schema(t testing.TB, plural string) apiextensionsv1.JSONSchemaProps {
	t.Helper()
	text, err := os.ReadFile("../../deploy/crds/" + netconf.Group + "_" + plural + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(text, &crd); err != nil {
		t.Fatal(err)
	}
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
}

// wrong is a value that a bound of the schema refuses.
type wrong struct {
	path  []any // of the value: names, and 0 for an element of a list
	bound string
	value any
}

// violations returns a wrong value for each bound of a schema.
func violations(s apiextensionsv1.JSONSchemaProps, path []any) []wrong {
	var out []wrong
	add := func(bound string, value any) { out = append(out, wrong{append([]any{}, path...), bound, value}) }
	if s.Minimum != nil {
		add("minimum", int64(*s.Minimum)-1)
	}
	if s.Maximum != nil {
		add("maximum", int64(*s.Maximum)+1)
	}
	if len(s.Enum) > 0 {
		add("enum", "no-such-word")
	}
	if s.MaxLength != nil {
		add("maxLength", strings.Repeat("a", int(*s.MaxLength)+1))
	}
	if s.MinLength != nil {
		add("minLength", "")
	}
	if s.MaxProperties != nil {
		m := map[string]any{}
		for i := range *s.MaxProperties + 1 {
			m[fmt.Sprintf("k%d", i)] = true
		}
		add("maxProperties", m)
	}
	if s.MaxItems != nil {
		var list []any
		for i := range *s.MaxItems + 1 {
			list = append(list, example(path[len(path)-1].(string), int(i)))
		}
		add("maxItems", list)
	}
	if s.MinItems != nil {
		add("minItems", []any{})
	}
	if s.Items != nil {
		out = append(out, violations(*s.Items.Schema, append(path, 0))...)
	}
	for name, p := range s.Properties {
		out = append(out, violations(p, append(append([]any{}, path...), name))...)
	}
	for _, name := range s.Required {
		out = append(out, wrong{append(append([]any{}, path...), name), "required", nil})
	}
	return out
}

// example returns element i of a list that is right but for its length.
func example(list string, i int) any {
	switch list {
	case "trunk":
		return map[string]any{"id": int64(i)}
	case "ips", "excludeIPs":
		return fmt.Sprintf("10.6.%d.%d", i/200, i%200)
	case "routes":
		return map[string]any{"dst": fmt.Sprintf("10.7.%d.0/24", i), "gw": "10.6.0.1"}
	case "matchExpressions":
		return map[string]any{"key": fmt.Sprintf("a%d", i), "operator": "Exists"}
	case "policyRoutes":
		return map[string]any{"dst": fmt.Sprintf("10.1.%d.0/24", i), "gw": "10.6.0.1"}
	case "hijackCIDR", "overlayPodCIDR", "serviceCIDR":
		return fmt.Sprintf("10.1.%d.0/24", i)
	case "chainCNIJsonData":
		return `{"type":"tuning"}`
	}
	return fmt.Sprintf("a%d", i)
}

// base is a good spec of each type, in which a value is made wrong.
func base(plural string, field any) map[string]any {
	switch plural {
	case "spidercoordinators", "spiderreservedips":
		return map[string]any{}
	case "spidersubnets", "spiderippools":
		return map[string]any{"subnet": "10.6.0.0/16"}
	}
	pools := func() map[string]any { return map[string]any{"ipv4": []any{"a"}} }
	switch field {
	case "ibsriov":
		return map[string]any{"cniType": "ib-sriov", "ibsriov": map[string]any{"resourceName": "a/b", "ippools": pools()}}
	case "sriov":
		return map[string]any{"cniType": "sriov", "sriov": map[string]any{"resourceName": "a/b", "ippools": pools()}}
	case "ipoib":
		return map[string]any{"cniType": "ipoib", "ipoib": map[string]any{"master": "a", "ippools": pools()}}
	case "ovs":
		return map[string]any{"cniType": "ovs", "ovs": map[string]any{"bridge": "a", "ippools": pools(), "trunk": []any{map[string]any{"id": int64(1)}}}}
	case "customCNI":
		return map[string]any{"cniType": "custom"}
	case "ipvlan", "vlan":
		return map[string]any{"cniType": field, field.(string): map[string]any{"master": []any{"a", "b"}, "bond": map[string]any{"name": "c"}, "ippools": pools()}}
	}
	return map[string]any{"cniType": "macvlan", "macvlan": map[string]any{"master": []any{"a", "b"}, "bond": map[string]any{"name": "c"}, "ippools": pools()}}
}

// put makes the value at a path wrong.
func put(in any, path []any, value any) any {
	if len(path) == 0 {
		return value
	}
	if _, element := path[0].(int); element {
		return []any{put(first(in), path[1:], value)}
	}
	m, ok := in.(map[string]any)
	if !ok {
		m = map[string]any{}
	}
	name := path[0].(string)
	if len(path) == 1 && value == nil {
		delete(m, name)
		return m
	}
	if m["dst"] == nil && (name == "dst" || name == "gw") {
		m["dst"], m["gw"] = "10.1.0.0/16", "10.6.0.1"
	}
	if m["key"] == nil && (name == "key" || name == "operator" || name == "values") {
		m["key"], m["operator"], m["values"] = "a", "In", []any{"b"}
	}
	m[name] = put(m[name], path[1:], value)
	return m
}

func first(in any) any {
	if list, ok := in.([]any); ok && len(list) > 0 {
		return list[0]
	}
	return nil
}

// TestBounds makes one value after the other wrong, for each bound of the schema. The API
// server refuses it and names the field, and so do the faults of netconf or ipam.
func TestBounds(t *testing.T) {
	c := newCluster(t)
	for _, of := range []struct {
		plural, kind, name string
		bounds             int // at least
	}{
		{"spidermultusconfigs", netconf.Kind, "net", 20}, {"spidercoordinators", netconf.CoordinatorKind, "default", 20},
		{"spidersubnets", ipam.SubnetKind, "net", 12}, {"spiderippools", ipam.PoolKind, "net", 20}, {"spiderreservedips", ipam.ReservedKind, "net", 3},
	} {
		all := violations(schema(t, of.plural), nil)
		if len(all) < of.bounds {
			t.Fatalf("%s: %d bounds", of.plural, len(all))
		}
		for _, w := range all {
			path := "spec"
			for _, p := range w.path {
				if _, element := p.(int); element {
					path += "[0]"
				} else {
					path += "." + p.(string)
				}
			}
			t.Run(of.kind+"/"+path+"/"+w.bound, func(t *testing.T) {
				spec := put(base(of.plural, w.path[0]), w.path, w.value)
				o := c.object(map[string]any{"kind": of.kind, "metadata": map[string]any{"name": of.name}, "spec": spec})
				refused, _ := c.dryRun(o)
				if !strings.Contains(refused, path+": ") && !strings.Contains(refused, path+" ") {
					t.Errorf("the API server names no %s: %.500s", path, refused)
				}
				text, err := json.Marshal(o)
				if err != nil {
					t.Fatal(err)
				}
				var faults []netconf.Fault
				switch of.kind {
				case netconf.CoordinatorKind:
					_, faults = netconf.DecodeCoordinator(text)
				case netconf.Kind:
					config, found := netconf.Decode(text)
					faults = append(found, config.Validate()...)
				default:
					faults = ipam.Lint(of.kind, text)
				}
				for _, f := range faults {
					if !f.Warning && (f.Path == path || strings.HasPrefix(path, f.Path+"[") || strings.HasPrefix(path, f.Path+".")) {
						return
					}
				}
				t.Errorf("no fault names %s: %v", path, faults)
			})
		}
	}
}
