package docs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	server   = "https://fhir.example.com/r4"
	clientID = "my-app"
)

// monday is when every story begins.
var monday = time.Date(2026, time.November, 23, 8, 0, 0, 0, time.UTC)

// run tells one story and returns its log.
func run(t *testing.T, tell func(*story)) (log string) {
	dir := t.TempDir()
	keyPEMs() // outside of the bubble: it is shared
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(monday))
		s := &story{T: t, ctx: t.Context(), dir: dir, log: new(lockedBuffer)}
		s.server = smartauthtest.NewUnstarted(&smartauthtest.Options{URL: server})
		defer s.server.Close()
		s.server.AddClient(smartauthtest.Client{
			ID: clientID, Secrets: []string{"old-secret"}, Scopes: []string{"system/*.rs"},
		})
		defer func() {
			if s.client != nil {
				s.must(s.client.Close())
			}
			log = strings.ReplaceAll(s.log.String(), dir, "/etc/smartcred")
		}()
		tell(s)
	})
	return log
}

// A story is one program and one server in a synctest bubble, whose clock costs
// nothing.
type story struct {
	*testing.T
	ctx    context.Context
	dir    string
	server *smartauthtest.Server
	log    *lockedBuffer

	provider provider.Rotator
	keys     *signer.KeySet
	client   *smartauth.Client
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (s *story) observer() smartcred.Observer {
	utc := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}
	return smartcred.LogTo(slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{ReplaceAttr: utc})))
}

func (s *story) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *story) path(name string) string { return filepath.Join(s.dir, name) }

// put replaces a file as the pages say: written beside it, then renamed.
func (s *story) put(name, content string) {
	s.Helper()
	s.must(os.WriteFile(s.path(name)+".new", []byte(content), 0o600))
	s.must(os.Rename(s.path(name)+".new", s.path(name)))
}

func (s *story) move(from, to string) {
	s.Helper()
	s.must(os.Rename(s.path(from), s.path(to)))
}

func (s *story) link(from, to string) {
	s.Helper()
	if err := os.Remove(s.path(to)); err != nil && !errors.Is(err, os.ErrNotExist) {
		s.Fatal(err)
	}
	s.must(os.Link(s.path(from), s.path(to)))
}

func (s *story) remove(name string) {
	s.Helper()
	s.must(os.Remove(s.path(name)))
}

// withSecret starts a client that looks its secret up in source.
func (s *story) withSecret(source secretsource.Source, o provider.RotationOptions) {
	s.Helper()
	o.Observer = s.observer()
	basic, err := provider.NewClientSecretBasic(source, &provider.SecretOptions{
		Cache:    &secretsource.CacheOptions{Name: "file:/etc/smartcred/secret", Observer: s.observer()},
		Rotation: &o,
	})
	s.must(err)
	s.provider = basic
	s.open()
}

// withKeys starts a client that signs with the keys of source.
func (s *story) withKeys(source signer.Signer, o provider.RotationOptions) {
	s.Helper()
	o.Observer = s.observer()
	var err error
	s.keys, err = signer.NewKeySet(source, &signer.KeySetOptions{
		Backend: "file:/etc/smartcred/key.pem", Observer: s.observer(), WithoutPrevious: o.Previous == provider.PreviousNever,
	})
	s.must(err)
	s.provider, err = provider.NewPrivateKeyJWT(s.keys, &provider.PrivateKeyJWTOptions{Rotation: &o})
	s.must(err)
	s.open()
}

func (s *story) open() {
	s.Helper()
	var err error
	s.client, err = smartauth.NewClient(smartauth.Config{
		BaseURL: server, ClientID: clientID, Scopes: []string{"system/Patient.rs"}, Provider: s.provider,
		HTTPClient: s.server.Client(), Observer: s.observer(),
	})
	s.must(err)
}

// call asks for a token every second for d, as a busy program does, and returns
// how many calls failed.
func (s *story) call(d time.Duration) (failed int) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		if _, err := s.client.Token(s.ctx); err != nil {
			failed++
		}
	}
	return failed
}

// fresh asks for a token that is not in memory.
func (s *story) fresh() error {
	c, err := smartauth.NewClient(smartauth.Config{
		BaseURL: server, ClientID: clientID, Scopes: []string{"system/Patient.rs"}, Provider: keepOpen{s.provider},
		HTTPClient: s.server.Client(), Observer: s.observer(),
	})
	s.must(err)
	defer c.Close()
	_, err = c.Token(s.ctx)
	return err
}

// keepOpen hides a provider's Close.
type keepOpen struct{ provider.Provider }

// requests returns how many token requests came, and how many were refused.
func (s *story) requests() (all, refused int) {
	for _, r := range s.server.Requests() {
		if r.Endpoint == smartauthtest.EndpointToken {
			all++
			if r.Status >= 400 {
				refused++
			}
		}
	}
	return all, refused
}

