package vault

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// saying fails unless err is target and its text holds words.
func saying(t *testing.T, err, target error, words ...string) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got %v, want %v", err, target)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

func TestUnknownAuthority(t *testing.T) {
	b := newLoginBed(t)
	t.Setenv("VAULT_CACERT", "")
	s := b.open(t, map[string]string{"token_file": tokenFile(t, "hvs.nobody-gets-this")}, smartcred.Discard)
	_, err := s.Keys(t.Context())
	saying(t, err, smartcred.ErrUnavailable, "certificate does not verify", "VAULT_CACERT")
	if n := len(b.front.Requests()); n > 0 {
		t.Errorf("%d requests were sent to a server that nobody vouches for", n)
	}
}

func TestSkipVerifyIsRefused(t *testing.T) {
	b := newLoginBed(t)
	t.Setenv("VAULT_CACERT", "")
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	options := map[string]string{"token_file": tokenFile(t, b.vault.Token(t, policy(transitPolicy, b.mount)))}
	_, err := signer.Open(t.Context(), b.uri(options), nil)
	saying(t, err, smartcred.ErrInvalidConfig, "VAULT_SKIP_VERIFY", "insecure_backend_tls")
	insecure := &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{InsecureBackendTLS: true}}
	works(t, openSigner(t, b.uri(options), insecure))
	t.Setenv("VAULT_SKIP_VERIFY", "")
	works(t, openSigner(t, b.uri(options), insecure))
}

func TestPlainHTTPIsRefused(t *testing.T) {
	s := vaulttest.Shared(t)
	t.Setenv("VAULT_CACERT", s.CACert)
	got := 0
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(plain.Close)
	uri := "vault-transit://transit/smart" + query(map[string]string{"address": plain.URL, "token_file": tokenFile(t, "hvs.nobody-gets-this")})
	_, err := signer.Open(t.Context(), uri, nil)
	saying(t, err, smartcred.ErrInvalidConfig, "address", "http")
	_, err = signer.Open(t.Context(), strings.Replace(uri, url.QueryEscape(plain.URL), url.QueryEscape("http://vault.example:8200"), 1),
		&signer.OpenOptions{OpenOptions: secretsource.OpenOptions{AllowInsecureLoopback: true}})
	saying(t, err, smartcred.ErrInvalidConfig, "address", "http")
	if got > 0 {
		t.Errorf("%d requests in plain text", got)
	}
	t.Setenv("VAULT_MAX_RETRIES", "0")
	allowed := openSigner(t, uri, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{AllowInsecureLoopback: true}})
	_, err = allowed.Keys(t.Context())
	saying(t, err, smartcred.ErrUnavailable)
	if got != 1 {
		t.Errorf("%d requests on loopback, where http is allowed, want 1", got)
	}
}

// A server over TLS that sends clients on to plain text.
func TestRedirectToPlainHTTPIsNotFollowed(t *testing.T) {
	b := newLoginBed(t)
	got := 0
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got++ }))
	t.Cleanup(plain.Close)
	b.front.Answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	s := b.open(t, map[string]string{"token_file": tokenFile(t, "hvs.nobody-gets-this")}, smartcred.Discard)
	_, err := s.Keys(t.Context())
	saying(t, err, smartcred.ErrUnavailable)
	if got > 0 {
		t.Errorf("%d requests were sent on in plain text", got)
	}
}
