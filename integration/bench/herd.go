package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// herd counts what 10,000 goroutines cost that want a token at the moment when
// the cached one has expired.
func herd() ([]result, error) { return herdOf(10_000) }

func herdOf(size int) ([]result, error) {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "smartcred-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	key, err := newKey(signer.ES384)
	if err != nil {
		return nil, err
	}
	keys, err := fileSigner(dir, key)
	if err != nil {
		return nil, err
	}
	counting := &countingSigner{Signer: keys}
	p, err := jwtProvider(counting)
	if err != nil {
		return nil, err
	}
	defer p.Close()

	ours := newHerdEndpoint()
	client, err := smartauth.NewClient(config(ours, p))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	theirs := newHerdEndpoint()
	other := otherSource(ctx, theirs)
	token, err := client.Token(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := other.Token(); err != nil {
		return nil, err
	}
	time.Sleep(time.Until(token.Expiry) + time.Millisecond)

	signed := counting.signatures.Load()
	took, err := ours.rush(size, func() error { _, err := client.Token(ctx); return err })
	if err != nil {
		return nil, err
	}
	otherTook, err := theirs.rush(size, func() error { _, err := other.Token(); return err })
	if err != nil {
		return nil, err
	}
	return []result{
		{what: "token requests", value: float64(ours.requests.Load() - 1), bound: 1, detail: took.String()},
		{what: "signatures", value: float64(counting.signatures.Load() - signed), bound: 1},
		{what: "token requests, x/oauth2", value: float64(theirs.requests.Load() - 1), bound: unbounded, detail: otherTook.String()},
	}, nil
}

// otherSource is x/oauth2's client_credentials source, which is a ReuseTokenSource.
func otherSource(ctx context.Context, transport http.RoundTripper) oauth2.TokenSource {
	cfg := clientcredentials.Config{
		ClientID: clientID, ClientSecret: "bench-secret", TokenURL: tokenURL,
		Scopes: []string{scope}, AuthStyle: oauth2.AuthStyleInHeader,
	}
	return cfg.TokenSource(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: transport}))
}

// A herdEndpoint gives a token that soon ends, then answers nobody until the
// whole herd is on its way.
type herdEndpoint struct {
	tokenEndpoint
	started chan struct{}
}

func newHerdEndpoint() *herdEndpoint {
	e := &herdEndpoint{started: make(chan struct{})}
	e.expiresIn = func(n int64) int {
		if n == 1 {
			return shortLife
		}
		return lifetime
	}
	e.wait = func(ctx context.Context, n int64) error {
		if n == 1 {
			return nil
		}
		select {
		case <-e.started:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return e
}

// rush calls get from size goroutines at once.
func (e *herdEndpoint) rush(size int, get func() error) (time.Duration, error) {
	errs := make(chan error, size)
	var started, done sync.WaitGroup
	started.Add(size)
	began := time.Now()
	for range size {
		done.Go(func() {
			started.Done()
			if err := get(); err != nil {
				errs <- err
			}
		})
	}
	started.Wait()
	close(e.started)
	done.Wait()
	took := time.Since(began).Round(time.Millisecond)
	select {
	case err := <-errs:
		return took, fmt.Errorf("%d of %d calls failed: %w", len(errs)+1, size, err)
	default:
		return took, nil
	}
}
