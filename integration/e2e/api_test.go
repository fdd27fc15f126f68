// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// object is a Kubernetes object to be written, or a part of one.
type object = map[string]any

// namespace is where all objects of the tests live; it is made by the cluster.
const namespace = "default"

const (
	podsAt      = "/api/v1/namespaces/" + namespace + "/pods"
	servicesAt  = "/api/v1/namespaces/" + namespace + "/services"
	eventsAt    = "/api/v1/namespaces/" + namespace + "/events"
	networksAt  = "/apis/k8s.cni.cncf.io/v1/namespaces/" + namespace + "/network-attachment-definitions"
	endpointsAt = "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices"
)

// server connects to the API server on this machine, which has a certificate of its own
// making.
var server = http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// statusError is an answer with another status than success.
type statusError struct {
	code int
	body string
}

func (e statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.body) }

// request sends an object, if there is one, and returns the answer's body.
func request(method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	r, err := http.NewRequest(method, "https://127.0.0.1:6443"+path, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer admin") // as cluster.sh has it
	r.Header.Set("Content-Type", "application/json")
	answer, err := server.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 300 {
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%s %s: %w", method, path, statusError{answer.StatusCode, string(b)})
	}
	return answer.Body, nil
}

// call sends an object, if there is one, and reads the answer into out.
func call(t *testing.T, method, path string, in, out any) {
	t.Helper()
	body, err := request(method, path, in)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if out == nil {
		return
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		t.Fatal(err)
	}
}

// within calls f until it returns no error, and fails the test with the last error
// after limit.
func within(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s: %v", limit, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
