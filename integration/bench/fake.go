package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

const (
	fhirBase  = "https://fhir.example/r4"
	tokenURL  = "https://auth.example/token"
	clientID  = "bench-client"
	scope     = "system/*.rs"
	lifetime  = 3600 // seconds
	shortLife = 1    // seconds
)

// A tokenEndpoint answers token requests in memory, so that no network is
// measured. Its access tokens have 64 characters.
type tokenEndpoint struct {
	requests atomic.Int64
	// expiresIn is the n-th answer's expires_in, from 1; nil: lifetime.
	expiresIn func(n int64) int
	// wait is called before the n-th answer; nil: nothing.
	wait func(ctx context.Context, n int64) error
}

// RoundTrip implements http.RoundTripper.
func (e *tokenEndpoint) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodGet {
		return answer(req, discoveryDocument), nil
	}
	n := e.requests.Add(1)
	_, _ = io.Copy(io.Discard, req.Body)
	_ = req.Body.Close()
	if e.wait != nil {
		if err := e.wait(req.Context(), n); err != nil {
			return nil, err
		}
	}
	seconds := lifetime
	if e.expiresIn != nil {
		seconds = e.expiresIn(n)
	}
	return answer(req, fmt.Sprintf(`{"access_token":"%064x","token_type":"bearer","expires_in":%d,"scope":%q}`, n, seconds, scope)), nil
}

// discoveryDocument is as long as those that servers have.
const discoveryDocument = `{
	"issuer": "https://auth.example", "jwks_uri": "https://auth.example/jwks",
	"authorization_endpoint": "https://auth.example/authorize", "token_endpoint": "https://auth.example/token",
	"introspection_endpoint": "https://auth.example/introspect", "revocation_endpoint": "https://auth.example/revoke",
	"grant_types_supported": ["authorization_code", "client_credentials"],
	"token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "private_key_jwt"],
	"token_endpoint_auth_signing_alg_values_supported": ["RS384", "ES384"],
	"scopes_supported": ["openid", "fhirUser", "launch", "launch/patient", "offline_access", "patient/*.rs", "user/*.rs", "system/*.rs"],
	"response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"],
	"capabilities": ["launch-ehr", "launch-standalone", "authorize-post", "client-public", "client-confidential-symmetric",
		"client-confidential-asymmetric", "sso-openid-connect", "context-ehr-patient", "context-ehr-encounter",
		"context-standalone-patient", "permission-offline", "permission-patient", "permission-user", "permission-v2"]
}`

func answer(req *http.Request, body string) *http.Response {
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)), Request: req,
	}
}

// config is a client's configuration at the fake endpoint.
func config(transport http.RoundTripper, p provider.Provider) smartauth.Config {
	return smartauth.Config{
		BaseURL: fhirBase, TokenEndpoint: tokenURL, ClientID: clientID, Scopes: []string{scope},
		Provider: p, HTTPClient: &http.Client{Transport: transport}, Observer: smartcred.Discard,
	}
}

func secretProvider() (provider.Provider, error) {
	return provider.NewClientSecretBasic(secretsource.Static([]byte("bench-secret")), &provider.SecretOptions{
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
}

// jwtProvider signs with s, and tells nobody about its keys.
func jwtProvider(s signer.Signer) (*provider.PrivateKeyJWT, error) {
	return provider.NewPrivateKeyJWT(s, &provider.PrivateKeyJWTOptions{
		KeySet:   &signer.KeySetOptions{Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
}

// newKey makes a key that fits alg.
func newKey(alg signer.Algorithm) (crypto.Signer, error) {
	if alg == signer.ES384 {
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	return rsa.GenerateKey(rand.Reader, 2048)
}

// fileSigner opens key as a file signer does, from a PEM file in dir.
func fileSigner(dir string, key crypto.Signer) (signer.Signer, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("%T.pem", key))
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	return signer.File(path, nil)
}

// A countingSigner counts signatures.
type countingSigner struct {
	signer.Signer
	signatures atomic.Int64
}

// Sign implements signer.Signer.
func (s *countingSigner) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	s.signatures.Add(1)
	return s.Signer.Sign(ctx, key, input)
}
