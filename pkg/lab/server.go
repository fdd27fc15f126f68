// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/multihome/multihome/pkg/testbed"
)

// start starts the server on the node, and waits until it serves.
func (s *Scene) start(server *exec.Cmd, place *os.File) error {
	says, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer says.Close()
	server.Stdout, server.Stderr = out, out
	server.ExtraFiles = []*os.File{place}
	server.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := errors.Join(s.Node.Run(server.Start), out.Close()); err != nil {
		return err
	}
	first, _ := bufio.NewReader(says).ReadString('\n')
	if first != listening {
		return fmt.Errorf("server: %s: %w", cmp.Or(strings.TrimSpace(first), "it says nothing"), server.Wait())
	}
	return server.Process.Release()
}

// listening is the word that a server prints when it listens.
const listening = "listening\n"

// Serve is the server of a lab that is kept up. On every machine and pod it answers HTTP,
// on the port of a scene's servers, with the names of asker and answerer. It ends with
// ctx, and the lab ends with it.
func Serve(ctx context.Context) error {
	paths, err := pinned()
	if err != nil {
		return err
	}
	for name, path := range paths {
		l, err := listen(name, path)
		if err != nil {
			return err
		}
		defer l.Close()
		// Nobody reads its log.
		server := http.Server{Handler: answerWithName(name), ErrorLog: log.New(io.Discard, "", 0)}
		go server.Serve(l) //nolint:errcheck // it ends with the process
	}
	place := os.NewFile(3, claimPath) // by start
	defer place.Close()
	mine, err := readClaim(place)
	if err != nil {
		return err
	}
	mine.Server = os.Getpid()
	if err := mine.write(place); err != nil {
		return err
	}
	fmt.Print(listening)
	<-ctx.Done()
	return nil
}

func listen(name, path string) (l net.Listener, err error) {
	n, err := testbed.OpenNetns(name, path)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	err = n.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", appPort))
		return err
	})
	return l, err
}

// answerWithName answers as a machine or pod.
func answerWithName(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s, at %s, was asked by %s\n", name, r.Context().Value(http.LocalAddrContextKey), r.RemoteAddr)
	}
}
