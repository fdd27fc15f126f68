// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	current "github.com/containernetworking/cni/pkg/types/100"
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

// TestPrinted: a result is printed as CNI's own library would print it, with every key that
// it knows, and with none.
func TestPrinted(t *testing.T) {
	for _, text := range []string{
		`{"cniVersion": "1.1.0"}`,
		`{"cniVersion": "1.0.0", "dns": {"nameservers": ["10.96.0.10"], "domain": "d", "search": ["s"], "options": ["o"]},
		  "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "mtu": 1400, "sandbox": "/run/n", "socketPath": "/s", "pciID": "0000:00:1f.6"}],
		  "ips": [{"interface": 0, "address": "10.6.0.5/16", "gateway": "10.6.0.1"}, {"address": "fd00::5/64"}],
		  "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1", "mtu": 1, "advmss": 2, "priority": 3, "table": 4, "scope": 5}]}`,
	} {
		var r current.Result
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(err)
		}
		var want bytes.Buffer
		if err := r.PrintTo(&want); err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal((*printed)(&r))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(parsed(t, got), parsed(t, want.Bytes())) {
			t.Errorf("printed %s, want %s", got, want.Bytes())
		}
	}
}

func parsed(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}
