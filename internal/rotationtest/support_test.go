package rotationtest_test

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	clientID    = "backend-app"
	redirectURL = "https://app.example.org/callback"
)

// crypto/rand seeds itself from the system in FIPS 140 mode, which takes real
// time: inside a synctest bubble there is none.
func init() { _, _ = rand.Read(make([]byte, 1)) }

// events collects what an observer is told.
type events struct {
	mu  sync.Mutex
	all []smartcred.Event
}

func (e *events) Observe(_ context.Context, event smartcred.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// take returns the events of one kind, and forgets them.
func (e *events) take(kind smartcred.EventKind) []smartcred.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var taken []smartcred.Event
	e.all = slices.DeleteFunc(e.all, func(event smartcred.Event) bool {
		if event.Kind == kind {
			taken = append(taken, event)
		}
		return event.Kind == kind
	})
	return taken
}

// one returns the only event of a kind, and forgets it.
func (e *events) one(t *testing.T, kind smartcred.EventKind) smartcred.Event {
	t.Helper()
	taken := e.take(kind)
	if len(taken) != 1 {
		t.Fatalf("%d events %s, want 1: %+v", len(taken), kind, taken)
	}
	return taken[0]
}

// A bed is a server in memory, one client of it, and the client's provider.
type bed struct {
	srv    *smartauthtest.Server
	client *smartauth.Client
	events *events
	names  map[string]string // of kids, in what sent returns
	served int               // requests that sent has returned
	logins int
}

func newBed(t *testing.T, opts *smartauthtest.Options) *bed {
	t.Helper()
	b := &bed{srv: smartauthtest.NewUnstarted(opts), events: new(events), names: map[string]string{}}
	t.Cleanup(b.srv.Close)
	return b
}

// connect gives the bed its client, which authenticates by p.
func (b *bed) connect(t *testing.T, p provider.Provider) {
	t.Helper()
	b.client = newClient(t, b.srv, smartauth.Config{Provider: p, Observer: b.events, HTTPClient: b.srv.Client()})
}

// newClient returns a client of srv that is closed with t, before its provider.
func newClient(t *testing.T, srv *smartauthtest.Server, cfg smartauth.Config) *smartauth.Client {
	t.Helper()
	cfg.BaseURL, cfg.ClientID, cfg.RedirectURL = srv.URL, clientID, redirectURL
	if cfg.Scopes == nil {
		cfg.Scopes = []string{"system/*.rs"}
	}
	client, err := smartauth.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// newSecretBed has a client that sends the secrets of source, of which the server
// takes those in accepted.
func newSecretBed(t *testing.T, source secretsource.Source, opts provider.RotationOptions, accepted ...string) (*bed, provider.Rotator) {
	t.Helper()
	b := newBed(t, nil)
	b.srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: accepted, RedirectURIs: []string{redirectURL}})
	p := secretProvider(t, source, opts, b.events)
	b.connect(t, p)
	return b, p
}

