package provider_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// publicSet returns the JWK Set that a key set serves.
func publicSet(t testing.TB, keys *signer.KeySet) signer.JWKSet {
	t.Helper()
	published, err := keys.Published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set, err := signer.PublicJWKSet(published)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// post sends a client_credentials request with cred, as a client would.
func post(ctx context.Context, srv *smartauthtest.Server, cred provider.Credential) error {
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}}
	header := http.Header{}
	cred.Apply(header, form)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, srv.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := srv.Client().Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &provider.TokenError{Status: resp.StatusCode, Code: "invalid_client"}
	}
	return nil
}

// TestStrictServerTakesTheAssertion for each of the options that change it.
func TestStrictServerTakesTheAssertion(t *testing.T) {
	const issuer = "https://issuer.example.test"
	tests := map[string]struct {
		opts     provider.PrivateKeyJWTOptions
		audience string // what the server wants; empty: the token endpoint
		refused  bool
	}{
		"as SMART asks":                 {},
		"with jku":                      {opts: provider.PrivateKeyJWTOptions{JKU: "https://app.example.test/jwks.json"}},
		"a jku that is not registered":  {opts: provider.PrivateKeyJWTOptions{JKU: "https://other.example.test/jwks.json"}, refused: true},
		"audience issuer":               {opts: provider.PrivateKeyJWTOptions{Audience: "issuer"}, audience: issuer},
		"audience literal":              {opts: provider.PrivateKeyJWTOptions{Audience: "urn:ehr:1"}, audience: "urn:ehr:1"},
		"audience forced to http":       {opts: provider.PrivateKeyJWTOptions{AudienceScheme: "http"}, audience: "http://ehr.example.test/auth/token"},
		"audience http where not asked": {opts: provider.PrivateKeyJWTOptions{AudienceScheme: "http"}, refused: true},
		"a minute's life":               {opts: provider.PrivateKeyJWTOptions{Lifetime: time.Minute}},
		"five minutes' life":            {opts: provider.PrivateKeyJWTOptions{Lifetime: 5 * time.Minute}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.opts.KeySet = &signer.KeySetOptions{Observer: smartcred.Discard}
			test.opts.Rotation = &provider.RotationOptions{Observer: smartcred.Discard}
			p, err := provider.NewPrivateKeyJWT(testSigner(t), &test.opts)
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			srv := smartauthtest.NewUnstarted(&smartauthtest.Options{Audience: test.audience})
			defer srv.Close()
			srv.AddClient(smartauthtest.Client{ID: "app", JWKS: publicSet(t, p.KeySet()), JWKSURL: "https://app.example.test/jwks.json"})
			if strings.HasPrefix(test.audience, "http://") && test.audience != "http"+strings.TrimPrefix(srv.TokenURL, "https") {
				t.Fatalf("the server's token endpoint is %s", srv.TokenURL)
			}
			req := provider.Request{ClientID: "app", Server: srv.URL, URL: srv.TokenURL, Issuer: issuer, GrantType: "client_credentials"}
			jtis := map[string]bool{}
			for range 3 { // each with a new jti: the server refuses one seen before
				err = p.Authenticate(t.Context(), req, func(ctx context.Context, cred provider.Credential) error {
					jtis[cred.JTI] = true
					return post(ctx, srv, cred)
				})
				if refused := errors.Is(err, provider.ErrInvalidClient); refused != test.refused || (err != nil && !refused) {
					last := srv.Requests()[len(srv.Requests())-1]
					t.Fatalf("err = %v (%s), refused: want %t", err, last.Reason, test.refused)
				}
			}
			if want := map[bool]int{false: 3, true: 1}[test.refused]; len(jtis) != want { // refused: the rest is back-off
				t.Errorf("%d different jti, want %d", len(jtis), want)
			}
		})
	}
}

func TestAssertionShowsWhatWouldBeSent(t *testing.T) {
	p, err := provider.NewPrivateKeyJWT(testSigner(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	assertion, key, err := p.Assertion(t.Context(), provider.Request{ClientID: "app", URL: "https://ehr.example.test/token"})
	if err != nil {
		t.Fatal(err)
	}
	header, claims, err := assertion.Preview(key)
	if err != nil {
		t.Fatal(err)
	}
	if header["alg"] != "ES384" || header["typ"] != "JWT" || header["kid"] != key.ID || len(header) != 3 {
		t.Errorf("header = %v", header)
	}
	life := time.Duration(claims.ExpiresAt-time.Now().Unix()) * time.Second
	if claims.Issuer != "app" || claims.Subject != "app" || claims.Audience != "https://ehr.example.test/token" || life < 3*time.Minute || life > 4*time.Minute {
		t.Errorf("claims = %+v", claims)
	}
}

func TestAudienceIssuerNeedsAnIssuer(t *testing.T) {
	p, err := provider.NewPrivateKeyJWT(testSigner(t), &provider.PrivateKeyJWTOptions{Audience: "issuer"})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Authenticate(t.Context(), provider.Request{ClientID: "app", URL: "https://ehr.example.test/token"}, func(context.Context, provider.Credential) error {
		t.Error("sent")
		return nil
	})
	if !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("err = %v", err)
	}
}

func TestKeyThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := signer.File(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := provider.NewPrivateKeyJWT(s, &provider.PrivateKeyJWTOptions{KeySet: &signer.KeySetOptions{Observer: smartcred.Discard}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	err = p.Authenticate(t.Context(), provider.Request{ClientID: "app", URL: "https://ehr.example.test/token"}, func(context.Context, provider.Credential) error {
		t.Error("sent without an assertion")
		return nil
	})
	var failed *provider.CredentialError
	if !errors.As(err, &failed) {
		t.Errorf("err = %v, want a CredentialError", err)
	}
}
