package fosite_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v3"
	"github.com/ory/fosite"
	"golang.org/x/crypto/bcrypt"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// DefaultOpenIDConnectClient takes hashes of secrets that are being replaced.
var _ fosite.ClientWithSecretRotation = (*fosite.DefaultOpenIDConnectClient)(nil)

// registerSecrets registers a client with a secret and, while it replaces them,
// others that are taken too.
func registerSecrets(t *testing.T, s *fositetest.Server, id string, method provider.Method, secret string, rotated ...string) {
	t.Helper()
	client := fositetest.Registration(id, method)
	for i, value := range append([]string{secret}, rotated...) {
		hash, err := bcrypt.GenerateFromPassword([]byte(value), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			client.Secret = hash
		} else {
			client.RotatedSecrets = append(client.RotatedSecrets, hash)
		}
	}
	s.Register(client)
}

// callers call without pause until the test ends them, each time with a token
// request of their own.
type callers struct {
	wg       sync.WaitGroup
	stop     context.CancelFunc
	begun    []atomic.Int64 // calls of each
	failures atomic.Int64
}

func startCallers(t *testing.T, s *fositetest.Server, client *smartauth.Client, n int) *callers {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	c := &callers{stop: stop, begun: make([]atomic.Int64, n)}
	t.Cleanup(func() { stop(); c.wg.Wait() })
	for i := range n {
		c.wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				c.begun[i].Add(1)
				if err := callOnce(context.WithoutCancel(ctx), s, client, fmt.Sprintf("%d-%d", i, j)); err != nil && c.failures.Add(1) <= 3 {
					t.Errorf("call failed: %v", err)
				}
			}
		})
	}
	return c
}

// callOnce gets a token under a name of its own and reads with it.
func callOnce(ctx context.Context, s *fositetest.Server, client *smartauth.Client, name string) error {
	source, err := client.TokenSource(&smartauth.TokenOptions{Params: url.Values{"call": {name}}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.FHIRBase()+"/Patient/"+fositetest.PatientID, nil)
	if err != nil {
		return err
	}
	resp, err := client.Transport(source).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the FHIR server answered %s", resp.Status)
	}
	return nil
}

