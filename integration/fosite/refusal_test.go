package fosite_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"

	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

func TestWrongSecret(t *testing.T) {
	for _, method := range []provider.Method{provider.MethodClientSecretBasic, provider.MethodClientSecretPost} {
		t.Run(string(method), func(t *testing.T) {
			s := fositetest.NewServer(t, true)
			registerSecret(t, s, "app", method, "the right one")
			p := secretProvider(t, method, secretsource.Static([]byte(secret)), "")
			_, err := newClient(t, s, "app", p, fositetest.SystemScopes).Token(t.Context())
			refused(t, err, provider.ErrInvalidClient, http.StatusUnauthorized)
			if n := len(s.TokenRequests()); n != 1 {
				t.Errorf("%d token requests with the same wrong secret, want 1", n)
			}
		})
	}
}

func TestUnknownClient(t *testing.T) {
	s := fositetest.NewServer(t, true)
	p := secretProvider(t, provider.MethodClientSecretBasic, secretsource.Static([]byte(secret)), "")
	_, err := newClient(t, s, "nobody", p, fositetest.SystemScopes).Token(t.Context())
	refused(t, err, provider.ErrInvalidClient, http.StatusUnauthorized)
}

// fosite decodes Basic as RFC 6749 section 2.3.1 says, so that a secret sent as
// it is arrives as another one, or not at all.
func TestSecretEncoding(t *testing.T) {
	for _, c := range []struct {
		name, secret string
		raw          error // what the raw encoding ends in
		status       int
	}{
		{"letters and digits", "Secret0123", nil, 0},
		{"all kinds", secret, provider.ErrInvalidClient, http.StatusUnauthorized},
		{"plus", "a+b", provider.ErrInvalidClient, http.StatusUnauthorized},
		{"escape", "a%41b", provider.ErrInvalidClient, http.StatusUnauthorized},
		{"percent", "100%", provider.ErrInvalidRequest, http.StatusBadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fositetest.NewServer(t, true)
			const id = "app-1"
			registerSecret(t, s, id, provider.MethodClientSecretBasic, c.secret)
			token := func(encoding provider.SecretEncoding) error {
				p := secretProvider(t, provider.MethodClientSecretBasic, secretsource.Static([]byte(c.secret)), encoding)
				_, err := newClient(t, s, id, p, fositetest.SystemScopes).Token(t.Context())
				return err
			}
			if err := token(provider.EncodingRFC6749); err != nil {
				t.Errorf("rfc6749: %v", err)
			}
			err := token(provider.EncodingRaw)
			if c.raw == nil && err != nil {
				t.Errorf("raw: %v", err)
			}
			if c.raw != nil {
				refused(t, err, c.raw, c.status)
			}
		})
	}
}

func TestRefusedAssertions(t *testing.T) {
	for _, c := range []struct {
		name string
		// setUp registers the client "app" and returns what it logs in with.
		setUp  func(t *testing.T, s *fositetest.Server) provider.Provider
		want   error
		status int
	}{
		{"another key under the same kid", func(t *testing.T, s *fositetest.Server) provider.Provider {
			registered := jwtProvider(t, namedKey(t, "key-1"), provider.PrivateKeyJWTOptions{})
			registerKeys(t, s, "app", signer.ES384, registered)
			return jwtProvider(t, namedKey(t, "key-1"), provider.PrivateKeyJWTOptions{})
		}, provider.ErrInvalidClient, http.StatusUnauthorized},
		{"a kid that is not registered", func(t *testing.T, s *fositetest.Server) provider.Provider {
			registered := jwtProvider(t, keyFile(t, signer.ES384), provider.PrivateKeyJWTOptions{})
			registerKeys(t, s, "app", signer.ES384, registered)
			return jwtProvider(t, keyFile(t, signer.ES384), provider.PrivateKeyJWTOptions{})
		}, provider.ErrInvalidRequest, http.StatusBadRequest}, // fosite's own choice of error
		{"another algorithm than the registered one", func(t *testing.T, s *fositetest.Server) provider.Provider {
			p := jwtProvider(t, keyFile(t, signer.ES384), provider.PrivateKeyJWTOptions{})
			registerKeys(t, s, "app", signer.RS384, p)
			return p
		}, provider.ErrInvalidClient, http.StatusUnauthorized},
		{"another audience", func(t *testing.T, s *fositetest.Server) provider.Provider {
			p := jwtProvider(t, keyFile(t, signer.ES384), provider.PrivateKeyJWTOptions{Audience: "https://elsewhere.example/token"})
			registerKeys(t, s, "app", signer.ES384, p)
			return p
		}, provider.ErrInvalidClient, http.StatusUnauthorized},
		{"the scheme of another audience", func(t *testing.T, s *fositetest.Server) provider.Provider {
			p := jwtProvider(t, keyFile(t, signer.ES384), provider.PrivateKeyJWTOptions{AudienceScheme: "http"})
			registerKeys(t, s, "app", signer.ES384, p)
			return p
		}, provider.ErrInvalidClient, http.StatusUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fositetest.NewServer(t, true)
			p := c.setUp(t, s)
			_, err := newClient(t, s, "app", p, fositetest.SystemScopes).Token(t.Context())
			refused(t, err, c.want, c.status)
		})
	}
}

// namedKey is a new ES384 key under a kid of its own.
func namedKey(t *testing.T, kid string) signer.Signer {
	t.Helper()
	keys, err := signer.FromCryptoSigner(newKey(t, signer.ES384), &signer.CryptoSignerOptions{KeyID: kid})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// A replay sends the first credential of a provider again and again.
type replay struct {
	provider.Provider
	mu   sync.Mutex
	kept *provider.Credential
}

func (p *replay) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept != nil {
		return send(ctx, *p.kept)
	}
	return p.Provider.Authenticate(ctx, req, func(ctx context.Context, credential provider.Credential) error {
		p.kept = &credential
		return send(ctx, credential)
	})
}

func TestReplayedAssertion(t *testing.T) {
	s := fositetest.NewServer(t, true)
	p := loginByKey(signer.ES384)(t, s, "app")
	for _, c := range []struct {
		name   string
		p      provider.Provider
		second string // the error code of the second request; empty: none
	}{
		{"replayed", &replay{Provider: p}, "jti_known"},
		{"made anew", p, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := newClient(t, s, "app", c.p, fositetest.SystemScopes)
			if _, err := client.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			other, err := client.TokenSource(&smartauth.TokenOptions{Scopes: fositetest.UserScopes[:1]})
			if err != nil {
				t.Fatal(err)
			}
			_, err = other.Token(t.Context())
			var answer *provider.TokenError
			switch {
			case c.second == "" && err != nil:
				t.Errorf("a second assertion: %v", err)
			case c.second != "" && (!errors.As(err, &answer) || answer.Code != c.second):
				t.Errorf("got %v, want %s", err, c.second)
			}
		})
	}
}

func TestSecretReplacedAtTheServer(t *testing.T) {
	s := fositetest.NewServer(t, true)
	registerSecret(t, s, "app", provider.MethodClientSecretBasic, secret)
	p := secretProvider(t, provider.MethodClientSecretBasic, secretsource.Static([]byte(secret)), "")
	client := newClient(t, s, "app", p, fositetest.SystemScopes)
	token, err := client.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	registerSecret(t, s, "app", provider.MethodClientSecretBasic, "another")
	source, err := client.TokenSource(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !source.Drop(token) {
		t.Fatal("the token was not dropped")
	}
	_, err = client.Token(t.Context())
	refused(t, err, provider.ErrInvalidClient, http.StatusUnauthorized)
}
