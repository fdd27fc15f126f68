// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Deploy is the kustomization of the control plane, for tests of commands.
const Deploy = "../../../deploy/kustomize/controlplane"

// Kubectl runs kubectl as the administrator and returns what it prints.
func Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	var errs bytes.Buffer
	cmd := exec.Command("kubectl", args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("kubectl %s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// Install installs definitions, policies and roles of deploy/, until the end of the test.
func Install(t testing.TB) {
	t.Helper()
	Kubectl(t, "apply", "--server-side", "--validate=strict", "--force-conflicts", "-k", Deploy)
	t.Cleanup(func() {
		Kubectl(t, "delete", "--ignore-not-found", "-f", Deploy+"/webhook.yaml", "-f", Deploy+"/policies.yaml", "-f", Deploy+"/roles.yaml", "-f", Deploy+"/controller.yaml",
			"-f", Deploy+"/agent.yaml")
	})
}

// Kubeconfig returns the path of a kubeconfig of a ServiceAccount, whose token `kubectl create
// token` makes with these arguments.
func Kubeconfig(t testing.TB, args ...string) string {
	t.Helper()
	token := strings.TrimSpace(Kubectl(t, append([]string{"create", "token"}, args...)...))
	var config map[string]any
	if err := json.Unmarshal([]byte(Kubectl(t, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")), &config); err != nil {
		t.Fatal(err)
	}
	config["users"].([]any)[0].(map[string]any)["user"] = map[string]any{"token": token}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Unused returns what the roles of deploy/ allow to a ServiceAccount in kube-system, and
// what by the API server's audit log it has not done yet: "VERB GROUP/RESOURCE", sorted. Who
// watches may also list: client-go does with a server that can't send all by a watch. It
// reads roles by their names, which begin with that of the account.
func Unused(t testing.TB, account string) []string {
	t.Helper()
	used := map[string]bool{}
	log, err := os.Open(filepath.Join(filepath.Dir(os.Getenv("KUBECONFIG")), "audit.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	for d := json.NewDecoder(log); ; {
		var e struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef struct{ APIGroup, Resource, Subresource string }
		}
		if err := d.Decode(&e); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // it is being written
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if e.User.Username == "system:serviceaccount:kube-system:"+account {
			used[right(e.Verb, e.ObjectRef.APIGroup, strings.TrimSuffix(e.ObjectRef.Resource+"/"+e.ObjectRef.Subresource, "/"))] = true
		}
	}
	roles, err := os.Open(Deploy + "/roles.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer roles.Close()
	var out []string
	allowed := 0
	for d := yaml.NewYAMLOrJSONDecoder(roles, 4096); ; {
		var role rbacv1.ClusterRole
		if err := d.Decode(&role); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(role.Name, account) {
			continue
		}
		for _, r := range role.Rules {
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, verb := range r.Verbs {
						allowed++
						what := right(verb, group, resource)
						if !used[what] && (verb != "list" || !used[right("watch", group, resource)]) {
							out = append(out, what)
						}
					}
				}
			}
		}
	}
	if allowed == 0 {
		t.Fatalf("%s/roles.yaml has no roles of %s", Deploy, account)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func right(verb, group, resource string) string { return verb + " " + group + "/" + resource }
