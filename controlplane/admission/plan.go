// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	life     = 90 * 24 * time.Hour // of a certificate and of the authority that signed it
	skew     = time.Hour           // by which the API server's clock may be behind
	look     = time.Hour           // the longest time between two looks at the clock
	maxCAs   = 4                   // in a bundle; more aren't ours
	caBundle = "ca.crt"            // in the Secret, beside tls.crt and tls.key
	caName   = "multihome-webhook"
)

// pair is a certificate for the server, and the authorities that clients trust: the one
// that signed it first, then former ones, until they end.
type pair struct {
	leaf *x509.Certificate
	cas  []*x509.Certificate
}

// issue makes an authority and lets it sign a certificate for names. The authority's key is
// thrown away: nobody can sign anything else by it.
func issue(now time.Time, names []string) (map[string][]byte, error) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: caName},
		NotBefore: now.Add(-skew), NotAfter: now.Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	if ca, err = x509.ParseCertificate(caDER); err != nil {
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		caBundle:                encode("CERTIFICATE", caDER),
		corev1.TLSCertKey:       encode("CERTIFICATE", leafDER),
		corev1.TLSPrivateKeyKey: encode("PRIVATE KEY", keyDER),
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// bundle encodes the authorities that haven't ended.
func bundle(now time.Time, cas []*x509.Certificate) []byte {
	var out []byte
	for _, ca := range cas {
		if now.Before(ca.NotAfter) {
			out = append(out, encode("CERTIFICATE", ca.Raw)...)
		}
	}
	return out
}

// parse reads the content of the Secret. It returns an error if a server can't serve names
// by it, or if it isn't what issue makes.
func parse(now time.Time, content map[string][]byte, names []string) (*pair, error) {
	cert, err := tls.X509KeyPair(content[corev1.TLSCertKey], content[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("%s or %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
	}
	p := &pair{leaf: cert.Leaf}
	for rest := content[caBundle]; len(bytes.TrimSpace(rest)) > 0; {
		block, after := pem.Decode(rest)
		if block == nil || len(p.cas) == maxCAs {
			return nil, fmt.Errorf("%s: want at most %d certificates in PEM", caBundle, maxCAs)
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", caBundle, err)
		}
		if ca.Subject.CommonName != caName || ca.CheckSignatureFrom(ca) != nil {
			return nil, fmt.Errorf("%s: %s: want self-signed certificates of %s alone", caBundle, ca.Subject, caName)
		}
		p.cas, rest = append(p.cas, ca), after
	}
	if len(p.cas) == 0 {
		return nil, errors.New(caBundle + ": no certificate in it")
	}
	roots := x509.NewCertPool()
	roots.AddCert(p.cas[0])
	for _, name := range names {
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err != nil {
			return nil, fmt.Errorf("%s: %w", corev1.TLSCertKey, err)
		}
	}
	return p, nil
}

// decision says what to write.
type decision struct {
	Issue  string              // why a new certificate is needed, "" if none is
	Keep   []*x509.Certificate // the authorities that stay trusted beside that of a new one
	Bundle []byte              // what the configuration has to trust now, nil: as it does
	After  time.Duration       // when to look again
}

// plan decides from what the Secret has (nil: there is none) and from what each webhook of
// the configuration trusts. A certificate is renewed when two thirds of its life are over;
// its authority stays in the bundle until it ends, for replicas that still serve with it.
func plan(now time.Time, content map[string][]byte, trusted [][]byte, names []string) decision {
	if content == nil {
		return decision{Issue: "there is no Secret"}
	}
	p, err := parse(now, content, names)
	if err != nil {
		return decision{Issue: err.Error()}
	}
	renewal := p.leaf.NotAfter.Add(-life / 3)
	if !now.Before(renewal) {
		return decision{Issue: "two thirds of its life are over", Keep: p.cas}
	}
	d := decision{After: min(look, renewal.Sub(now))}
	want := bundle(now, p.cas)
	if slices.ContainsFunc(trusted, func(t []byte) bool { return !bytes.Equal(t, want) }) {
		d.Bundle = want
	}
	return d
}
