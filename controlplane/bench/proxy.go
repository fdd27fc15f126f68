// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
)

// proxy serves a way to the API server that shows each request to f, and returns a kubeconfig
// for it.
func proxy(host string, transport http.RoundTripper, dir string, f func(*http.Request) error) (kubeconfig string, stop func(), err error) {
	to, err := url.Parse(host)
	if err != nil {
		return "", nil, err
	}
	reverse := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(to) },
		Transport:     transport,
		FlushInterval: -1,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		reverse.ServeHTTP(w, r)
	}))
	kubeconfig = filepath.Join(dir, "counted")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "clusters": [{"name": "c", "cluster": {"server": %q}}],
		"contexts": [{"name": "c", "context": {"cluster": "c"}}], "current-context": "c"}`, server.URL)
	return kubeconfig, server.Close, os.WriteFile(kubeconfig, []byte(text), 0o600)
}
