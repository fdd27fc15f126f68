// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/multihome/multihome/pkg/ipam"
	"github.com/multihome/multihome/pkg/manifest"
	"github.com/multihome/multihome/pkg/netconf"
)

func renderCommand() *cobra.Command {
	var files []string
	var format string
	c := &cobra.Command{
		Use:   "render -f FILE",
		Short: "Print the NetworkAttachmentDefinitions of SpiderMultusConfigs",
		Long: `Render prints the NetworkAttachmentDefinition of each SpiderMultusConfig in the files.
It needs no cluster. Objects of other kinds are left out.

If there is a SpiderCoordinator in the files as well, it fills in the settings of
coordinator that a SpiderMultusConfig leaves out.

A SpiderMultusConfig with a fault is an error; lint finds all faults.`,
		Example: `  multihome render -f networks.yaml
  kubectl get spidermultusconfigs -A -o json | multihome render -f - -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			objects, err := readFiles(files, c.InOrStdin())
			if err != nil {
				return fmt.Errorf("render: %w", err)
			}
			if err := render(c.OutOrStdout(), format, objects); err != nil {
				return fmt.Errorf("render: %w", err)
			}
			return nil
		},
	}
	filesFlag(c, &files)
	c.Flags().StringVarP(&format, "output", "o", "yaml", "format: yaml or json")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"yaml", "json"}, cobra.ShellCompDirectiveNoFileComp))
	return c
}

// linted are the kinds that lint checks.
var linted = []string{netconf.Kind, netconf.CoordinatorKind, ipam.SubnetKind, ipam.PoolKind, ipam.ReservedKind, ipam.VLANSubnetKind}

func lintCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "lint -f FILE...",
		Short: "Print everything that is wrong with SpiderMultusConfigs and pools",
		Long: `Lint prints a line for each fault of a SpiderMultusConfig, SpiderCoordinator, SpiderSubnet,
SpiderIPPool, SpiderReservedIP or VLANSubnet in the files: file, line, field, the value, and what is
allowed. It needs no cluster. Warnings are about objects that work, but perhaps not as they
are meant.

The exit status is 1 if there is a fault that is no warning, or no object of these kinds.`,
		Example: `  multihome lint -f *.yaml
  helm template . | multihome lint -f -`,
		RunE: func(c *cobra.Command, more []string) error { // of -f *.yaml the shell makes one flag and more
			objects, err := readFiles(append(files, more...), c.InOrStdin())
			if err != nil {
				return fmt.Errorf("lint: %w", err)
			}
			if !slices.ContainsFunc(objects, func(o manifest.Object) bool { return slices.Contains(linted, o.Kind) }) {
				last := len(linted) - 1
				return fmt.Errorf("lint: no %s or %s in the files; multihome explain reads a network's own JSON", strings.Join(linted[:last], ", "), linted[last])
			}
			_, faults := networks(objects)
			var wrong error
			for _, f := range append(faults, pools(objects)...) {
				fmt.Fprintln(c.OutOrStdout(), f)
				if !f.Warning {
					wrong = errFindings
				}
			}
			return wrong
		},
	}
	filesFlag(c, &files)
	return c
}

// filesFlag adds the flag for files of objects.
func filesFlag(c *cobra.Command, files *[]string) {
	c.Flags().StringArrayVarP(files, "filename", "f", nil, "file of objects in YAML or JSON; - is standard input; may be repeated")
	_ = c.MarkFlagRequired("filename")
}

// readFiles returns the objects of files.
func readFiles(files []string, stdin io.Reader) ([]manifest.Object, error) {
	var out []manifest.Object
	for _, file := range files {
		data, err := readInput(file, stdin)
		if err != nil {
			return nil, err
		}
		objects, err := manifest.Read(file, data)
		if err != nil {
			return nil, err
		}
		out = append(out, objects...)
	}
	return out, nil
}

// readInput reads a file, or standard input for "-".
func readInput(file string, stdin io.Reader) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(file)
}

// foundFault is a fault and where it is.
type foundFault struct {
	netconf.Fault
	file string
	line int
}

func (f foundFault) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.Fault) }

// networks returns the SpiderMultusConfigs among objects, with the defaults that are
// beside them, and the faults of all objects of our kinds.
func networks(objects []manifest.Object) (out []netconf.Config, faults []foundFault) {
	var defaults *netconf.Coordinator
	wanted := map[string]string{} // by the name of a NetworkAttachmentDefinition: who wants it
	for _, o := range objects {
		if o.Kind != netconf.Kind && o.Kind != netconf.CoordinatorKind {
			continue
		}
		found := versionFaults(o, netconf.APIVersion)
		if o.Kind == netconf.CoordinatorKind {
			c, more := netconf.DecodeCoordinator(o.JSON)
			defaults, found = c, append(found, more...)
		} else {
			c, more := netconf.Decode(o.JSON)
			found = append(append(found, more...), c.Validate()...)
			nad := c.Render()
			key := nad.Namespace + "/" + nad.Name
			if other, twice := wanted[key]; twice {
				found = append(found, netconf.Fault{Path: "metadata.name", Message: fmt.Sprintf("%q: %s wants the NetworkAttachmentDefinition %s, too", c.Name, other, nad.Name)})
			}
			wanted[key] = netconf.Kind + " " + c.Name
			for _, other := range out {
				found = append(found, c.Beside(other)...)
			}
			out = append(out, c)
		}
		for _, f := range found {
			faults = append(faults, foundFault{f, o.File, o.Line(f.Path)})
		}
	}
	for i, c := range out {
		out[i] = c.WithDefaults(defaults)
	}
	return out, faults
}

// pools returns the faults of the SpiderSubnets, SpiderIPPools, SpiderReservedIPs and VLANSubnets
// among objects.
func pools(objects []manifest.Object) (faults []foundFault) {
	for _, o := range objects {
		version := netconf.APIVersion
		switch o.Kind {
		case ipam.VLANSubnetKind:
			version = ipam.VLANSubnetAPIVersion
		case ipam.SubnetKind, ipam.PoolKind, ipam.ReservedKind:
		default:
			continue
		}
		for _, f := range append(versionFaults(o, version), ipam.Lint(o.Kind, o.JSON)...) {
			faults = append(faults, foundFault{f, o.File, o.Line(f.Path)})
		}
	}
	return faults
}

// versionFaults returns a fault if an object of our kinds has another version.
func versionFaults(o manifest.Object, want string) []netconf.Fault {
	if o.APIVersion == want {
		return nil
	}
	return []netconf.Fault{{Path: "apiVersion", Message: fmt.Sprintf("%q: want %s", o.APIVersion, want)}}
}

// attachmentDefinition is a NetworkAttachmentDefinition in a file.
type attachmentDefinition struct {
	APIVersion string `json:"apiVersion" yaml:"apiVersion"`
	Kind       string `json:"kind" yaml:"kind"`
	Metadata   struct {
		Name        string            `json:"name" yaml:"name"`
		Namespace   string            `json:"namespace,omitempty" yaml:"namespace,omitempty"`
		Annotations map[string]string `json:"annotations,omitempty" yaml:"annotations,omitempty"`
	} `json:"metadata" yaml:"metadata"`
	Spec struct {
		Config string `json:"config,omitempty" yaml:"config,omitempty"`
	} `json:"spec" yaml:"spec"`
}

// render prints the NetworkAttachmentDefinitions of objects.
func render(w io.Writer, format string, objects []manifest.Object) error {
	configs, faults := networks(objects)
	var errs []error
	for _, f := range faults {
		if !f.Warning {
			errs = append(errs, errors.New(f.String()))
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if len(configs) == 0 {
		return fmt.Errorf("no %s in the files", netconf.Kind)
	}
	var encode func(any) error
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		encode = e.Encode
	case "yaml":
		e := yaml.NewEncoder(w)
		e.SetIndent(2)
		defer e.Close()
		encode = e.Encode
	default:
		return fmt.Errorf("output: %q: want yaml or json", format)
	}
	for _, c := range configs {
		nad := c.Render()
		out := attachmentDefinition{APIVersion: "k8s.cni.cncf.io/v1", Kind: "NetworkAttachmentDefinition"}
		out.Metadata.Name, out.Metadata.Namespace, out.Metadata.Annotations = nad.Name, nad.Namespace, nad.Annotations
		out.Spec.Config = nad.Config
		if err := encode(out); err != nil {
			return err
		}
	}
	return nil
}