// await waits until condition holds, and until then every caller has ended a call
// that it began after that: none is on its way with what was used before.
func (c *callers) await(t *testing.T, condition func() bool) {
	t.Helper()
	wait := func(until func() bool) {
		for !until() {
			if c.failures.Load() > 0 {
				t.FailNow()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	wait(condition)
	seen := make([]int64, len(c.begun))
	for i := range seen {
		seen[i] = c.begun[i].Load()
	}
	for i := range seen {
		wait(func() bool { return c.begun[i].Load() >= seen[i]+2 })
	}
}

func (c *callers) finish(t *testing.T, s *fositetest.Server) {
	t.Helper()
	c.stop()
	c.wg.Wait()
	refused := 0
	for _, r := range s.TokenRequests() {
		if r.Status != http.StatusOK {
			refused++
		}
	}
	t.Logf("%d token requests, %d refused, %d calls failed", len(s.TokenRequests()), refused, c.failures.Load())
	if refused > 0 {
		t.Errorf("%d token requests were refused, although each credential was taken as long as it was used", refused)
	}
	if n := c.failures.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

// replaceFile writes by a rename, as a careful person does.
func replaceFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// The secret is replaced five times, each with an overlap: fosite takes the old and
// the new one, and when the old one is no longer on its way the new one only.
func TestSecretRotation(t *testing.T) {
	for _, method := range []provider.Method{provider.MethodClientSecretBasic, provider.MethodClientSecretPost} {
		t.Run(string(method), func(t *testing.T) {
			s := fositetest.NewServer(t, true)
			value := func(i int) string { return fmt.Sprint(secret, i) }
			path := filepath.Join(t.TempDir(), "secret")
			replaceFile(t, path, value(0))
			registerSecrets(t, s, "app", method, value(0))
			p, err := provider.New(provider.Config{Method: method, Secret: secretsource.File(path, nil), SecretOptions: &provider.SecretOptions{
				Cache:    &secretsource.CacheOptions{TTL: 50 * time.Millisecond, Observer: smartcred.Discard},
				Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
			}})
			if err != nil {
				t.Fatal(err)
			}
			rotator := p.(provider.Rotator)
			client := newClient(t, s, "app", p, fositetest.SystemScopes)
			c := startCallers(t, s, client, 50)
			c.await(t, func() bool { return true })
			inForce := func() string { return rotator.Status(t.Context(), "app", s.FHIRBase()).InForce.Version }
			for i := range 5 {
				before := inForce()
				registerSecrets(t, s, "app", method, value(i+1), value(i))
				replaceFile(t, path+".previous", value(i))
				replaceFile(t, path, value(i+1))
				c.await(t, func() bool { return inForce() != before })
				registerSecrets(t, s, "app", method, value(i+1))
			}
			c.finish(t, s)
		})
	}
}

// fosite switches before the source: what is cached is refused, the look past the
// cache brings the new secret, and the one that fosite no longer takes is not sent
// again.
func TestSecretRotationByRefusal(t *testing.T) {
	s := fositetest.NewServer(t, true)
	path := filepath.Join(t.TempDir(), "secret")
	replaceFile(t, path, "old")
	registerSecrets(t, s, "app", provider.MethodClientSecretPost, "old")
	p := secretProvider(t, provider.MethodClientSecretPost, secretsource.File(path, nil), "")
	client := newClient(t, s, "app", p, fositetest.SystemScopes)
	if err := callOnce(t.Context(), s, client, "before"); err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path+".previous", "old")
	replaceFile(t, path, "new")
	registerSecrets(t, s, "app", provider.MethodClientSecretPost, "new")
	time.Sleep(2 * time.Second) // between two looks past the cache
	for _, name := range []string{"first", "second"} {
		if err := callOnce(t.Context(), s, client, name); err != nil {
			t.Fatal(err)
		}
	}
	var sent []string
	for _, r := range s.TokenRequests() {
		sent = append(sent, fmt.Sprint(r.Form.Get("client_secret"), " ", r.Status))
	}
	if got, want := fmt.Sprint(sent), "[old 200 old 401 new 200 new 200]"; got != want {
		t.Errorf("token requests %s, want %s", got, want)
	}
}

// rotatedKeys is a key file with a provider that reads its folder every tenth of
// a second.
func rotatedKeys(t *testing.T, alg signer.Algorithm) (path string, p *provider.PrivateKeyJWT) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key.pem")
	replaceFile(t, path, pemOf(t, newKey(t, alg)))
	keys, err := signer.File(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err = provider.NewPrivateKeyJWT(keys, &provider.PrivateKeyJWTOptions{
		KeySet:   &signer.KeySetOptions{Refresh: 100 * time.Millisecond, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	closeWith(t, p)
	return path, p
}

// awaitPublished waits until p publishes n keys.
func awaitPublished(t *testing.T, p *provider.PrivateKeyJWT, n int) {
	t.Helper()
	for {
		keys, err := p.KeySet().Published(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) == n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// registerPublished registers what p publishes once that is n keys.
func registerPublished(t *testing.T, s *fositetest.Server, alg signer.Algorithm, p *provider.PrivateKeyJWT, n int) {
	t.Helper()
	awaitPublished(t, p, n)
	client := fositetest.Registration("app", provider.MethodPrivateKeyJWT)
	client.TokenEndpointAuthSigningAlgorithm = string(alg)
	client.JSONWebKeys = servedKeys(t, p)
	s.Register(client)
}

// servedKeys reads the JWK Set that p serves.
func servedKeys(t *testing.T, p *provider.PrivateKeyJWT) *jose.JSONWebKeySet {
	t.Helper()
	w := httptest.NewRecorder()
	p.KeySet().Handler(t.Context()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	set := new(jose.JSONWebKeySet)
	if err := json.Unmarshal(w.Body.Bytes(), set); err != nil {
		t.Fatal(err)
	}
	return set
}

func pemOf(t *testing.T, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// A key by value, the supported way: the new one is registered beside the old one
// before it is used, and the old one goes when nothing that it signed is on its way.
func TestKeyRotation(t *testing.T) {
	for _, alg := range []signer.Algorithm{signer.ES384, signer.RS384} {
		t.Run(string(alg), func(t *testing.T) {
			s := fositetest.NewServer(t, true)
			path, p := rotatedKeys(t, alg)
			registerPublished(t, s, alg, p, 1)
			c := startCallers(t, s, newClient(t, s, "app", p, fositetest.SystemScopes), 50)
			c.await(t, func() bool { return true })
			inForce := func() string { return p.Status(t.Context(), "app", s.FHIRBase()).InForce.KeyID }
			for range 3 {
				before := inForce()
				replaceFile(t, path+".next", pemOf(t, newKey(t, alg)))
				registerPublished(t, s, alg, p, 2) // next and current
				if err := os.Link(path, path+".previous"); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".next", path); err != nil {
					t.Fatal(err)
				}
				c.await(t, func() bool { return inForce() != before })
				if err := os.Remove(path + ".previous"); err != nil {
					t.Fatal(err)
				}
				registerPublished(t, s, alg, p, 1)
			}
			c.finish(t, s)
		})
	}
}

// What the supported way avoids: fosite calls a kid that it does not know
// invalid_request, which is no refusal of a credential (RFC 6749 section 5.2), so
// that no other key is tried. Registering the key heals it.
func TestKeyThatIsNotRegisteredYet(t *testing.T) {
	s := fositetest.NewServer(t, true)
	path, p := rotatedKeys(t, signer.ES384)
	registerPublished(t, s, signer.ES384, p, 1)
	client := newClient(t, s, "app", p, fositetest.SystemScopes)
	if err := callOnce(t.Context(), s, client, "before"); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, path+".previous"); err != nil { // path is read all the time, and never gone
		t.Fatal(err)
	}
	replaceFile(t, path, pemOf(t, newKey(t, signer.ES384)))
	awaitPublished(t, p, 2)
	before := len(s.TokenRequests())
	err := callOnce(t.Context(), s, client, "unknown kid")
	refused(t, err, provider.ErrInvalidRequest, http.StatusBadRequest)
	if errors.As(err, new(*provider.RefusedError)) {
		t.Errorf("got %v, which counts it as a refusal", err)
	}
	if n := len(s.TokenRequests()) - before; n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
	registerPublished(t, s, signer.ES384, p, 2)
	if err := callOnce(t.Context(), s, client, "registered"); err != nil {
		t.Errorf("after the key was registered: %v", err)
	}
}
