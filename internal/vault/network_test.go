package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// withoutCertificate is what a client reads from a server that wants a certificate.
func withoutCertificate(t *testing.T) error {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	conn, err := tls.Dial("tcp", srv.Listener.Addr().String(), &tls.Config{RootCAs: roots})
	if err == nil {
		defer conn.Close()
		_, err = conn.Read(make([]byte, 1))
	}
	return err
}

// throughNoProxy is what a client returns whose proxy listens no more.
func throughNoProxy(t *testing.T) error {
	t.Helper()
	proxy := httptest.NewServer(nil)
	proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyURL(at)}}
	_, err = client.Get("https://vault.example.com")
	return errors.Unwrap(err) // without the url.Error, which is put around it below
}

// What the client returns for each is told apart by what it wraps.
func TestCausesOfNoAnswer(t *testing.T) {
	verification := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"plain http":          {http.ErrSchemeMismatch, "does not speak TLS"},
		"unknown authority":   {verification(x509.UnknownAuthorityError{}), "VAULT_CACERT"},
		"other name":          {verification(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "secret-host"}), "VAULT_TLS_SERVER_NAME"},
		"expired":             {verification(x509.CertificateInvalidError{Reason: x509.Expired}), "expired"},
		"no such name":        {&net.DNSError{Name: "secret-host"}, "does not resolve"},
		"no client cert":      {withoutCertificate(t), "does it ask for a client certificate?"},
		"no proxy":            {throughNoProxy(t), "the proxy that VAULT_PROXY_ADDR"},
		"client's time-out":   {context.DeadlineExceeded, "no answer in time"},
		"quoted answer bytes": {fmt.Errorf("malformed HTTP response %q", "secret-token"), "the answer is not Vault's"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, err := range []error{c.err, &url.Error{Op: "Get", URL: "https://secret-host", Err: c.err}} {
				if got := unanswered(err).Error(); !strings.Contains(got, c.says) || strings.Contains(got, "secret") {
					t.Errorf("%v: %s", err, got)
				}
			}
		})
	}
}
