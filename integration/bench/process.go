// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const cniVersion = "1.1.0"

var serviceCIDR = []string{"10.96.0.0/12", "fd00:10:96::/108"}

// patience is the time after which a plugin is killed.
const patience = 10 * time.Second

// program is the path of a plugin.
type program string

// call is one invocation of a plugin.
type call struct {
	command string
	pod     *pod           // nil for STATUS
	nic     string         // CNI_IFNAME; "" for eth0
	prev    any            // prevResult; none if nil
	keys    map[string]any // the plugin's own keys; nil for coordinator's usual ones
	link    string         // name of the host end, for floor
	args    []string
	env     []string // beside CNI's
}

// command returns the process of a call, with the environment and input of a runtime.
func (p program) command(c call) (*exec.Cmd, error) {
	conf := map[string]any{"cniVersion": cniVersion, "name": "bench", "type": filepath.Base(string(p))}
	keys := c.keys
	if keys == nil {
		keys = map[string]any{"serviceCIDR": serviceCIDR}
	}
	maps.Copy(conf, keys)
	if c.prev != nil {
		conf["prevResult"] = c.prev
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(string(p), c.args...)
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+c.command, "CNI_PATH=/opt/cni/bin")
	cmd.Env = append(cmd.Env, c.env...)
	if c.pod != nil {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+c.pod.id, "CNI_NETNS="+c.pod.Path(), "CNI_IFNAME="+cmp.Or(c.nic, "eth0"),
			"FLOOR_LINK="+c.link, "FLOOR_NODE="+join(nodeAddresses), "FLOOR_POD="+join(c.pod.addresses))
	}
	return cmd, nil
}

// time runs a plugin on the node. It returns its output and the time from fork to exit status
// and output.
func (p program) time(n *node, c call) (stdout []byte, took time.Duration, err error) {
	cmd, err := p.command(c)
	if err != nil {
		return nil, 0, err
	}
	err = n.Run(func() error {
		start := time.Now()
		if err := cmd.Start(); err != nil {
			return err
		}
		defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
		err := cmd.Wait()
		took = time.Since(start)
		return err
	})
	return cmd.Stdout.(*bytes.Buffer).Bytes(), took, failure(cmd, c, err)
}

// peakMemory runs a plugin on the node and returns its peak memory in KiB. It reads VmHWM
// while the process is stopped at its exit. ru_maxrss of wait4(2) is of no use: it is never
// less than the parent's memory, because a child of vfork starts with its parent's memory.
func (p program) peakMemory(n *node, c call) (kib int, err error) {
	cmd, err := p.command(c)
	if err != nil {
		return 0, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	err = n.Run(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		kib, err = traceToExit(cmd.Process.Pid)
		if err != nil {
			_ = cmd.Process.Kill()
		}
		if e := cmd.Wait(); err == nil {
			err = e
		}
		return err
	})
	return kib, failure(cmd, c, err)
}

// traceToExit lets a traced process run, and returns its VmHWM in KiB at its exit.
func traceToExit(pid int) (kib int, err error) {
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
		return 0, err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACEEXIT); err != nil {
		return 0, err
	}
	for signal := 0; ; signal = int(status.StopSignal()) {
		if err := unix.PtraceCont(pid, signal); err != nil {
			return 0, err
		}
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != nil {
			return 0, err
		}
		if !status.Stopped() {
			return 0, fmt.Errorf("process ended without a stop at its exit: wait status %#x", status)
		}
		if status.TrapCause() == unix.PTRACE_EVENT_EXIT {
			break
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
		}
	}
	if err != nil {
		return 0, err
	}
	return kib, unix.PtraceDetach(pid)
}

// failure adds the plugin's output to an error. It returns nil for nil.
func failure(cmd *exec.Cmd, c call, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w: %s%s", cmd.Path, c.command, err, cmd.Stdout, cmd.Stderr)
}
