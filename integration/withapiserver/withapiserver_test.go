// SPDX-License-Identifier: Apache-2.0

// Package withapiserver tests hack/with-apiserver, from outside: what a command finds
// there, and that nothing of it is left.
package withapiserver

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain builds what the script runs, as that can take minutes, and says so.
func TestMain(m *testing.M) {
	// Who is started with one of these ignored, as by nohup, hands that on, and a shell can't
	// change it. A signal that is caught here is the default there.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	build := exec.Command("../e2e/build.sh", "workloads")
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "integration/e2e/build.sh workloads:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// run is one run of the script, with a directory for temporary files that no other
// process uses.
type run struct {
	*exec.Cmd
	dir            string
	stdout, stderr bytes.Buffer
}

func start(t *testing.T, stdin string, environment []string, args ...string) *run {
	t.Helper()
	r := &run{Cmd: exec.Command("../../hack/with-apiserver", args...), dir: t.TempDir()}
	r.WaitDelay = time.Minute // until Wait no longer waits for who else has a stream open
	r.Stdin, r.Stdout, r.Stderr = strings.NewReader(stdin), &r.stdout, &r.stderr
	r.Env = append(append(os.Environ(), "TMPDIR="+r.dir), environment...)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.ProcessState == nil {
			_ = r.Process.Kill()
			_ = r.Wait()
		}
	})
	return r
}

// end waits for the end, and returns the exit status, -1 after SIGKILL. Nothing must be left
// then. After SIGKILL the standard error is open until that is so.
func (r *run) end(t *testing.T) int {
	t.Helper()
	if err := r.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Error(err)
	}
	for _, p := range r.processes(t) {
		t.Errorf("this process is left: %s", p)
	}
	files, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		t.Errorf("this is left in the directory for temporary files: %s", f.Name())
	}
	return r.ProcessState.ExitCode()
}

// processes returns the command lines of processes that have r.dir there or in their environment.
func (r *run) processes(t *testing.T) []string {
	t.Helper()
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil || len(environments) == 0 {
		t.Fatalf("/proc has %d processes, error %v", len(environments), err)
	}
	var found []string
	for _, path := range environments {
		environment, _ := os.ReadFile(path) // fails where the process has ended
		commandLine, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if bytes.Contains(environment, []byte(r.dir)) || bytes.Contains(commandLine, []byte(r.dir)) {
			found = append(found, strings.ReplaceAll(string(commandLine), "\x00", " "))
		}
	}
	return found
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 5 minutes still not: %s", what)
		}
	}
}

func TestStreamsAndStatus(t *testing.T) {
	const ignored = "grep SigIgn: /proc/self/status" // the signals that a command ignores from its start
	ignoredHere, err := exec.Command("sh", "-c", ignored).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, command  string
		status         int
		stdout, stderr string
	}{
		{"success", "cat", 0, "input", ""},
		{"failure", "cat; echo error >&2; exit 7", 7, "input", "error\n"},
		{"killed", "kill -KILL $$", 137, "", ""},
		{"signals", ignored, 0, string(ignoredHere), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, "input", nil, "sh", "-c", c.command)
			if status := r.end(t); status != c.status {
				t.Errorf("exit status %d, want %d", status, c.status)
			}
			if out := r.stdout.String(); out != c.stdout {
				t.Errorf("standard output %q, want %q", out, c.stdout)
			}
			if out := r.stderr.String(); out != c.stderr {
				t.Errorf("standard error %q, want %q", out, c.stderr)
			}
		})
	}
}

// TestUsage: a wrong call starts nothing, and says what a right one is.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"--controllers"}, {"--controllers", "two", "true"}, {"--controllers", "1"}, {"--help"}} {
		r := start(t, "", nil, args...)
		if status := r.end(t); status != 2 || !strings.HasPrefix(r.stderr.String(), "with-apiserver [--controllers N] [--workloads] COMMAND...") {
			t.Errorf("%q: exit status %d, standard error:\n%s", args, status, &r.stderr)
		}
	}
}

