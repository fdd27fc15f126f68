// SPDX-License-Identifier: Apache-2.0

// Command echo is a chained CNI plugin that only passes prevResult on. It uses the CNI
// project's skeleton in the usual way. Its time is the least time of a CNI plugin in Go, and
// the benchmark compares all others with it.
//
//	CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_NETNS=/run/netns/a CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin echo <conf.json
//
// Beware: it is for the benchmark only. It reads and changes nothing of the kernel.
package main

import (
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add:    add,
		Check:  check,
		Del:    nothing,
		GC:     nothing,
		Status: nothing,
	}, version.All, "echo: passes prevResult on")
}

func add(args *skel.CmdArgs) error {
	conf, result, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	return types.PrintResult(result, conf.CNIVersion)
}

func check(args *skel.CmdArgs) error {
	_, _, err := parse(args.StdinData)
	return err
}

func nothing(*skel.CmdArgs) error { return nil }

func parse(stdin []byte) (*types.PluginConf, *current.Result, error) {
	conf := &types.PluginConf{}
	if err := json.Unmarshal(stdin, conf); err != nil {
		return nil, nil, fmt.Errorf("parse configuration: %w", err)
	}
	if err := version.ParsePrevResult(conf); err != nil {
		return nil, nil, fmt.Errorf("parse prevResult: %w", err)
	}
	if conf.PrevResult == nil {
		return nil, nil, fmt.Errorf("prevResult is missing")
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	return conf, result, err
}
