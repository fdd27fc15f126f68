// SPDX-License-Identifier: Apache-2.0

// Package mending tests that living pods are mended by themselves: it runs pkg/mend as a
// process on a node, damages what pods rely on, and has traffic come back.
package mending

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/multihome/multihome/integration/fixture"
	"github.com/multihome/multihome/pkg/attachment"
	"github.com/multihome/multihome/pkg/inspect"
	"github.com/multihome/multihome/pkg/lab"
	"github.com/multihome/multihome/pkg/mend"
	"github.com/multihome/multihome/pkg/netstate"
	"github.com/multihome/multihome/pkg/nodeconf"
	"github.com/multihome/multihome/pkg/survey"
)

// asMender makes the test binary a mender.
const asMender = "MULTIHOME_MENDER"

func TestMain(m *testing.M) {
	if os.Getenv(asMender) == "" {
		os.Exit(fixture.Main(m))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := mend.Run(ctx, mend.Options{
		CacheDirs: inspect.CacheDirs, ConfDir: "/etc/cni/net.d", Defaults: nodeconf.Path,
		Busy:   new(survey.Sandboxes).Busy,
		Did:    func(p mend.Pod, a attachment.Attachment, op netstate.Op) { fmt.Println("did", p, a.IfName, op) },
		Fight:  func(p mend.Pod, object string) { fmt.Println("fight", p, object) },
		Failed: func(p mend.Pod, err error) { fmt.Println("failed", p, strings.ReplaceAll(err.Error(), "\n", "; ")) },
		Behind: func(n int) { fmt.Println("behind", n) },
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// newSite returns a site on whose node an agent is: its spool and its lock are there.
func newSite(t *testing.T, lans []lab.LAN, chained string) *fixture.Site {
	t.Helper()
	s := fixture.NewSite(t, lans, chained)
	fixture.AgentReady(t, s.Lab)
	return s
}

// mender is a mender that runs on a node.
type mender struct {
	*testing.T
	on  *lab.Lab
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []string
	ended bool // it says nothing more
}

// start starts a mender on a node, and waits until it has looked at all pods.
func start(t *testing.T, on *lab.Lab) *mender {
	t.Helper()
	m := launch(t, on)
	m.eventually("a look at all pods", func() bool { return len(m.said("behind 0")) > 0 })
	return m
}

// launch starts a mender on a node, by a command that runs it or by itself.
func launch(t *testing.T, on *lab.Lab, under ...string) *mender {
	t.Helper()
	argv := append(under, os.Args[0])
	m := &mender{T: t, on: on, cmd: exec.Command(argv[0], argv[1:]...)}
	m.cmd.Env = append(os.Environ(), asMender+"=1")
	m.cmd.Stderr = os.Stderr
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		err = on.Node.Run(m.cmd.Start)
	}
	if err != nil {
		t.Fatal(err)
	}
	go m.listen(out)
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("the mender says:\n%s", strings.Join(m.said(""), "\n"))
		}
	})
	return m
}

func (m *mender) signal(s os.Signal) {
	m.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.Fatal(err)
	}
}

func (m *mender) listen(out io.Reader) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		m.mu.Lock()
		m.lines = append(m.lines, lines.Text())
		m.mu.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
}

// hasEnded reports whether the mender has ended by itself.
func (m *mender) hasEnded() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// kill ends the mender at once.
func (m *mender) kill() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait() // it was killed, or has ended
}

// finish ends the mender after the look that it is at.
func (m *mender) finish() {
	m.Helper()
	m.signal(syscall.SIGTERM)
	if err := m.cmd.Wait(); err != nil {
		m.Error(err)
	}
}

// said returns the lines that begin with a text.
func (m *mender) said(text string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.lines), func(l string) bool { return !strings.HasPrefix(l, text) })
}

func (m *mender) eventually(what string, f func() bool) {
	m.Helper()
	for range 12000 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.Fatal("it doesn't come: " + what)
}

// processor returns the processor time that the mender has taken.
func (m *mender) processor() time.Duration {
	m.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.cmd.Process.Pid))
	if err != nil {
		m.Fatal(err)
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int
	for _, s := range f[11:13] { // utime and stime of proc_pid_stat(5)
		n, err := strconv.Atoi(s)
		if err != nil {
			m.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