func secretProvider(t *testing.T, source secretsource.Source, opts provider.RotationOptions, observer smartcred.Observer) *provider.ClientSecretPost {
	t.Helper()
	opts.Observer = observer
	p, err := provider.NewClientSecretPost(source, &provider.SecretOptions{
		Rotation: &opts, Cache: &secretsource.CacheOptions{Observer: observer, Name: "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// newKeyBed has a client that signs with the keys of s, and a server that fetches
// the JWK Set from where the provider serves it.
func newKeyBed(t *testing.T, s signer.Signer, keys signer.KeySetOptions, opts provider.RotationOptions) (*bed, *provider.PrivateKeyJWT) {
	t.Helper()
	return newKeyBedAt(t, time.Now, s, keys, opts)
}

// newKeyBedAt is newKeyBed with a server that has a clock of its own.
func newKeyBedAt(t *testing.T, clock func() time.Time, s signer.Signer, keys signer.KeySetOptions, opts provider.RotationOptions) (*bed, *provider.PrivateKeyJWT) {
	t.Helper()
	const jwksURL = "https://app.example.org/jwks.json"
	var handler http.Handler
	b := newBed(t, &smartauthtest.Options{Clock: clock, HTTPClient: &http.Client{Transport: smartauthtest.HandlerTransport(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))}})
	p := keyProvider(t, s, keys, opts, b.events)
	handler = p.KeySet().Handler(t.Context())
	if _, err := p.KeySet().Published(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.srv.AddClient(smartauthtest.Client{ID: clientID, JWKSURL: jwksURL, RedirectURIs: []string{redirectURL}})
	b.connect(t, p)
	return b, p
}

func keyProvider(t *testing.T, s signer.Signer, keys signer.KeySetOptions, opts provider.RotationOptions, observer smartcred.Observer) *provider.PrivateKeyJWT {
	t.Helper()
	opts.Observer, keys.Observer, keys.Backend = observer, observer, "test"
	p, err := provider.NewPrivateKeyJWT(s, &provider.PrivateKeyJWTOptions{KeySet: &keys, Rotation: &opts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// token returns the client's own token, which is cached.
func (b *bed) token(t *testing.T) *smartauth.Token {
	t.Helper()
	token, err := b.client.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// login makes a token request of its own, whatever is cached.
func (b *bed) login(t *testing.T) error {
	t.Helper()
	b.logins++
	source, err := b.client.TokenSource(&smartauth.TokenOptions{Params: url.Values{"login": {fmt.Sprint(b.logins)}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Token(t.Context())
	return err
}

func (b *bed) mustLogin(t *testing.T) {
	t.Helper()
	if err := b.login(t); err != nil {
		t.Fatal(err)
	}
}

// sent says with which credentials token requests were made since it was last
// called: secrets by their value, keys by their name, refused ones with "!".
func (b *bed) sent() string {
	requests := b.srv.RequestsTo(smartauthtest.EndpointToken)
	var list []string
	for _, r := range requests[b.served:] {
		name := r.Form.Get("client_secret")
		if kid, ok := r.AssertionHeader["kid"].(string); ok {
			name = cmp.Or(b.names[kid], kid)
		}
		if r.Status != http.StatusOK {
			name += "!"
		}
		list = append(list, name)
	}
	b.served = len(requests)
	return strings.Join(list, " ")
}

func (b *bed) wantSent(t *testing.T, want string) {
	t.Helper()
	if got := b.sent(); got != want {
		t.Errorf("token requests with %q, want %q", got, want)
	}
}

// secrets is a source whose answers a test sets, and which counts look-ups.
type secrets struct {
	mu     sync.Mutex
	values map[secretsource.Stage]secretsource.Secret
	errs   map[secretsource.Stage]error
	asked  map[secretsource.Stage]int
}

func newSecrets(current, previous string) *secrets {
	s := &secrets{asked: map[secretsource.Stage]int{}}
	s.set(current, previous)
	return s
}

// set replaces both secrets; an empty one is not there. A secret's version is "v-"
// and its value.
func (s *secrets) set(current, previous string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values, s.errs = map[secretsource.Stage]secretsource.Secret{}, map[secretsource.Stage]error{}
	for stage, value := range map[secretsource.Stage]string{secretsource.Current: current, secretsource.Previous: previous} {
		if value != "" {
			s.values[stage] = secretsource.New([]byte(value), "v-"+value)
		}
	}
}

// change alters what a stage answers with.
func (s *secrets) change(stage secretsource.Stage, alter func(*secretsource.Secret)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	secret := s.values[stage]
	alter(&secret)
	s.values[stage] = secret
}

func (s *secrets) fail(stage secretsource.Stage, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs[stage] = err
}

func (s *secrets) lookups(stage secretsource.Stage) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[stage]
}

func (s *secrets) Lookup(_ context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[stage]++
	if err := s.errs[stage]; err != nil {
		return secretsource.Secret{}, err
	}
	secret, ok := s.values[stage]
	if !ok {
		return secretsource.Secret{}, fmt.Errorf("test: %s: %w", stage, smartcred.ErrNotFound)
	}
	return secret, nil
}

// writeFile replaces a file as a careful person does: by a rename.
func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	fresh := path + ".new"
	if err := os.WriteFile(fresh, content, 0o600); err != nil {
		t.Fatal(err)
	}
	rename(t, fresh, path)
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// activate moves path.next to path and path to path.previous, so that path is
// never missing.
func activate(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path + ".previous"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.Link(path, path+".previous"); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".next", path)
}

func newECKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func pemOf(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// newKeyFile writes a new key to path and names it in what sent returns.
func newKeyFile(t *testing.T, names map[string]string, path, name string) {
	t.Helper()
	key := newECKey()
	kid, err := signer.Thumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	names[kid] = name
	writeFile(t, path, pemOf(t, key))
}

// newKeyFiles makes a folder with a key file for each suffix, named by it:
// "current" for path itself, "next" and "previous".
func newKeyFiles(t *testing.T, stages ...string) (path string, names map[string]string) {
	t.Helper()
	path, names = filepath.Join(t.TempDir(), "key.pem"), map[string]string{}
	for _, stage := range stages {
		suffix := "." + stage
		if stage == "current" {
			suffix = ""
		}
		newKeyFile(t, names, path+suffix, stage)
	}
	return path, names
}

func fileSigner(t *testing.T, path string, observer smartcred.Observer) *signer.FileSigner {
	t.Helper()
	s, err := signer.File(path, &signer.FileOptions{Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// published are the names of the keys in the JWK Set that h serves, in its order;
// the status where that is not 200.
func (b *bed) published(t *testing.T, p *provider.PrivateKeyJWT) string {
	t.Helper()
	w := httptest.NewRecorder()
	p.KeySet().Handler(t.Context()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		return fmt.Sprint(w.Code)
	}
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal(w.Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, key := range set.Keys {
		list = append(list, cmp.Or(b.names[key.Kid], key.Kid))
	}
	return strings.Join(list, " ")
}

func (b *bed) wantPublished(t *testing.T, p *provider.PrivateKeyJWT, want string) {
	t.Helper()
	if got := b.published(t, p); got != want {
		t.Errorf("the JWK Set has %q, want %q", got, want)
	}
}

// A keyring is a signer with versions, as Vault and KMS have, which a test adds
// and takes away.
type keyring struct {
	mu   sync.Mutex
	keys []ringKey // newest first
	err  error     // of Keys
}

type ringKey struct {
	signer.Key
	private *ecdsa.PrivateKey
	denied  error
}

func (r *keyring) Keys(context.Context) ([]signer.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return nil, r.err
	}
	list := make([]signer.Key, len(r.keys))
	for i, key := range r.keys {
		list[i] = key.Key
	}
	return list, nil
}

func (r *keyring) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	r.mu.Lock()
	i := slices.IndexFunc(r.keys, func(k ringKey) bool { return k.Version == key.Version })
	if i < 0 {
		r.mu.Unlock()
		return nil, fmt.Errorf("test: version %s: %w", key.Version, smartcred.ErrNotFound)
	}
	found := r.keys[i]
	r.mu.Unlock()
	if found.denied != nil {
		return nil, found.denied
	}
	s, err := signer.FromCryptoSigner(found.private, nil)
	if err != nil {
		return nil, err
	}
	keys, err := s.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return s.Sign(ctx, keys[0], input)
}

// add makes a new version, the newest one; its kid is its version.
func (r *keyring) add(version string, change func(*signer.Key)) {
	private := newECKey()
	key := signer.Key{ID: version, Version: version, Algorithm: signer.ES384, Public: private.Public()}
	if change != nil {
		change(&key)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = slices.Insert(r.keys, 0, ringKey{Key: key, private: private})
}

func (r *keyring) alter(version string, change func(*ringKey)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.keys {
		if r.keys[i].Version == version {
			change(&r.keys[i])
		}
	}
}

func (r *keyring) remove(version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = slices.DeleteFunc(r.keys, func(k ringKey) bool { return k.Version == version })
}
