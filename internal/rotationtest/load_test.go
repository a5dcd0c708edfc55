package rotationtest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const callers = 200

// A load is callers that read from a FHIR server over a real network without
// pause, through clients that share one provider.
type load struct {
	srv     *smartauthtest.Server
	clients []*smartauth.Client
	start   time.Time
	stop    context.CancelFunc
	wg      sync.WaitGroup

	calls, failures atomic.Int64

	sending sync.RWMutex // read-held by each token request on its way
	ended   bool         // no more are sent; guarded by sending

	mu               sync.Mutex
	granted, refused int             // token requests
	took             map[string]bool // what the server took: secrets, and keys by their kid
}

// watch is the network, with an eye on token requests.
type watch struct {
	http.RoundTripper
	load *load
}

func (w watch) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		return w.RoundTripper.RoundTrip(req)
	}
	w.load.sending.RLock()
	defer w.load.sending.RUnlock()
	if w.load.ended {
		return nil, errors.New("the load has ended")
	}
	resp, err := w.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := req.GetBody()
	if err != nil {
		return resp, nil
	}
	sent, _ := io.ReadAll(body)
	w.load.record(string(sent), resp.StatusCode == http.StatusOK)
	return resp, nil
}

func (l *load) record(body string, granted bool) {
	form, _ := url.ParseQuery(body)
	name := form.Get("client_secret")
	header, _, _ := strings.Cut(form.Get("client_assertion"), ".")
	if raw, _ := base64.RawURLEncoding.DecodeString(header); len(raw) > 0 {
		var members struct{ Kid string }
		_ = json.Unmarshal(raw, &members)
		name = members.Kid
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if granted {
		l.granted++
		l.took[name] = true
	} else {
		l.refused++
	}
}

// tokenLife is short, so that every rotation meets token requests.
const tokenLife = time.Second

// startLoad divides the callers among clients, each with a token of its own.
func startLoad(t *testing.T, srv *smartauthtest.Server, p provider.Provider, clients int) *load {
	t.Helper()
	network := &http.Transport{MaxIdleConnsPerHost: callers + 10}
	t.Cleanup(network.CloseIdleConnections)
	ctx, stop := context.WithCancel(t.Context())
	l := &load{srv: srv, start: time.Now(), stop: stop, took: map[string]bool{}}
	for range clients {
		l.clients = append(l.clients, newClient(t, srv, smartauth.Config{
			Provider: p, Observer: smartcred.Discard, AllowInsecureLoopback: true, HTTPClient: &http.Client{Transport: watch{network, l}},
		}))
	}
	t.Cleanup(func() { stop(); l.wg.Wait() })
	for i := range callers {
		client := l.clients[i%clients]
		l.wg.Go(func() { l.callUntil(ctx, t, client) })
	}
	return l
}

// callUntil reads until ctx ends. A call that has begun is not cancelled, so that
// every call counts.
func (l *load) callUntil(ctx context.Context, t *testing.T, client *smartauth.Client) {
	fhir := client.HTTPClient()
	for ctx.Err() == nil {
		l.calls.Add(1)
		err := read(context.WithoutCancel(ctx), fhir, l.srv.URL+"/Patient/pat-1")
		if err == nil {
			_, err = client.Token(context.WithoutCancel(ctx))
		}
		if err != nil && l.failures.Add(1) <= 5 {
			t.Errorf("%s after the start: %v", time.Since(l.start), err)
		}
	}
}

func read(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, fmt.Errorf("the FHIR server answered %s", resp.Status))
	}
	return err
}

// has tells whether the server has given out a token for that credential.
func (l *load) has(credential string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.took[credential]
}

func (l *load) await(t *testing.T, credential string) {
	t.Helper()
	l.until(t, func() bool { return l.has(credential) })
}

