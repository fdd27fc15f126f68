// SPDX-License-Identifier: Apache-2.0

// Command inject runs a command and makes some of its system calls fail, or kills the command
// before one of them. Tests use it.
//
//	inject [-reads] [-list FILE] [-fail N=ERRNO,...] [-kill N] COMMAND...
//
//	inject -list calls true                   # number the calls
//	inject -fail 3=ENOMEM,4=EBUSY COMMAND     # the third and fourth call fail
//	inject -kill 5 COMMAND                    # kill it before the fifth call
//
// It numbers the system calls by which the command reads or changes the kernel's state (with
// -reads also those by which it reads files), over all threads and children. A call that fails
// never reaches the kernel. FILE gets a line for each call: its number, its name, its subject,
// and the fault. Inject exits with the status of the command, with 137 if that was killed, and
// with 125 if it can't do its work.
//
// Beware: it needs root, and a kernel with seccomp user notifications. With several threads, a
// call may get another number in each run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// status is the exit status of this program if it can't do its work.
const status = 125

func main() {
	switch os.Args[0] {
	case stageReads:
		numberReads()
		fallthrough
	case stage:
		must(become(os.Args[1:]))
	}
	list := flag.String("list", "", "file for a line about every call")
	fail := flag.String("fail", "", "numbers of calls to fail, and the errors, as in 3=ENOMEM,4=EBUSY")
	kill := flag.Int("kill", 0, "number of the call before which to kill the command; 0 for none")
	alsoReads := flag.Bool("reads", false, "number also the calls that read files")
	flag.Parse()
	s := &supervisor{stage: stage, kill: *kill, fail: map[int]syscall.Errno{}}
	if *alsoReads {
		s.stage = stageReads
		numberReads()
	}
	must(s.failing(*fail))
	if *list != "" {
		var err error
		s.list, err = os.Create(*list)
		must(err)
	}
	code, err := s.run(flag.Args())
	must(err)
	os.Exit(code)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "inject:", err)
		os.Exit(status)
	}
}

// failing parses the flag -fail.
func (s *supervisor) failing(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		if item == "" {
			continue
		}
		number, name, _ := strings.Cut(item, "=")
		n, err := strconv.Atoi(number)
		if err != nil {
			return err
		}
		if s.fail[n], err = errno(name); err != nil {
			return err
		}
	}
	return nil
}

// errno returns the error number of a name such as ENOMEM.
func errno(name string) (syscall.Errno, error) {
	const most = 133 // EHWPOISON
	for e := syscall.Errno(1); e <= most; e++ {
		if unix.ErrnoName(e) == name {
			return e, nil
		}
	}
	return 0, fmt.Errorf("%q: want the name of an error, such as ENOMEM", name)
}

// These are the names of this program in the command's process, before it becomes the command:
// without -reads, and with it.
const stage, stageReads = "inject-stage", "inject-stage-reads"

// control is the descriptor of the socket between supervisor and stage.
const control = 3

// become installs the filter on this thread, passes the filter's listener to the supervisor,
// and becomes the command. It sends the number of the listener's descriptor by writev(2),
// which the filter doesn't catch.
func become(argv []string) error {
	runtime.LockOSThread()
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	listener, err := install()
	if err != nil {
		return err
	}
	if _, err := unix.Writev(control, [][]byte{{byte(listener)}}); err != nil {
		return err
	}
	var taken [1]byte
	if _, err := unix.Read(control, taken[:]); err != nil {
		return err
	}
	unix.CloseOnExec(control)
	return unix.Exec(path, argv, os.Environ())
}

// run starts the command and answers its calls until it ends.
func (s *supervisor) run(argv []string) (code int, err error) {
	runtime.LockOSThread() // the kernel sends Pdeathsig when this thread ends
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	theirs := os.NewFile(uintptr(pair[1]), "control")
	cmd := exec.Command("/proc/self/exe", argv...)
	cmd.Args[0] = s.stage
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	theirs.Close()
	s.pid = cmd.Process.Pid
	if err := s.listen(pair[0]); err != nil {
		_ = cmd.Process.Kill()
		_, _ = cmd.Process.Wait()
		return 0, err
	}
	go s.serve()
	state, err := cmd.Process.Wait()
	if err != nil {
		return 0, err
	}
	if ws := state.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

// listen gets a copy of the listener from become.
func (s *supervisor) listen(control int) error {
	var number [1]byte
	if n, err := unix.Read(control, number[:]); err != nil || n == 0 {
		return errors.Join(errors.New("the command was not started"), err)
	}
	pidfd, err := unix.PidfdOpen(s.pid, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(pidfd) }()
	if s.listener, err = unix.PidfdGetfd(pidfd, int(number[0]), 0); err != nil {
		return err
	}
	_, err = unix.Write(control, number[:])
	return err
}
