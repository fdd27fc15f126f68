// SPDX-License-Identifier: Apache-2.0

// Command app is the only program in the image of the test cluster's pods:
// without arguments it waits, as the container that holds a pod's namespaces
// does; with `serve` it answers at port 80.
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/multihome/multihome/integration/e2e/answer"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		go serve()
	}
	// A container's first process has no default action for signals.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}

func serve() {
	name, err := os.Hostname()
	if err == nil {
		err = http.ListenAndServe(":80", answer.Handler(name))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
