package smartauth_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// counting counts what is read of answers to token requests, and what is not closed.
type counting struct {
	base       http.RoundTripper
	read, open atomic.Int64
}

func (c *counting) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(req)
	if err == nil && req.Method == http.MethodPost {
		c.open.Add(1)
		resp.Body = &countedBody{ReadCloser: resp.Body, of: c}
	}
	return resp, err
}

type countedBody struct {
	io.ReadCloser
	of *counting
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.of.read.Add(int64(n))
	return n, err
}

func (b *countedBody) Close() error {
	b.of.open.Add(-1)
	return b.ReadCloser.Close()
}

// TestHostileBodies: whatever a token endpoint sends, no more than 1 MiB of it is
// read, for no longer than the time-out, and a grant it may have used is not sent
// again.
func TestHostileBodies(t *testing.T) {
	const limit = 1 << 20
	for name, test := range map[string]struct {
		fault smartauthtest.Fault
		want  string // in the error
		whole bool   // up to the limit is read
	}{
		"endless JSON":       {smartauthtest.Fault{Status: 200, Stream: -1, Body: `{"access_token":"`}, "over 1048576 bytes", true},
		"endless error":      {smartauthtest.Fault{Status: 400, Stream: -1, Body: `{"error":"invalid_client","x":"`}, "over 1048576 bytes", true},
		"endless HTML":       {smartauthtest.Fault{Status: 502, Stream: -1, Body: `<html>`}, "over 1048576 bytes", true},
		"a gigabyte":         {smartauthtest.Fault{Status: 200, Stream: 1 << 30}, "over 1048576 bytes", true},
		"one byte too many":  {smartauthtest.Fault{Status: 200, Stream: limit + 1}, "over 1048576 bytes", true},
		"a byte a second":    {smartauthtest.Fault{Drip: time.Second}, "deadline", false},
		"never":              {smartauthtest.Fault{Delay: 24 * time.Hour}, "deadline", false},
		"cut short":          {smartauthtest.Fault{Truncate: 20}, "unexpected EOF", false},
		"cut before it came": {smartauthtest.Fault{Drop: true}, "EOF", false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newWebServer(t, nil)
				srv.Fail(smartauthtest.EndpointToken, test.fault)
				counted := &counting{base: srv.Transport()}
				client := newClient(t, srv, func(cfg *smartauth.Config) {
					webApp(cfg)
					cfg.HTTPClient, cfg.Timeout, cfg.Scopes = &http.Client{Transport: counted}, 10*time.Second, []string{"patient/*.rs"}
				})
				check := func(what string, err error) {
					t.Helper()
					var server *smartauth.ServerError
					if !errors.As(err, &server) || !strings.Contains(err.Error(), test.want) {
						t.Errorf("%s: err = %v, want a ServerError with %q", what, err, test.want)
					}
					read := counted.read.Swap(0)
					if read > limit+1 || test.whole && read < limit {
						t.Errorf("%s: %d bytes read", what, read)
					}
					if n := counted.open.Load(); n != 0 {
						t.Errorf("%s: %d bodies left open", what, n)
					}
				}
				began := time.Now()
				_, err := client.Token(t.Context())
				check("client_credentials", err)

				launch := startLaunch(t, client, nil)
				_, err = client.Exchange(t.Context(), launch, url.Values{"state": {launch.State()}, "code": {"a-code"}})
				check("code", err)
				if !errors.Is(err, smartauth.ErrGrantUncertain) {
					t.Errorf("code: err = %v, want ErrGrantUncertain", err)
				}
				if waited := time.Since(began); waited > 2*10*time.Second {
					t.Errorf("waited %s", waited)
				}
				if n := srv.TokenRequests(); n != 2 {
					t.Errorf("%d token requests, want 2", n)
				}
			})
		})
	}
}

// An answer of exactly the limit is read.
func TestLargestBody(t *testing.T) {
	srv := newServer(t, nil)
	const head, tail = `{"access_token":"a","token_type":"Bearer","expires_in":300,"x":"`, `"}`
	srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 200, Body: head + strings.Repeat("x", 1<<20-len(head)-len(tail)) + tail})
	mustToken(t, newClient(t, srv, nil))
}