// TestCluster holds what tests of a controller rely on.
func TestCluster(t *testing.T) {
	t.Parallel()
	r := start(t, "", nil, "bash", "-euxc", `
# The garbage collector removes what is owned, also an object of a kind of ours.
kubectl create configmap owner
owner="[{apiVersion: v1, kind: ConfigMap, name: owner, uid: $(kubectl get configmap owner -o 'jsonpath={.metadata.uid}')}]"
kubectl apply -f - <<EOF
{apiVersion: v1, kind: ConfigMap, metadata: {name: owned, ownerReferences: $owner}}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: owned, ownerReferences: $owner}
spec: {config: "{}"}
EOF
kubectl delete configmap owner
kubectl wait --for=delete --timeout=5m configmap/owned network-attachment-definition/owned

# A namespace with objects goes, and a new one gets its service account.
kubectl create namespace full
kubectl -n full create configmap content
until kubectl -n full get serviceaccount default; do sleep 0.1; done
kubectl delete namespace full --timeout=5m

# The default service account has a token, and no rights.
kubectl create token default >/dev/null
test "$(kubectl auth can-i list secrets --as=system:serviceaccount:default:default)" = no
test "$(kubectl auth can-i '*' '*')" = yes
test -z "$(grep insecure "$KUBECONFIG")"
test -z "${CONTROLLER_PIDS-}"

# kubectl leaves nothing in the home.
mkdir "$TMPDIR/home"
HOME=$TMPDIR/home kubectl get configmaps
rmdir "$TMPDIR/home"
`)
	if status := r.end(t); status != 0 {
		t.Errorf("exit status %d\n%s\n%s", status, &r.stdout, &r.stderr)
	}
}

// TestControllers has two controllers, which make a network of a SpiderMultusConfig, also after
// one of them is killed.
func TestControllers(t *testing.T) {
	t.Parallel()
	r := start(t, "", nil, "--controllers", "2", "bash", "-euxc", `
network() {
	kubectl apply -f - <<EOF
apiVersion: spiderpool.spidernet.io/v2beta1
kind: SpiderMultusConfig
metadata: {name: $1}
spec: {cniType: macvlan, macvlan: {master: [ens192]}}
EOF
	kubectl wait --for=condition=Ready --timeout=5m "smc/$1"
	kubectl get network-attachment-definition "$1"
}
network one
set -- $CONTROLLER_PIDS
test $# = 2
kill -KILL "$1"
network two
kubectl get smc one two | grep -E '^NAME +TYPE +NAD +READY +AGE$'
kubectl get smc one two | grep -E '^two +macvlan +two +True '
`)
	if status := r.end(t); status != 0 {
		t.Errorf("exit status %d\n%s\n%s", status, &r.stdout, &r.stderr)
	}
}

// TestWorkloads has a node, to which the pods of a Deployment are bound; without --workloads it
// has no pods.
func TestWorkloads(t *testing.T) {
	t.Parallel()
	const deployment = `
kubectl apply -f - <<EOF
{apiVersion: v1, kind: Node, metadata: {name: node1}}
EOF
kubectl patch node node1 --subresource status --type merge -p '{"status": {"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}}}'
kubectl apply -f - <<EOF
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {tolerations: [{operator: Exists}], containers: [{name: web, image: web}]}
EOF
kubectl expose deployment web --port 80
`
	with := start(t, "", nil, "--workloads", "bash", "-euxc", deployment+`
until test "$(kubectl get pods -l app=web -o 'jsonpath={.items[*].spec.nodeName}')" = "node1 node1"; do sleep 0.2; done
until kubectl get endpointslices -l kubernetes.io/service-name=web -o name | grep web; do sleep 0.2; done
`)
	without := start(t, "", nil, "bash", "-euxc", deployment+"sleep 2; kubectl get pods -A -o name")
	if status := with.end(t); status != 0 {
		t.Errorf("exit status %d\n%s\n%s", status, &with.stdout, &with.stderr)
	}
	if status, out := without.end(t), without.stdout.String(); status != 0 || strings.Contains(out, "pod/") {
		t.Errorf("without --workloads: exit status %d\n%s\n%s", status, out, &without.stderr)
	}
}

