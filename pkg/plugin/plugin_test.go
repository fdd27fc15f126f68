// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
)

// TestLoadRefusesNulls: in each version of a prevResult, each list may hold null. DEL
// goes on without it, by the task beside the error.
func TestLoadRefusesNulls(t *testing.T) {
	whole := map[string]string{
		"interfaces": `{"name": "eth0"}`, "ips": `{"version": "4", "address": "10.6.0.5/16", "interface": 0}`, "routes": `{"dst": "0.0.0.0/0"}`,
	}
	for _, version := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		load := func(null string) (*Task, error) {
			lists := ""
			for key, item := range whole {
				if key == null {
					item += ", null"
				}
				lists += fmt.Sprintf(`, %q: [%s]`, key, item)
			}
			conf := fmt.Sprintf(`{"cniVersion": %[1]q, "name": "lan", "prevResult": {"cniVersion": %[1]q%[2]s}}`, version, lists)
			task, _, err := Plugin{}.load(&skel.CmdArgs{StdinData: []byte(conf)})
			return task, err
		}
		for key := range whole {
			if task, err := load(key); task == nil || task.Prev != nil || err == nil || !strings.Contains(err.Error(), "prevResult: "+key+": 1 is null") {
				t.Errorf("%s with null in %s: %v, %v", version, key, task, err)
			}
		}
		if task, err := load(""); err != nil || len(task.Prev.IPs) != 1 || len(task.Prev.Interfaces) != 1 || len(task.Prev.Routes) != 1 {
			t.Errorf("the control: %s without null: %v, %v", version, task, err)
		}
	}
}
