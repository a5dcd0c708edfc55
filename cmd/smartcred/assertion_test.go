package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const statedEndpoint = "https://auth.example.com/token"

type preview struct {
	Header map[string]any
	Claims map[string]any
}

func TestAssertion(t *testing.T) {
	w := newWorld(t, nil)
	w.key("ES384", "key.pem", "app")
	stated := []string{"assertion", "--signer", "file:key.pem", "--client-id", "app", "--token-endpoint", statedEndpoint}
	for _, test := range []struct {
		name           string
		args           []string
		header, claims map[string]any
	}{
		{"stated endpoint", nil, map[string]any{"alg": "ES384", "typ": "JWT"}, map[string]any{"iss": "app", "sub": "app", "aud": statedEndpoint}},
		{"no jku", nil, map[string]any{"jku": nil}, nil},
		{"jku", []string{"--jwks-url", "https://app.example.com/jwks.json"}, map[string]any{"jku": "https://app.example.com/jwks.json"}, nil},
		{"jku not sent", []string{"--jwks-url", "https://app.example.com/jwks.json", "--send-jku=false"}, map[string]any{"jku": nil}, nil},
		{"kid", []string{"--key-id", "registered-1"}, map[string]any{"kid": "registered-1"}, nil},
		{"audience scheme", []string{"--audience-scheme", "http"}, nil, map[string]any{"aud": "http://auth.example.com/token"}},
		{"audience issuer", []string{"--audience", "issuer", "--issuer", "https://issuer.example.com"}, nil, map[string]any{"aud": "https://issuer.example.com"}},
		{"audience literal", []string{"--audience", "urn:other"}, nil, map[string]any{"aud": "urn:other"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			p := decodeJSON[preview](t, w.run(append(stated, test.args...)...).ok())
			for name, want := range test.header {
				if p.Header[name] != want {
					t.Errorf("header %s is %v, want %v", name, p.Header[name], want)
				}
			}
			for name, want := range test.claims {
				if p.Claims[name] != want {
					t.Errorf("claim %s is %v, want %v", name, p.Claims[name], want)
				}
			}
			left := time.Until(time.Unix(int64(p.Claims["exp"].(float64)), 0))
			if left < 3*time.Minute || left > 4*time.Minute {
				t.Errorf("exp is %s from now, want 4m", left)
			}
		})
	}
	w.t = t
	if n := len(w.srv.Requests()); n != 0 {
		t.Errorf("%d requests although the endpoint is stated", n)
	}

	p := decodeJSON[preview](t, w.run("assertion", "--base-url", w.srv.URL, "--allow-insecure-loopback", "--client-id", "app", "--signer", "file:key.pem").ok())
	if p.Claims["aud"] != w.srv.TokenURL {
		t.Errorf("aud is %v, want the discovered %s", p.Claims["aud"], w.srv.TokenURL)
	}
	if w.srv.Count(smartauthtest.EndpointToken) != 0 {
		t.Error("a token was requested")
	}
}

func TestAssertionLive(t *testing.T) {
	w := newWorld(t, nil)
	set := decodeJSON[jose.JSONWebKeySet](t, w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok())
	out := w.run("assertion", "--live", "--signer", "file:key.pem", "--client-id", "app", "--token-endpoint", statedEndpoint).ok()
	signed, err := jwt.ParseSigned(strings.TrimSuffix(out, "\n"), []jose.SignatureAlgorithm{jose.ES384})
	if err != nil {
		t.Fatal(err)
	}
	var claims jwt.Claims
	if err := signed.Claims(&set, &claims); err != nil {
		t.Fatalf("the signature does not verify: %v", err)
	}
	if claims.Issuer != "app" || !claims.Audience.Contains(statedEndpoint) {
		t.Errorf("claims %+v", claims)
	}
}

func TestAssertionNeedsASigner(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.run("assertion").fails(exitUsage, "signer: is missing", "client_id: is missing", "base_url: is missing")
	w.run("keygen", "--alg", "ES384", "--out", "key.pem").ok()
	w.run("assertion", "--client-id", "app", "--token-endpoint", statedEndpoint, "--secret", "env:X").fails(exitUsage, "signer: is missing")
	w.run("assertion", "--client-id", "app", "--token-endpoint", statedEndpoint, "--secret", "env:X", "--signer", "file:key.pem",
		"--auth-method", "client_secret_post").fails(exitUsage, "auth_method: is client_secret_post, which sends no assertion")
	w.run("assertion", "--client-id", "app", "--token-endpoint", statedEndpoint, "--signer", "file:absent.pem").fails(exitBackend, "absent.pem")
	w.srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Status: http.StatusNotFound})
	w.run("assertion", "--client-id", "app", "--base-url", w.srv.URL, "--allow-insecure-loopback", "--signer", "file:key.pem").fails(exitServer, "HTTP 404")
}