// TestTwoAtOnce: each of two finds its own object and not that of the other.
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	meet := t.TempDir()
	const command = `
kubectl create configmap "$1" >/dev/null
touch "$3/$1"
until test -e "$3/$2"; do sleep 0.1; done
kubectl get configmap one two --ignore-not-found -o name`
	one := start(t, "", nil, "sh", "-ec", command, "sh", "one", "two", meet)
	two := start(t, "", nil, "sh", "-ec", command, "sh", "two", "one", meet)
	for name, r := range map[string]*run{"one": one, "two": two} {
		if status, out := r.end(t), r.stdout.String(); status != 0 || out != "configmap/"+name+"\n" {
			t.Errorf("%s: exit status %d, found %q\n%s", name, status, out, &r.stderr)
		}
	}
}

// TestSignals: a signal ends everything, while the API starts and while COMMAND runs,
// also what COMMAND left in the background.
func TestSignals(t *testing.T) {
	for _, c := range []struct {
		signal syscall.Signal
		status int
	}{{syscall.SIGTERM, 143}, {syscall.SIGINT, 130}, {syscall.SIGHUP, 129}, {syscall.SIGKILL, -1}} {
		for _, when := range []string{"starting", "running"} {
			t.Run(fmt.Sprintf("%v %s", c.signal, when), func(t *testing.T) {
				t.Parallel()
				running := filepath.Join(t.TempDir(), "running")
				r := start(t, "", nil, "sh", "-c", `sleep 3600 & touch "$1"; exec sleep 3600`, "sh", running)
				until(t, when, func() bool {
					awaited := running
					if when == "starting" {
						awaited = filepath.Join(r.dir, "*", "kubeconfig") // kube-apiserver comes next
					}
					found, _ := filepath.Glob(awaited)
					return len(found) == 1
				})
				if len(r.processes(t)) == 0 {
					t.Error("found no process before the signal")
				}
				if err := r.Process.Signal(c.signal); err != nil {
					t.Fatal(err)
				}
				if status := r.end(t); status != c.status {
					t.Errorf("exit status %d, want %d\n%s", status, c.status, &r.stderr)
				}
				if _, err := os.Stat(running); when == "starting" && err == nil {
					t.Error("COMMAND was run")
				}
			})
		}
	}
}

// TestSignalsAreForCommand: COMMAND gets the signals, and it decides when to end.
func TestSignalsAreForCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := start(t, "", nil, "sh", "-c", `
cd "$1"
trap 'touch HUP' HUP
trap 'touch INT' INT
trap 'echo TERM; exit 5' TERM
touch running
while :; do sleep 0.1; done`, "sh", dir)
	there := func(file string) {
		t.Helper()
		until(t, file, func() bool {
			_, err := os.Stat(filepath.Join(dir, file))
			return err == nil
		})
	}
	there("running")
	for _, s := range []struct {
		signal syscall.Signal
		file   string
	}{{syscall.SIGHUP, "HUP"}, {syscall.SIGINT, "INT"}} {
		if err := r.Process.Signal(s.signal); err != nil {
			t.Fatal(err)
		}
		there(s.file)
	}
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if status := r.end(t); status != 5 || r.stdout.String() != "TERM\n" || r.stderr.Len() != 0 {
		t.Errorf("exit status %d\n%s\n%s", status, &r.stdout, &r.stderr)
	}
}

// TestComponentFails: the log of a component that doesn't start is shown.
func TestComponentFails(t *testing.T) {
	t.Parallel()
	r := start(t, "", []string{"ETCD_LOG_LEVEL=nonsense"}, "echo", "COMMAND was run")
	status, out := r.end(t), r.stderr.String()
	if status != 125 || r.stdout.Len() != 0 || !strings.HasPrefix(out, "with-apiserver: etcd ended\n") ||
		!strings.Contains(out, "the last lines of etcd.log:\n") || !strings.Contains(out, "nonsense") {
		t.Errorf("exit status %d\n%s\n%s", status, &r.stdout, out)
	}
}
