package smartauth_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"sync"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	testClient = "backend-app"
	testSecret = "test-secret-not-a-real-one"
)

// postSecret is a provider in one line, with the fixed test secret.
type postSecret struct{}

func (postSecret) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	return send(ctx, provider.NewCredential(provider.CredentialOptions{
		Method:    provider.MethodClientSecretPost,
		Params:    url.Values{"client_id": {req.ClientID}, "client_secret": {testSecret}},
		Sensitive: [][]byte{[]byte(testSecret)},
	}))
}

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

// newServer returns a server without a network, fit for a synctest bubble.
func newServer(t *testing.T, opts *smartauthtest.Options) *smartauthtest.Server {
	t.Helper()
	srv := smartauthtest.NewUnstarted(opts)
	t.Cleanup(srv.Close)
	srv.AddClient(smartauthtest.Client{ID: testClient, Secrets: []string{testSecret}})
	return srv
}

// newClient returns a client of srv; change adapts its configuration.
func newClient(t *testing.T, srv *smartauthtest.Server, change func(*smartauth.Config)) *smartauth.Client {
	t.Helper()
	cfg := smartauth.Config{
		BaseURL: srv.URL, ClientID: testClient, Scopes: []string{"system/*.rs"},
		Provider: postSecret{}, HTTPClient: srv.Client(), Observer: smartcred.Discard,
	}
	if change != nil {
		change(&cfg)
	}
	client, err := smartauth.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// roundTripFunc makes a round tripper of a function.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func oldTLS() *tls.Config { return &tls.Config{MinVersion: tls.VersionTLS10} }
