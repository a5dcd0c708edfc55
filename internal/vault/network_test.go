package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

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
