// SPDX-License-Identifier: Apache-2.0

package testcluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
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

// asController returns the configuration of a client that is multihome-controller, with the roles
// of deploy/. An answer that something is forbidden fails the test.
func asController(t testing.TB) *rest.Config {
	t.Helper()
	roles.Do(func() {
		Kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", "../../deploy/kustomize/controlplane/roles.yaml")
	})
	conf := Config(t)
	conf.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:kube-system:multihome-controller",
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"},
	}
	conf.Wrap(func(next http.RoundTripper) http.RoundTripper { return allowed{t, next} })
	return conf
}

var roles sync.Once

// Allow gives multihome-controller further rights until the end of the test.
func Allow(t testing.TB, name string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	for _, o := range []any{
		rbacv1.ClusterRole{TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRole"}, ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules},
		rbacv1.ClusterRoleBinding{
			TypeMeta: metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"}, ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: "kube-system", Name: "multihome-controller"}},
		},
	} {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "role.json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		Kubectl(t, "apply", "-f", file)
	}
	t.Cleanup(func() { Kubectl(t, "delete", "clusterrole,clusterrolebinding", name) })
}

// allowed fails a test if the API server forbids a request.
type allowed struct {
	t    testing.TB
	next http.RoundTripper
}

func (a allowed) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := a.next.RoundTrip(r)
	if err == nil && answer.StatusCode == http.StatusForbidden {
		a.t.Errorf("the roles of deploy/ forbid the controller to %s %s", r.Method, r.URL.Path)
	}
	return answer, err
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