// until waits for a condition that comes true while the load runs without failures.
func (l *load) until(t *testing.T, condition func() bool) {
	t.Helper()
	for !condition() {
		if t.Context().Err() != nil || l.failures.Load() > 0 {
			t.FailNow()
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// finish ends the load and checks what it cost: a token a life for each client,
// and at most two requests more for a rotation.
func (l *load) finish(t *testing.T, rotations int) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	// A token is renewed ahead of its end with no caller waiting for it.
	l.sending.Lock()
	l.ended = true
	l.sending.Unlock()
	took := time.Since(l.start)
	t.Logf("%d calls by %d callers in %s, %d failed; %d rotations; %d token requests: %d tokens, and %d beyond one per token life",
		l.calls.Load(), callers, took.Round(time.Millisecond), l.failures.Load(), rotations, l.granted+l.refused, l.granted, l.refused)
	if l.failures.Load() > 0 {
		t.Errorf("%d calls failed", l.failures.Load())
	}
	if l.granted+l.refused != l.srv.TokenRequests() {
		t.Errorf("%d token requests at the server, %d seen on their way", l.srv.TokenRequests(), l.granted+l.refused)
	}
	if l.refused > 2*rotations {
		t.Errorf("%d token requests beyond one per token life, want at most 2 a rotation", l.refused)
	}
	// A token is renewed when four fifths of its life are over, never before.
	if most := len(l.clients) * (int(took/(tokenLife*4/5)) + 1); l.granted > most {
		t.Errorf("%d tokens in %s for %d clients, want at most %d", l.granted, took, len(l.clients), most)
	}
}

// newLoadServer keeps no requests, of which there are many. It takes a token longer
// than it says, so that no read comes too late on a busy machine.
func newLoadServer(t *testing.T) *smartauthtest.Server {
	return smartauthtest.NewServer(t, &smartauthtest.Options{
		TokenLifetime: time.Minute, MaxRequests: -1,
		ModifyToken: func(members map[string]any) { members["expires_in"] = int(tokenLife / time.Second) },
	})
}

// The overlap is as long as the cache keeps a secret, or longer: then nothing is
// refused but what was on its way when the server dropped the old secret.
func TestSecretIsRotated100TimesUnderLoad(t *testing.T) {
	t.Parallel()
	const rotations = 100
	rotateSecrets(t, rotations, 12, 50*time.Millisecond, func(l *load, _, fresh string) {
		l.await(t, fresh)
	})
}

// The server drops the old secret while this process has it cached: the refusal
// makes it look. Rotations are as far apart as such looks are at least.
func TestSecretIsRotatedUnderLoadWhileItIsCached(t *testing.T) {
	t.Parallel()
	rotateSecrets(t, 5, 2, time.Minute, func(*load, string, string) { time.Sleep(2100 * time.Millisecond) })
}

func rotateSecrets(t *testing.T, rotations, clients int, ttl time.Duration, overlap func(l *load, old, fresh string)) {
	path := filepath.Join(t.TempDir(), "secret")
	old := "secret-0"
	writeFile(t, path, []byte(old))
	p, err := provider.NewClientSecretPost(secretsource.File(path, nil), &provider.SecretOptions{
		Cache:    &secretsource.CacheOptions{TTL: ttl, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	srv := newLoadServer(t)
	srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{old}})
	l := startLoad(t, srv, p, clients)
	l.await(t, old)
	for i := range rotations {
		fresh := fmt.Sprint("secret-", i+1)
		srv.SetSecrets(clientID, old, fresh)
		writeFile(t, path+".previous", []byte(old))
		writeFile(t, path, []byte(fresh))
		overlap(l, old, fresh)
		srv.SetSecrets(clientID, fresh)
		l.await(t, fresh)
		old = fresh
	}
	l.finish(t, rotations)
}

// A key set as a versioned backend has it: a new key is published until the server
// has it, then it is scheduled and signs, and the oldest goes. Each step waits for
// the one before it, so that a slow machine only makes it last longer.
func TestKeyIsRotated20TimesUnderLoad(t *testing.T) {
	t.Parallel()
	const (
		rotations = 20
		refresh   = 200 * time.Millisecond
		maxAge    = time.Second
	)
	version := func(i int) string { return fmt.Sprint("key-", i) }
	staged := func(key *signer.Key) { key.NotBefore = signer.Unscheduled }
	ring := new(keyring)
	ring.add(version(0), nil)
	ring.add(version(1), staged)
	p, err := provider.NewPrivateKeyJWT(ring, &provider.PrivateKeyJWTOptions{
		KeySet:   &signer.KeySetOptions{Refresh: refresh, MaxAge: maxAge, PublishFor: 2*maxAge + refresh, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if _, err := p.KeySet().Published(t.Context()); err != nil {
		t.Fatal(err)
	}
	published := &publication{Handler: p.KeySet().Handler(t.Context()), fetched: map[string]bool{}}
	jwks := httptest.NewServer(published)
	t.Cleanup(jwks.Close)
	srv := newLoadServer(t)
	srv.AddClient(smartauthtest.Client{ID: clientID, JWKSURL: jwks.URL})
	l := startLoad(t, srv, p, 4)
	l.await(t, version(0))
	for i := 1; i <= rotations; i++ {
		l.until(t, func() bool { return published.has(version(i)) })
		if l.has(version(i)) {
			t.Errorf("%s signed before its time", version(i))
		}
		ring.alter(version(i), func(key *ringKey) { key.NotBefore = time.Now().Add(2 * refresh) })
		// The next one is published meanwhile: with it, this one, the current and
		// the previous one, four are shown, which is the most.
		if i < rotations {
			ring.add(version(i+1), staged)
		}
		if i >= 3 {
			ring.remove(version(i - 3))
		}
		l.await(t, version(i))
	}
	l.finish(t, rotations)
}

// A publication is a JWK Set's handler, with an eye on the keys that went out.
type publication struct {
	http.Handler
	mu      sync.Mutex
	fetched map[string]bool // by kid
}

func (p *publication) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	p.Handler.ServeHTTP(answer, r)
	var set struct{ Keys []struct{ Kid string } }
	_ = json.Unmarshal(answer.Body.Bytes(), &set)
	p.mu.Lock()
	for _, key := range set.Keys {
		p.fetched[key.Kid] = true
	}
	p.mu.Unlock()
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (p *publication) has(kid string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetched[kid]
}
