package fosite_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// secret has every kind of character that HTTP Basic, forms and URLs treat in
// their own ways.
const secret = `p:+ %41&=/?#"\~*-_.é世`

// registerSecret registers a client with a secret, of which fosite keeps a hash.
func registerSecret(t *testing.T, s *fositetest.Server, id string, method provider.Method, secret string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(secret), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	client := fositetest.Registration(id, method)
	client.Secret = hash
	s.Register(client)
}

// registerKeys registers a client with the keys that p publishes, by value.
func registerKeys(t *testing.T, s *fositetest.Server, id string, alg signer.Algorithm, p *provider.PrivateKeyJWT) {
	t.Helper()
	client := fositetest.Registration(id, provider.MethodPrivateKeyJWT)
	client.TokenEndpointAuthSigningAlgorithm = string(alg)
	client.JSONWebKeys = published(t, p)
	s.Register(client)
}

// published reads the JWK Set that p serves.
func published(t *testing.T, p *provider.PrivateKeyJWT) *jose.JSONWebKeySet {
	t.Helper()
	handler := p.KeySet().Handler(t.Context())
	if _, err := p.KeySet().Published(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	set := new(jose.JSONWebKeySet)
	if err := json.Unmarshal(w.Body.Bytes(), set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("the JWK Set: status %d, %d keys, %v", w.Code, len(set.Keys), err)
	}
	return set
}

// secretFile opens a secret in a file, as configurations do.
func secretFile(t *testing.T, secret string) secretsource.Source {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	source, err := secretsource.Open(t.Context(), uri.String(), &secretsource.OpenOptions{Observer: smartcred.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// keyFile makes a key for alg, writes it to a PEM file and opens that.
func keyFile(t *testing.T, alg signer.Algorithm) signer.Signer {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(newKey(t, alg))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := signer.File(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func newKey(t *testing.T, alg signer.Algorithm) (key crypto.Signer) {
	t.Helper()
	var err error
	if alg == signer.RS384 {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// jwtProvider signs with keys, and is closed with t.
func jwtProvider(t *testing.T, keys signer.Signer, opts provider.PrivateKeyJWTOptions) *provider.PrivateKeyJWT {
	t.Helper()
	opts.KeySet = &signer.KeySetOptions{Observer: smartcred.Discard}
	p, err := provider.NewPrivateKeyJWT(keys, &opts)
	if err != nil {
		t.Fatal(err)
	}
	closeWith(t, p)
	return p
}

func closeWith(t *testing.T, c io.Closer) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

// secretProvider authenticates with source by method, and is closed with t.
func secretProvider(t *testing.T, method provider.Method, source secretsource.Source, encoding provider.SecretEncoding) provider.Provider {
	t.Helper()
	p, err := provider.New(provider.Config{Method: method, Secret: source, SecretOptions: &provider.SecretOptions{
		Encoding: encoding, Cache: &secretsource.CacheOptions{Observer: smartcred.Discard},
	}})
	if err != nil {
		t.Fatal(err)
	}
	closeWith(t, p.(io.Closer))
	return p
}

// newClient returns a client of s that is closed with t.
func newClient(t *testing.T, s *fositetest.Server, id string, p provider.Provider, scopes []string) *smartauth.Client {
	t.Helper()
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: s.FHIRBase(), ClientID: id, Provider: p, Scopes: scopes, RedirectURL: fositetest.RedirectURL,
		HTTPClient: s.Client(), AllowInsecureLoopback: strings.HasPrefix(s.URL, "http://"), Observer: smartcred.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	closeWith(t, client)
	return client
}

// A login is a way for a client to authenticate, registered at a server.
type login struct {
	name     string
	method   provider.Method
	register func(t *testing.T, s *fositetest.Server, id string) provider.Provider
}

// logins are all of them, the public client first.
var logins = []login{
	{"none", provider.MethodNone, func(t *testing.T, s *fositetest.Server, id string) provider.Provider {
		s.Register(fositetest.Registration(id, provider.MethodNone))
		return provider.Public{}
	}},
	{"client_secret_basic", provider.MethodClientSecretBasic, loginBySecret(provider.MethodClientSecretBasic)},
	{"client_secret_post", provider.MethodClientSecretPost, loginBySecret(provider.MethodClientSecretPost)},
	{"private_key_jwt RS384", provider.MethodPrivateKeyJWT, loginByKey(signer.RS384)},
	{"private_key_jwt ES384", provider.MethodPrivateKeyJWT, loginByKey(signer.ES384)},
	{"private_key_jwt ES384 by JWK Set URL", provider.MethodPrivateKeyJWT, loginByKeySetURL},
}

func loginBySecret(method provider.Method) func(*testing.T, *fositetest.Server, string) provider.Provider {
	return func(t *testing.T, s *fositetest.Server, id string) provider.Provider {
		registerSecret(t, s, id, method, secret)
		return secretProvider(t, method, secretFile(t, secret), "")
	}
}

func loginByKey(alg signer.Algorithm) func(*testing.T, *fositetest.Server, string) provider.Provider {
	return func(t *testing.T, s *fositetest.Server, id string) provider.Provider {
		p := jwtProvider(t, keyFile(t, alg), provider.PrivateKeyJWTOptions{})
		registerKeys(t, s, id, alg, p)
		return p
	}
}

func loginByKeySetURL(t *testing.T, s *fositetest.Server, id string) provider.Provider {
	var p *provider.PrivateKeyJWT
	jwks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.KeySet().Handler(r.Context()).ServeHTTP(w, r)
	}))
	t.Cleanup(jwks.Close)
	p = jwtProvider(t, keyFile(t, signer.ES384), provider.PrivateKeyJWTOptions{JKU: jwks.URL})
	if _, err := p.KeySet().Published(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := fositetest.Registration(id, provider.MethodPrivateKeyJWT)
	client.TokenEndpointAuthSigningAlgorithm = string(signer.ES384)
	client.JSONWebKeysURI = jwks.URL
	s.Register(client)
	return p
}

// servers runs test against a server over TLS and one over http on loopback.
func servers(t *testing.T, test func(t *testing.T, s *fositetest.Server)) {
	t.Run("https", func(t *testing.T) { test(t, fositetest.NewServer(t, true)) })
	t.Run("http", func(t *testing.T) { test(t, fositetest.NewServer(t, false)) })
}

// refused fails unless err is the OAuth error that want names, from an answer of
// that status, and does not tell the secret.
func refused(t *testing.T, err error, want error, status int) {
	t.Helper()
	var answer *provider.TokenError
	if !errors.Is(err, want) || !errors.As(err, &answer) {
		t.Fatalf("got %v, want %v", err, want)
	}
	if answer.Status != status {
		t.Errorf("status %d, want %d", answer.Status, status)
	}
	if strings.Contains(err.Error(), secret) {
		t.Error("the error holds the secret")
	}
}
