package smartauthtest_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	verifier      = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge     = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	state         = "bL1yW3mQ0pTz7rXc9vNf2A"
	redirectURI   = "https://app.example.org/callback"
)

type object = map[string]any

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// A manual clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: epoch} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

var ecKey = sync.OnceValue(func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
})

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// jwk is the public JWK of key, written by hand.
func jwk(key crypto.Signer, kid string, change ...object) object {
	var members object
	switch public := key.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		half := (len(point) - 1) / 2
		members = object{"kty": "EC", "crv": public.Params().Name, "x": b64(point[1 : 1+half]), "y": b64(point[1+half:]), "alg": "ES384"}
	case *rsa.PublicKey:
		members = object{"kty": "RSA", "n": b64(public.N.Bytes()), "e": "AQAB", "alg": "RS384"}
	}
	members["kid"], members["use"] = kid, "sig"
	for _, c := range change {
		override(members, c)
	}
	return members
}

func override(members, change object) {
	for name, value := range change {
		if value == nil {
			delete(members, name)
		} else {
			members[name] = value
		}
	}
}

func jwks(keys ...object) string { return marshal(object{"keys": keys}) }

func marshal(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// sign makes a compact JWS of two JSON texts, by the standard library alone.
func sign(key crypto.Signer, header, claims string) string {
	return signInput(key, b64([]byte(header))+"."+b64([]byte(claims)))
}

func signInput(key crypto.Signer, input string) string {
	digest := sha512.Sum384([]byte(input))
	var signature []byte
	var err error
	switch key := key.(type) {
	case *rsa.PrivateKey:
		signature, err = rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA384, digest[:])
	case *ecdsa.PrivateKey:
		r, s, e := ecdsa.Sign(rand.Reader, key, digest[:])
		size := (key.Params().BitSize + 7) / 8
		signature, err = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), e
	}
	if err != nil {
		panic(err)
	}
	return input + "." + b64(signature)
}

// assertion makes an assertion that a server with clock now takes, but for the
// changes.
func assertion(aud string, now time.Time, headerChange, claimsChange object) string {
	header := object{"alg": "ES384", "kid": "k1", "typ": "JWT"}
	claims := object{"iss": "jwt", "sub": "jwt", "aud": aud, "exp": now.Unix() + 240, "iat": now.Unix(), "jti": rand.Text()}
	override(header, headerChange)
	override(claims, claimsChange)
	return sign(ecKey(), marshal(header), marshal(claims))
}

func assertionForm(jwt string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "scope": {"system/*.rs"},
		"client_assertion_type": {assertionType}, "client_assertion": {jwt},
	}
}

type response struct {
	*http.Response
	body string
}

// members reads the body as a JSON object.
func (r *response) members(t testing.TB) object {
	t.Helper()
	var m object
	if err := json.Unmarshal([]byte(r.body), &m); err != nil {
		t.Fatalf("status %d, body %q: %v", r.StatusCode, r.body, err)
	}
	return m
}

func do(t testing.TB, srv *smartauthtest.Server, req *http.Request) *response {
	t.Helper()
	client := *srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &response{resp, string(body)}
}

func get(t testing.TB, srv *smartauthtest.Server, target, token string) *response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return do(t, srv, req)
}

func newPost(t testing.TB, target, body string, change func(*http.Request)) *http.Request {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(req)
	}
	return req
}

func post(t testing.TB, srv *smartauthtest.Server, target string, form url.Values, change func(*http.Request)) *response {
	t.Helper()
	return do(t, srv, newPost(t, target, form.Encode(), change))
}

func basic(id, secret string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(id, secret) }
}

// system is a form for client_credentials.
func system() url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}}
}

func with(form url.Values, pairs ...string) url.Values {
	form = maps.Clone(form)
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	return form
}

// wantError checks an OAuth error answer and what the log says of it.
func wantError(t testing.TB, srv *smartauthtest.Server, r *response, status int, code, reason string) {
	t.Helper()
	m := r.members(t)
	if r.StatusCode != status || m["error"] != code {
		t.Errorf("answer %d %s, want %d %s", r.StatusCode, r.body, status, code)
	}
	if description, _ := m["error_description"].(string); !strings.Contains(description, reason) {
		t.Errorf("error_description %q does not say %q", description, reason)
	}
	if _, ok := m["access_token"]; ok {
		t.Error("an error answer holds an access token")
	}
	list := srv.Requests()
	if last := list[len(list)-1]; last.Status != status || last.Error != code || !strings.Contains(last.Reason, reason) {
		t.Errorf("logged %d %q %q, want %d %q and %q", last.Status, last.Error, last.Reason, status, code, reason)
	}
}

func wantToken(t testing.TB, r *response) string {
	t.Helper()
	m := r.members(t)
	token, _ := m["access_token"].(string)
	if r.StatusCode != http.StatusOK || token == "" {
		t.Fatalf("answer %d %s, want a token", r.StatusCode, r.body)
	}
	return token
}

func readJSON[T any](t testing.TB, name string) T {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func s256(v string) string {
	sum := sha256.Sum256([]byte(v))
	return b64(sum[:])
}

// newServers returns a server on the network and one in memory, which must not
// differ.
func eachServer(t *testing.T, opts smartauthtest.Options, test func(t *testing.T, srv *smartauthtest.Server)) {
	t.Run("network", func(t *testing.T) { test(t, smartauthtest.NewServer(t, &opts)) })
	t.Run("tls", func(t *testing.T) {
		o := opts
		o.TLS = true
		test(t, smartauthtest.NewServer(t, &o))
	})
	t.Run("memory", func(t *testing.T) {
		srv := smartauthtest.NewUnstarted(&opts)
		t.Cleanup(srv.Close)
		test(t, srv)
	})
}
