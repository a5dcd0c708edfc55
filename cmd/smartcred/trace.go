package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred/internal/redact"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// A tracer says what is sent and answered, without the credential itself. It
// stands between the client and its provider, and between it and the network.
type tracer struct {
	messages *messages
	base     http.RoundTripper
	provider provider.Provider
	sent     atomic.Pointer[redact.Redactor] // of the credential being sent
}

// Close closes the provider.
func (t *tracer) Close() error {
	if c, ok := t.provider.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// Authenticate implements [provider.Provider].
func (t *tracer) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	t.messages.line("token endpoint %s", withoutSecrets(req.URL))
	if rotator, ok := t.provider.(provider.Rotator); ok {
		defer func() { t.state(rotator.Status(ctx, req.ClientID, req.Server)) }()
	}
	return t.provider.Authenticate(ctx, req, func(ctx context.Context, cred provider.Credential) error {
		t.credential(cred)
		err := send(ctx, cred)
		t.answer(err)
		return err
	})
}

func (t *tracer) credential(cred provider.Credential) {
	t.sent.Store(redact.New(cred.Sensitive()...))
	t.messages.line("authenticating by %s, version %q, kid %q, jti %q", cred.Method, cred.Version, cred.KeyID, cred.JTI)
	form := url.Values{}
	cred.Apply(http.Header{}, form)
	header, claims, ok := decode(form.Get("client_assertion"))
	if ok {
		t.messages.line("assertion: alg %s, aud %s, exp in %s, jku %q", header.Algorithm, claims.Audience,
			time.Duration(claims.ExpiresAt-time.Now().Unix())*time.Second, header.JKU)
	}
}

// state says what the next request would go by.
func (t *tracer) state(s provider.Status) {
	if s.InForce != (rotation.Known{}) {
		t.messages.line("state: version %q, kid %q is in force", s.InForce.Version, s.InForce.KeyID)
	}
	for _, k := range s.Known {
		if k.Refusals > 0 {
			t.messages.line("state: version %q, kid %q was refused %s%s", k.Version, k.KeyID, times(k.Refusals), at(", comes last until ", k.RefusedUntil))
		}
	}
	if !s.BackoffUntil.IsZero() {
		t.messages.line("state: back-off until %s", when(s.BackoffUntil))
	}
	t.messages.line("state: %d more refused requests in this hour, %d in 24 h, of credentials that never worked", s.HourlyBudget, s.DailyBudget)
	if s.Degraded != nil {
		t.messages.line("state: degraded: %s", plainText(s.Degraded))
	}
}

type assertionHeader struct {
	Algorithm string `json:"alg"`
	JKU       string `json:"jku"`
}

// decode reads what an assertion of our own says.
func decode(jwt string) (header assertionHeader, claims signer.Claims, ok bool) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return header, claims, false
	}
	for i, into := range []any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			return header, claims, false
		}
	}
	return header, claims, true
}

func (t *tracer) answer(err error) {
	var oauth *provider.TokenError
	var server *smartauth.ServerError
	switch {
	case err == nil:
		t.messages.line("answer: a token")
	case errors.As(err, &oauth):
		t.messages.line("answer: HTTP %d %s, correlation id %q", oauth.Status, oauth.Code, oauth.CorrelationID)
	case errors.As(err, &server):
		t.messages.line("answer: HTTP %d, correlation id %q", server.Status, server.CorrelationID)
	}
}

// RoundTrip implements [http.RoundTripper].
func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := t.base.RoundTrip(req)
	took := time.Since(began).Round(time.Millisecond)
	where := req.Method + " " + withoutSecrets(req.URL.String())
	if err != nil {
		t.messages.line("%s: no answer after %s", where, took)
		return nil, err
	}
	skew := "unknown (no Date)"
	if d, ok := skewIn(resp.Header); ok {
		skew = d.String()
	}
	t.messages.line("%s: HTTP %d after %s, clock skew %s, correlation id %q", where, resp.StatusCode, took, skew, t.correlationID(resp.Header))
	return resp, nil
}

// correlationID is cleaned: servers and gateways echo what they got.
func (t *tracer) correlationID(h http.Header) string {
	for _, name := range []string{"X-Request-Id", "X-Correlation-Id"} {
		if id := h.Get(name); id != "" {
			return redact.Text(t.sent.Load().Clean(id), 256)
		}
	}
	return ""
}

// withoutSecrets is a URL without user and query.
func withoutSecrets(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(malformed)"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}