func (s *story) expect(kinds ...smartcred.EventKind) {
	s.Helper()
	var got []smartcred.EventKind
	for line := range strings.Lines(s.log.String()) {
		if _, rest, ok := strings.Cut(line, " kind="); ok {
			kind, _, _ := strings.Cut(rest, " ")
			got = append(got, smartcred.EventKind(kind))
		}
	}
	if !slices.Equal(got, kinds) {
		s.Errorf("events %v, want %v\n%s", got, kinds, s.log)
	}
}

func (s *story) wantFailed(got, want int) {
	s.Helper()
	if got != want {
		s.Errorf("%d calls failed, want %d\n%s", got, want, s.log)
	}
}

func (s *story) wantRefused(want int) {
	s.Helper()
	if _, refused := s.requests(); refused != want {
		s.Errorf("%d refused requests, want %d\n%s", refused, want, s.log)
	}
}

func (s *story) mustFail(err error) {
	s.Helper()
	if err == nil {
		s.Errorf("a token came\n%s", s.log)
	}
}

// say puts an error that a caller gets among the lines of the log.
func (s *story) say(err error) {
	s.Helper()
	s.mustFail(err)
	_, _ = s.log.Write([]byte(err.Error() + "\n"))
}

func (s *story) status() provider.Status { return s.provider.Status(s.ctx, clientID, server) }

func (s *story) file(name string) secretsource.Source {
	return secretsource.File(s.path(name), &secretsource.OpenOptions{Observer: s.observer()})
}

// startSecret starts with the secret that the server takes at first.
func (s *story) startSecret(o provider.RotationOptions) {
	s.Helper()
	s.put("secret", "old-secret\n")
	s.withSecret(s.file("secret"), o)
}

// rotateSecret is what the pages say to do with files.
func (s *story) rotateSecret(value string) {
	s.Helper()
	s.link("secret", "secret.previous")
	s.put("secret", value+"\n")
}

// startKey starts with the first key, which the server knows.
func (s *story) startKey(o provider.RotationOptions) {
	s.Helper()
	s.put("key.pem", keyPEMs()[0])
	s.register(keyPEMs()[0])
	file, err := signer.File(s.path("key.pem"), &signer.FileOptions{Observer: s.observer()})
	s.must(err)
	s.withKeys(file, o)
}

// activateKey is what `smartcred rotation activate` does.
func (s *story) activateKey() {
	s.Helper()
	s.link("key.pem", "key.pem.previous")
	s.move("key.pem.next", "key.pem")
}

var keyPEMs = sync.OnceValue(func() []string {
	var out []string
	for range 3 {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		out = append(out, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	}
	return out
})

// register gives the server the keys of these PEM texts.
func (s *story) register(pems ...string) {
	s.Helper()
	var keys []signer.Key
	for _, text := range pems {
		keys = append(keys, s.asSigner(text, "", time.Time{}).key)
	}
	set, err := signer.PublicJWKSet(keys)
	s.must(err)
	s.server.SetJWKS(clientID, set)
}

// versioned is a signer with several versions, as a backend of one's own may be.
type versioned struct {
	mu   sync.Mutex
	list []oneKey // newest first
}

type oneKey struct {
	*signer.CryptoSigner
	key signer.Key
}

func (s *story) asSigner(text, version string, notBefore time.Time) oneKey {
	s.Helper()
	block, _ := pem.Decode([]byte(text))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	s.must(err)
	c, err := signer.FromCryptoSigner(parsed.(*ecdsa.PrivateKey), &signer.CryptoSignerOptions{Version: version, NotBefore: notBefore})
	s.must(err)
	keys, err := c.Keys(s.ctx)
	s.must(err)
	return oneKey{c, keys[0]}
}

func (v *versioned) set(list ...oneKey) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.list = list
}

func (v *versioned) Keys(context.Context) ([]signer.Key, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []signer.Key
	for _, k := range v.list {
		out = append(out, k.key)
	}
	return out, nil
}

func (v *versioned) Sign(ctx context.Context, key signer.Key, input []byte) ([]byte, error) {
	v.mu.Lock()
	list := v.list
	v.mu.Unlock()
	for _, k := range list {
		if k.key.Version == key.Version {
			return k.Sign(ctx, key, input)
		}
	}
	return nil, smartcred.ErrNotFound
}

// unreliable is a source that can be made to fail.
type unreliable struct {
	secretsource.Source
	mu  sync.Mutex
	err error
}

func (u *unreliable) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
}

func (u *unreliable) Lookup(ctx context.Context, stage secretsource.Stage) (secretsource.Secret, error) {
	u.mu.Lock()
	err := u.err
	u.mu.Unlock()
	if err != nil {
		return secretsource.Secret{}, err
	}
	return u.Source.Lookup(ctx, stage)
}
