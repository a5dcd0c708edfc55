package smartauthtest_test

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A jwksHost serves a client's JWK Set in memory.
type jwksHost struct {
	mu      sync.Mutex
	body    string
	status  int
	headers http.Header
	fetches int
}

func (h *jwksHost) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fetches++
	for name, values := range h.headers {
		w.Header()[name] = values
	}
	if h.status != 0 {
		w.WriteHeader(h.status)
	}
	io.WriteString(w, h.body)
}

func (h *jwksHost) set(status int, body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.status, h.body = status, body
}

func (h *jwksHost) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fetches
}

func TestJWKSURL(t *testing.T) {
	const maxAge = 15 * time.Minute
	for _, refetch := range []bool{false, true} {
		t.Run("refetch "+strconv.FormatBool(refetch), func(t *testing.T) {
			clock := newClock()
			host := &jwksHost{body: jwks(jwk(ecKey(), "k1")), headers: http.Header{"Cache-Control": {"public, max-age=900"}}}
			srv := newTokenServer(t, &smartauthtest.Options{
				Clock: clock.Now, RefetchUnknownKey: refetch,
				HTTPClient: &http.Client{Transport: smartauthtest.HandlerTransport(host)},
			})
			srv.AddClient(smartauthtest.Client{ID: "jwt", JWKSURL: "https://app.example.org/jwks.json"})
			send := func(kid string) *response {
				return post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, clock.Now(), object{"kid": kid}, nil)), nil)
			}
			wantToken(t, send("k1"))
			host.set(200, jwks(jwk(ecKey(), "k2")))
			wantToken(t, send("k1"))
			if host.count() != 1 {
				t.Fatalf("%d fetches, want 1", host.count())
			}
			if refetch {
				wantToken(t, send("k2"))
				wantError(t, srv, send("k1"), 401, "invalid_client", "kid")
				return
			}
			clock.advance(maxAge - time.Second)
			wantError(t, srv, send("k2"), 401, "invalid_client", "kid")
			clock.advance(time.Second)
			wantToken(t, send("k2"))
			wantError(t, srv, send("k1"), 401, "invalid_client", "kid")
			if host.count() != 2 {
				t.Errorf("%d fetches, want 2", host.count())
			}
			srv.SetJWKS("jwt", nil)
			wantToken(t, send("k2"))
			if host.count() != 3 {
				t.Errorf("%d fetches after SetJWKS(nil), want 3", host.count())
			}
		})
	}
}

func TestJWKSURLCaching(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers http.Header
		fetches int // for two requests one second apart
	}{
		{"none", nil, 2},
		{"max-age", http.Header{"Cache-Control": {"max-age=60"}}, 1},
		{"quoted, second line", http.Header{"Cache-Control": {"public", `Max-Age="60"`}}, 1},
		{"no-store", http.Header{"Cache-Control": {"max-age=60, no-store"}}, 2},
		{"no-cache", http.Header{"Cache-Control": {"no-cache, max-age=60"}}, 2},
		{"malformed", http.Header{"Cache-Control": {"max-age=soon"}}, 2},
		{"old", http.Header{"Cache-Control": {"max-age=60"}, "Age": {"59"}}, 2},
		{"negative", http.Header{"Cache-Control": {"max-age=-1"}}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			clock := newClock()
			host := &jwksHost{body: jwks(jwk(ecKey(), "k1")), headers: test.headers}
			srv := newTokenServer(t, &smartauthtest.Options{Clock: clock.Now, HTTPClient: &http.Client{Transport: smartauthtest.HandlerTransport(host)}})
			srv.AddClient(smartauthtest.Client{ID: "jwt", JWKSURL: "https://app.example.org/jwks.json"})
			for range 2 {
				wantToken(t, post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, clock.Now(), nil, nil)), nil))
				clock.advance(time.Second)
			}
			if host.count() != test.fetches {
				t.Errorf("%d fetches, want %d", host.count(), test.fetches)
			}
		})
	}
}

func TestJWKSURLFailures(t *testing.T) {
	clock := newClock()
	host := &jwksHost{headers: http.Header{"Cache-Control": {"max-age=60"}}}
	srv := newTokenServer(t, &smartauthtest.Options{Clock: clock.Now, HTTPClient: &http.Client{Transport: smartauthtest.HandlerTransport(host)}})
	srv.AddClient(smartauthtest.Client{ID: "jwt", JWKSURL: "https://app.example.org/jwks.json"})
	send := func() *response {
		return post(t, srv, srv.TokenURL, assertionForm(assertion(srv.TokenURL, clock.Now(), nil, nil)), nil)
	}
	host.set(503, "")
	wantError(t, srv, send(), 401, "invalid_client", "status 503")
	host.set(200, "<html>")
	wantError(t, srv, send(), 401, "invalid_client", "malformed")
	host.set(200, jwks(jwk(ecKey(), "k1")))
	wantToken(t, send())
	host.set(503, "")
	clock.advance(time.Minute)
	wantError(t, srv, send(), 401, "invalid_client", "status 503") // nothing stale
}

// Two requests that need the same set fetch it once, also on a synctest clock.
func TestJWKSURLIsFetchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &jwksHost{body: jwks(jwk(ecKey(), "k1")), headers: http.Header{"Cache-Control": {"max-age=60"}}}
		slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			host.ServeHTTP(w, r)
		})
		srv := newTokenServer(t, &smartauthtest.Options{HTTPClient: &http.Client{Transport: smartauthtest.HandlerTransport(slow)}})
		srv.AddClient(smartauthtest.Client{ID: "jwt", JWKSURL: "https://app.example.org/jwks.json"})
		send := func(ctx context.Context) (*http.Response, error) {
			form := assertionForm(assertion(srv.TokenURL, time.Now(), nil, nil))
			return srv.Client().Do(newPost(t, srv.TokenURL, form.Encode(), nil).WithContext(ctx))
		}
		start := time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				resp, err := send(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("status %d", resp.StatusCode)
				}
			})
		}
		wg.Go(func() { // waits for the turn, gives up
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if resp, err := send(ctx); err == nil {
				resp.Body.Close()
				t.Error("no error")
			}
		})
		wg.Wait()
		if got := time.Since(start); got > 3*time.Second || host.count() > 2 {
			t.Errorf("%d fetches in %s", host.count(), got)
		}
	})
}
