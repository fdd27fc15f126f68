// SPDX-License-Identifier: Apache-2.0

// Package answer is what pods and machines of the test cluster say to who asks
// them by HTTP. It is linked into the image of the pods and into the tests.
package answer

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
)

// Answer tells a client who answers, and whom it sees.
type Answer struct {
	Server string         // the name of the pod or machine
	Client netip.AddrPort // the client as the server sees it
	Filler []byte         // as long as the request's body
}

// Handler answers every request in the name of a server.
func Handler(server string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, err := netip.ParseAddrPort(r.RemoteAddr)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return // the client is gone
		}
		json.NewEncoder(w).Encode(Answer{Server: server, Client: client, Filler: make([]byte, size)}) //nolint:errcheck // the client misses it
	})
}
