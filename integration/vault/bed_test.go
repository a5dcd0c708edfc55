package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
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

const (
	clientID    = "my-app"
	redirectURL = "https://app.example.org/callback"
)

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

func (e *events) count(kind smartcred.EventKind) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, event := range e.all {
		if event.Kind == kind {
			n++
		}
	}
	return n
}

// keyProvider signs with s, reads its list as often as keys says, and is closed
// with t.
func keyProvider(t *testing.T, s signer.Signer, keys signer.KeySetOptions) *provider.PrivateKeyJWT {
	t.Helper()
	keys.Observer = smartcred.Discard
	p, err := provider.NewPrivateKeyJWT(s, &provider.PrivateKeyJWTOptions{
		KeySet: &keys, Rotation: &provider.RotationOptions{Observer: smartcred.Discard}, Observer: smartcred.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, p)
	return p
}

// secretProvider sends the secret in the Authorization header, and is closed with t.
func secretProvider(t *testing.T, s secretsource.Source, ttl time.Duration) *provider.ClientSecretBasic {
	t.Helper()
	p, err := provider.NewClientSecretBasic(s, &provider.SecretOptions{
		Cache:    &secretsource.CacheOptions{TTL: ttl, Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard}, Observer: smartcred.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, p)
	return p
}

// newClient returns a client of a server, which is closed with t.
func newClient(t *testing.T, srv *smartauthtest.Server, p provider.Provider, scopes ...string) *smartauth.Client {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []string{"system/*.rs"}
	}
	network := &http.Transport{MaxIdleConnsPerHost: callers + 10}
	t.Cleanup(network.CloseIdleConnections)
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: srv.URL, ClientID: clientID, Provider: p, Scopes: scopes, RedirectURL: redirectURL,
		HTTPClient: &http.Client{Transport: network}, AllowInsecureLoopback: true, Observer: smartcred.Discard,
	})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, client)
	return client
}

// published is the JWK Set that p serves.
func published(t *testing.T, p *provider.PrivateKeyJWT) []byte {
	t.Helper()
	if _, err := p.KeySet().Published(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	p.KeySet().Handler(t.Context()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("the JWK Set's handler answered %d", w.Code)
	}
	return w.Body.Bytes()
}

// awaitPublished waits until p publishes the versions, next ones first, and no other.
func awaitPublished(t *testing.T, p *provider.PrivateKeyJWT, versions ...string) {
	t.Helper()
	eventually(t, func() error {
		keys, err := p.KeySet().Published(t.Context())
		if err != nil {
			return err
		}
		var got []string
		for _, key := range keys {
			got = append(got, key.Version)
		}
		if !slices.Equal(got, versions) {
			return fmt.Errorf("versions %q are published, want %q", got, versions)
		}
		return nil
	})
}

// patience bounds waits for what comes by itself; machines that build at the same
// time are slow.
const patience = 30 * time.Second

func eventually(t *testing.T, f func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("after %s still: %v", patience, err)
		}
	}
}

// callOnce gets a token under a name of its own, so that it is not cached, and
// reads with it.
func callOnce(ctx context.Context, client *smartauth.Client, srv *smartauthtest.Server, name string) error {
	source, err := client.TokenSource(&smartauth.TokenOptions{Params: url.Values{"call": {name}}})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/Patient/pat-1", nil)
	if err != nil {
		return err
	}
	resp, err := client.Transport(source).RoundTrip(req)
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

const callers = 100

// A load is callers that call until the test ends them.
type load struct {
	wg       sync.WaitGroup
	stop     context.CancelFunc
	begun    [callers]atomic.Int64 // calls of each
	failures atomic.Int64
	allowed  func(error) bool // failures that are no failure; nil: none
	excused  atomic.Int64
}

// startLoad has 100 callers call, one after the other at first, each again pause
// after its last call; a pause leaves the machine to others where it is the time
// that counts.
func startLoad(t *testing.T, pause time.Duration, allowed func(error) bool, call func(ctx context.Context, name string) error) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	l := &load{stop: stop, allowed: allowed}
	t.Cleanup(func() { stop(); l.wg.Wait() })
	for i := range callers {
		l.wg.Go(func() {
			wait := func(d time.Duration) {
				select {
				case <-ctx.Done():
				case <-time.After(d):
				}
			}
			for wait(pause * time.Duration(i) / callers); ctx.Err() == nil; wait(pause) {
				n := l.begun[i].Add(1)
				// A call that has begun is not cancelled, so that every call counts.
				l.took(t, call(context.WithoutCancel(ctx), fmt.Sprintf("%d-%d", i, n)))
			}
		})
	}
	return l
}

func (l *load) took(t *testing.T, err error) {
	switch {
	case err == nil:
	case l.allowed != nil && l.allowed(err):
		l.excused.Add(1)
	case l.failures.Add(1) <= 3:
		t.Errorf("call failed: %v", err)
	}
}

// await waits until condition holds, and until then every caller has ended a call
// that it began after that.
func (l *load) await(t *testing.T, condition func() bool) {
	t.Helper()
	wait := func(until func() bool) {
		t.Helper()
		for end := time.Now().Add(2 * patience); !until(); time.Sleep(5 * time.Millisecond) {
			if l.failures.Load() > 0 || time.Now().After(end) {
				t.Fatal("what the load waits for does not come")
			}
		}
	}
	wait(condition)
	var seen [callers]int64
	for i := range seen {
		seen[i] = l.begun[i].Load()
	}
	for i := range seen {
		wait(func() bool { return l.begun[i].Load() >= seen[i]+2 })
	}
}

func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop()
	l.wg.Wait()
	calls := int64(0)
	for i := range l.begun {
		calls += l.begun[i].Load()
	}
	t.Logf("%d calls by %d callers, %d failed, %d more as they may", calls, callers, l.failures.Load(), l.excused.Load())
	if n := l.failures.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}
