package provider_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred/provider"
)

func TestCredentialPrintsNothingSecret(t *testing.T) {
	const secret = "canary-of-a-credential"
	cred := provider.NewCredential(provider.CredentialOptions{
		Method: provider.MethodClientSecretPost, Version: "v3",
		Header: http.Header{"Authorization": {"Basic " + secret}}, Params: url.Values{"client_secret": {secret}},
		Sensitive: [][]byte{[]byte(secret)},
	})
	holder := struct {
		Public  provider.Credential
		private provider.Credential
		pointer *provider.Credential
	}{cred, cred, &cred}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		for _, value := range []any{cred, &cred, holder, &holder} {
			fmt.Fprintf(&out, verb, value)
		}
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", "cred", cred, "pointer", &cred, "holder", holder)
	}
	if text, err := json.Marshal(cred); err == nil {
		out.Write(text)
	}
	if strings.Contains(out.String(), secret) || strings.Contains(out.String(), fmt.Sprintf("%x", secret)) {
		t.Error("the secret was printed")
	}
	if !strings.Contains(out.String(), "v3") {
		t.Error("the version, which is for logs, was not printed")
	}
}

func TestCredentialSharesNothing(t *testing.T) {
	params, sensitive := url.Values{"a": {"1"}}, []byte("secret")
	cred := provider.NewCredential(provider.CredentialOptions{Params: params, Sensitive: [][]byte{sensitive}})
	params.Set("a", "2")
	sensitive[0] = 'X'
	cred.Sensitive()[0][1] = 'X'
	form := url.Values{}
	cred.Apply(http.Header{}, form)
	form["a"][0] = "3"
	again := url.Values{}
	cred.Apply(http.Header{}, again)
	if again.Get("a") != "1" || string(cred.Sensitive()[0]) != "secret" {
		t.Errorf("form = %v, sensitive = %s", again, cred.Sensitive()[0])
	}
	var zero provider.Credential
	zero.Apply(http.Header{}, form)
	if zero.Sensitive() != nil {
		t.Error("the zero Credential has something sensitive")
	}
}

func TestTokenErrorMatchesByCode(t *testing.T) {
	all := []error{provider.ErrInvalidRequest, provider.ErrInvalidClient, provider.ErrInvalidGrant, provider.ErrInvalidScope, provider.ErrUnauthorizedClient, provider.ErrUnsupportedGrantType}
	for _, want := range all {
		err := fmt.Errorf("wrapped: %w", &provider.TokenError{Status: 400, Code: want.Error()})
		for _, other := range all {
			if errors.Is(err, other) != (other == want) {
				t.Errorf("%v matches %v: %t", err, other, errors.Is(err, other))
			}
		}
	}
	if errors.Is(&provider.TokenError{Code: "invalid_client "}, provider.ErrInvalidClient) {
		t.Error("another code matches")
	}
}

func TestTokenErrorSaysWhatItKnows(t *testing.T) {
	err := &provider.TokenError{
		Status: 401, Code: "invalid_client", Description: "who?", URI: "urn:error:7",
		RetryAfter: 5 * time.Second, CorrelationID: "req-1", Skew: -90 * time.Second,
	}
	want := "authorization server answered invalid_client (HTTP 401): who? (urn:error:7), retry after 5s, request id req-1; the server's clock is behind ours by 1m30s, which alone can make it refuse an assertion"
	if got := err.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
