package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const (
	rightSecret  = "right-secret"
	wrongSecret  = "wrong-secret"
	wrongSecret2 = "another-wrong-secret"
	redirectURL  = "https://app.example/callback"
)

var offlineScopes = []string{"launch/patient", "patient/*.rs", "offline_access"}

// An ehr is a strict SMART server in memory that takes rightSecret, and counts.
type ehr struct {
	*smartauthtest.Server
	requests, refused atomic.Int64 // at the token endpoint
}

func newEHR(opts smartauthtest.Options) *ehr {
	opts.MaxRequests = -1
	opts.CodeLifetime = time.Hour
	e := &ehr{Server: smartauthtest.NewUnstarted(&opts)}
	e.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{rightSecret}, RedirectURIs: []string{redirectURL}})
	return e
}

// RoundTrip implements http.RoundTripper.
func (e *ehr) RoundTrip(req *http.Request) (*http.Response, error) {
	token := req.URL.String() == e.TokenURL
	if token {
		e.requests.Add(1)
	}
	answer, err := e.Transport().RoundTrip(req)
	if token && err == nil && answer.StatusCode >= 400 {
		e.refused.Add(1)
	}
	return answer, err
}

func (e *ehr) httpClient() *http.Client { return &http.Client{Transport: e} }

// client returns a client of p at e.
func (e *ehr) client(p provider.Provider) (*smartauth.Client, error) {
	return smartauth.NewClient(smartauth.Config{
		BaseURL: e.URL, TokenEndpoint: e.TokenURL, AuthorizationEndpoint: e.AuthorizeURL, ClientID: clientID,
		Scopes: []string{scope}, RedirectURL: redirectURL,
		Provider: p, HTTPClient: e.httpClient(), Observer: smartcred.Discard,
	})
}

// otherConfig is x/oauth2's, which knows one secret.
func (e *ehr) otherConfig(secret string) clientcredentials.Config {
	return clientcredentials.Config{
		ClientID: clientID, ClientSecret: secret, TokenURL: e.TokenURL,
		Scopes: []string{scope}, AuthStyle: oauth2.AuthStyleInHeader,
	}
}

func (e *ehr) otherContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, e.httpClient())
}

// secretPair authenticates with two secrets.
func secretPair(current, previous string) (provider.Provider, error) {
	return provider.NewClientSecretBasic(secretsource.StaticPair([]byte(current), []byte(previous)), &provider.SecretOptions{
		Cache:    &secretsource.CacheOptions{Observer: smartcred.Discard},
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
}

// atOnce calls each from goroutines of their own and returns their errors.
func atOnce(size int, call func(i int) error) []error {
	errs := make([]error, size)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range size {
		all.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	all.Wait()
	return errs
}

// coldStart counts what callers cost that all begin at once while the server
// refuses both secrets. Each has a client of its own, so that no token flight is
// shared: what they share is the provider.
func coldStart() ([]result, error) { return coldStartOf(10_000) }

func coldStartOf(size int) ([]result, error) {
	ctx := context.Background()
	ours, theirs := newEHR(smartauthtest.Options{}), newEHR(smartauthtest.Options{})
	defer ours.Close()
	defer theirs.Close()
	p, err := secretPair(wrongSecret, wrongSecret2)
	if err != nil {
		return nil, err
	}
	rush := func() (int64, error) {
		clients := make([]*smartauth.Client, size)
		for i := range clients {
			if clients[i], err = ours.client(p); err != nil {
				return 0, err
			}
			defer clients[i].Close()
		}
		before := ours.requests.Load()
		for _, err := range atOnce(size, func(i int) error { _, err := clients[i].Token(ctx); return err }) {
			if !errors.Is(err, provider.ErrInvalidClient) {
				return 0, fmt.Errorf("a caller got %w", err)
			}
		}
		return ours.requests.Load() - before, nil
	}
	first, err := rush()
	if err != nil {
		return nil, err
	}
	second, err := rush()
	if err != nil {
		return nil, err
	}
	cfg := theirs.otherConfig(wrongSecret)
	other := cfg.TokenSource(theirs.otherContext(ctx))
	for _, err := range atOnce(size, func(int) error { _, err := other.Token(); return err }) {
		if err == nil {
			return nil, errors.New("x/oauth2 was served with a wrong secret")
		}
	}
	return []result{
		{what: "token requests", value: float64(first), bound: 3},
		{what: "token requests of as many in the back-off", value: float64(second), bound: 0},
		{what: "token requests, x/oauth2", value: float64(theirs.requests.Load()), bound: unbounded, detail: "one token source, one secret"},
	}, nil
}

// grants counts what different codes and refresh tokens cost at a cold start
// with a wrong current and a right previous secret.
func grants() ([]result, error) { return grantsOf(10_000) }

func grantsOf(size int) ([]result, error) {
	ctx := context.Background()
	ours, theirs := newEHR(smartauthtest.Options{}), newEHR(smartauthtest.Options{})
	defer ours.Close()
	defer theirs.Close()
	right, err := secretPair(rightSecret, "")
	if err != nil {
		return nil, err
	}
	cold, err := secretPair(wrongSecret, rightSecret)
	if err != nil {
		return nil, err
	}
	before, err := ours.client(right)
	if err != nil {
		return nil, err
	}
	defer before.Close()
	after, err := ours.client(cold)
	if err != nil {
		return nil, err
	}
	defer after.Close()

	calls := make([]func() error, size)
	for i := range calls {
		client := before
		if i%2 == 0 {
			client = after
		}
		launch, err := client.StartLaunch(ctx, &smartauth.LaunchOptions{Scopes: offlineScopes})
		if err != nil {
			return nil, err
		}
		callback, err := ours.Authorize(ctx, launch.URL())
		if err != nil {
			return nil, err
		}
		if i%2 == 0 { // a code
			calls[i] = func() error { _, err := after.Exchange(ctx, launch, callback.Query()); return err }
			continue
		}
		token, err := before.Exchange(ctx, launch, callback.Query())
		if err != nil {
			return nil, err
		}
		calls[i] = func() error { _, err := after.Refresh(ctx, token, nil); return err }
	}
	refused := ours.refused.Load()
	for _, err := range atOnce(size, func(i int) error { return calls[i]() }) {
		if err != nil {
			return nil, fmt.Errorf("a grant failed: %w", err)
		}
	}
	refused = ours.refused.Load() - refused

	other := oauth2.Config{
		ClientID: clientID, ClientSecret: wrongSecret, RedirectURL: redirectURL,
		Endpoint: oauth2.Endpoint{TokenURL: theirs.TokenURL, AuthStyle: oauth2.AuthStyleInHeader},
	}
	otherCtx := theirs.otherContext(ctx)
	failed := 0
	for _, err := range atOnce(size, func(i int) error { _, err := other.Exchange(otherCtx, fmt.Sprint("code-", i)); return err }) {
		if err != nil {
			failed++
		}
	}
	return []result{
		{what: "refused requests", value: float64(refused), bound: 2, detail: fmt.Sprintf("%d grants served", size)},
		{what: "refused requests, x/oauth2", value: float64(theirs.refused.Load()), bound: unbounded, detail: fmt.Sprintf("%d grants failed: it knows one secret", failed)},
	}, nil
}
