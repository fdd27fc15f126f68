// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/multihome/multihome/pkg/testbed"
)

// Check is a question from a client to a server, with the expected answer and path.
type Check struct {
	Name        string
	Coordinator bool // works only with coordinator or route in the chain

	Network string // tcp or udp
	From    *testbed.Netns
	Source  netip.Addr // address that From asks from, if valid
	To      netip.AddrPort
	Answers *testbed.Netns // the machine or pod that must answer
	Sees    netip.Addr     // the client's address as the server must see it

	RequestBy string // the only link by which the request may leave From, if given
	ReplyBy   string // the only link by which the reply may leave Answers, if given
}

// Result is the result of a check: the answer, the links seen, and the fault if any.
type Result struct {
	Check
	Evidence string
	Err      error
}

// Run asks the question and watches both ends while it is answered.
func (c Check) Run() Result {
	r := Result{Check: c}
	r.Evidence, r.Err = c.run()
	return r
}

// RunAll runs checks side by side; the results are in their order.
func RunAll(checks []Check) []Result {
	results := make([]Result, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() { results[i] = c.Run() })
	}
	wg.Wait()
	return results
}

func (c Check) run() (evidence string, err error) {
	atClient, err := c.From.Capture("")
	if err != nil {
		return "", err
	}
	defer atClient.Close()
	atServer, err := c.Answers.Capture("")
	if err != nil {
		return "", err
	}
	defer atServer.Close()

	port := clientPort()
	answer, askErr := c.From.Ask(c.Network, c.To, testbed.Socket{Source: c.Source, Port: port})
	requests, err := leftBy(atClient, func(f testbed.Frame) bool { return f.Src.Port() == port && f.Dst == c.To })
	if err != nil {
		return "", err
	}
	replies, err := leftBy(atServer, func(f testbed.Frame) bool { return f.Dst.Port() == port })
	if err != nil {
		return "", err
	}
	if askErr != nil {
		return fmt.Sprintf("request left %s by %s; reply left %s by %s",
			c.From.Name(), named(requests), c.Answers.Name(), named(replies)), askErr
	}
	evidence = fmt.Sprintf("%s > %s; %s saw %s; request left %s by %s; reply left %s by %s",
		answer.Local.Addr(), c.To, answer.Server, answer.Client.Addr(),
		c.From.Name(), named(requests), c.Answers.Name(), named(replies))
	return evidence, errors.Join(
		differs("answered by", answer.Server, c.Answers.Name()),
		differs("client's address seen", answer.Client.Addr().String(), c.Sees.String()),
		strays("request", c.From, requests, c.RequestBy),
		strays("reply", c.Answers, replies, c.ReplyBy))
}

var asked atomic.Uint32

// clientPort returns a port below the ports that the kernel assigns, another one each
// time, so that each question has frames of its own. NAT keeps the port if it is free.
func clientPort() uint16 {
	return uint16(20000 + asked.Add(1)%10000)
}

// leftBy names the links by which matching frames left.
func leftBy(c *testbed.Capture, match func(testbed.Frame) bool) ([]string, error) {
	frames, err := c.Frames()
	if err != nil {
		return nil, err
	}
	links := map[string]bool{}
	for _, f := range frames {
		if f.Outgoing && match(f) {
			links[f.Link] = true
		}
	}
	return slices.Sorted(maps.Keys(links)), nil
}

func named(links []string) string {
	if len(links) == 0 {
		return "no link"
	}
	return strings.Join(links, " and ")
}

func differs(what, got, want string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("%s: %s, want %s", what, got, want)
}

func strays(what string, from *testbed.Netns, links []string, only string) error {
	if only == "" || len(links) == 1 && links[0] == only {
		return nil
	}
	return fmt.Errorf("%s left %s by %s, want %s alone", what, from.Name(), named(links), only)
}
