// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multihome/multihome/integration/e2e/answer"
	"github.com/multihome/multihome/pkg/testbed"
)

// patience is the time limit of a request, on a busy machine.
const patience = 5 * time.Second

// question is a request of a machine or pod to another, with the expected result.
type question struct {
	from    *testbed.Netns
	source  netip.Addr // the source address of from, if valid
	to      netip.AddrPort
	answers string     // the server that must answer, if given
	sees    netip.Addr // the client's address that the server must see, if valid
	bytes   int        // the size of the request's body, and of a part of the answer

	pod     *pod   // the pod that answers; its reply is checked if replyBy is given
	replyBy string // the only link by which the reply may leave it
}

var asked atomic.Uint32

// ask sends the request once.
func (q question) ask() (a answer.Answer, err error) {
	// The source port identifies the frames of a request whose answer doesn't name the
	// client. It is below the ports that the kernel assigns.
	port := 20000 + int(asked.Add(1)%10000)
	var capture *testbed.Capture
	if q.replyBy != "" {
		if capture, err = q.pod.Capture(""); err != nil {
			return a, err
		}
		defer capture.Close()
	}
	dial := func(ctx context.Context, network, address string) (c net.Conn, err error) {
		d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: q.source.AsSlice(), Port: port}}
		err = q.from.Do(func() error {
			c, err = d.DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
	method := "GET"
	if q.bytes > 0 {
		method = "POST"
	}
	request, err := http.NewRequest(method, "http://"+q.to.String(), bytes.NewReader(make([]byte, q.bytes)))
	if err != nil {
		return a, err
	}
	response, err := client.Do(request)
	if err == nil {
		defer response.Body.Close()
		a, err = q.read(response.Body)
	}
	if err != nil {
		return a, fmt.Errorf("%s asks %s: %w", q.from.Name(), q.to, err)
	}
	if capture != nil {
		err = q.look(capture, port, &a)
	}
	if len(a.Filler) != q.bytes {
		err = errors.Join(err, fmt.Errorf("%s asks %s: %d bytes came back, want %d", q.from.Name(), q.to, len(a.Filler), q.bytes))
	}
	return a, errors.Join(q.differs("answered by", a.Server, q.answers), q.seen(a.Client.Addr()), err)
}

// read reads the answer. The pods of examples/ send only the server's name.
func (q question) read(body io.Reader) (a answer.Answer, err error) {
	if q.pod == nil || !q.pod.example {
		err = json.NewDecoder(body).Decode(&a)
		return a, err
	}
	page, err := io.ReadAll(body)
	a.Server = strings.TrimSpace(string(page))
	return a, err
}

// look checks the pod's reply: its destination, if the answer doesn't say it, and its
// link. Nodes that translate the client's address may give it another port as well.
func (q question) look(capture *testbed.Capture, port int, a *answer.Answer) error {
	frames, err := capture.Frames()
	if err != nil {
		return err
	}
	replies := 0
	for _, f := range frames {
		if own := f.Dst == a.Client || q.pod.example && int(f.Dst.Port()) == port; !f.Outgoing || !own {
			continue
		}
		replies++
		if q.pod.example {
			a.Client = f.Dst
		}
		if err := q.differs("reply left by", f.Link, q.replyBy); err != nil {
			return err
		}
	}
	if replies == 0 {
		return fmt.Errorf("%s asks %s: no reply of %s was seen", q.from.Name(), q.to, q.pod.name)
	}
	return nil
}

func (q question) differs(what, got, want string) error {
	if want == "" || got == want {
		return nil
	}
	return fmt.Errorf("%s asks %s: %s %s, want %s", q.from.Name(), q.to, what, got, want)
}

func (q question) seen(client netip.Addr) error {
	if !q.sees.IsValid() {
		return nil
	}
	return q.differs("client's address seen", client.String(), q.sees.String())
}

// askAll sends all requests, once each.
func askAll(t *testing.T, questions []question) {
	t.Helper()
	for _, q := range questions {
		if _, err := q.ask(); err != nil {
			t.Error(err)
		}
	}
}

// serve starts a server at port 8080 of a machine, or of a pod that has none, until it is
// closed.
func serve(n *testbed.Netns) (server io.Closer, err error) {
	err = n.Do(func() error {
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			return err
		}
		server = l
		go http.Serve(l, answer.Handler(n.Name())) //nolint:errcheck // it ends with the listener
		return nil
	})
	return server, err
}
