package smartauth

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/provider"
)

const (
	// Tokens are renewed this long before they expire, or this part of their
	// life before, whichever is shorter; less up to a tenth of it, so that a
	// fleet does not renew at once.
	renewAhead     = 60 * time.Second
	renewAheadPart = 0.2

	// A failed flight keeps others from starting for 1 s, doubling to 60 s.
	firstRetry = time.Second
	lastRetry  = 60 * time.Second

	// refusedRetry is how soon a renewal is tried again after a refusal, while
	// the old token lives.
	refusedRetry = 5 * time.Second

	// A 401 of the FHIR server forces a renewal at most this often.
	forcedRenewal = 30 * time.Second

	// The credential behind a token in use is checked this often: a revoked one
	// ends the token.
	checkEvery = time.Minute
)

// A TokenSource gives out a token that is renewed ahead of its expiry. It is
// safe for concurrent use; it has no goroutine but while a renewal is in flight.
type TokenSource struct {
	cached atomic.Pointer[cachedToken]
	fetch  func(context.Context) (*Token, error)
	client *Client
	flight flight.Flight[*Token]
	check  flight.Flight[struct{}]
	ended  *atomic.Bool // set once fetch can't get another token; nil: it always can

	mu      sync.Mutex
	closed  bool
	failure error
	pause   time.Duration // the back-off's last step
	retryAt time.Time
	forced  time.Time // when a 401 last forced a renewal
}

// cachedToken is immutable: a read is one atomic load and one look at the clock.
type cachedToken struct {
	token *Token
	until time.Time // a read after this takes the slow path
	renew time.Time // when it is to be renewed, or next tried to be
}

func (s *TokenSource) init(c *Client, fetch func(context.Context) (*Token, error)) {
	s.client, s.fetch = c, fetch
}

// Token returns a valid token. It comes from memory unless it is about to
// expire; then one flight renews it for all callers, who use the old one as
// long as it lives. Without a live token callers wait for the flight, each on
// its own ctx; the flight itself ends with none of them.
//
// After a failed flight its error is returned at once until Retry-After, or for
// 1 s doubling to 60 s, has passed. Errors are those of the Provider,
// [provider.TokenError], [ServerError], [smartcred.ErrClosed] and ctx's own.
func (s *TokenSource) Token(ctx context.Context) (*Token, error) {
	if c := s.cached.Load(); c != nil && time.Now().Before(c.until) {
		return c.token, nil
	}
	return s.slow(ctx)
}

func (s *TokenSource) slow(ctx context.Context) (*Token, error) {
	call, live, err := s.next(ctx)
	if err != nil || live != nil {
		return live, err
	}
	return call.Wait(ctx)
}

// next decides what a read does that memory can't serve: it returns a token
// that still lives, the last failure, or the flight to wait for.
func (s *TokenSource) next(ctx context.Context) (*flight.Call[*Token], *Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, smartcred.ErrClosed
	}
	now := time.Now()
	c := s.cached.Load()
	if c != nil && now.Before(c.until) {
		return nil, c.token, nil
	}
	if c != nil && now.Before(c.renew) {
		s.startCheck(ctx, c.token)
		s.serve(c.token, c.renew)
		return nil, c.token, nil
	}
	var live *Token
	if c != nil && now.Before(c.token.Expiry) {
		live = c.token
	}
	if s.failure != nil && now.Before(s.retryAt) {
		if live != nil {
			s.serve(live, s.retryAt)
			return nil, live, nil
		}
		return nil, nil, s.failure
	}
	call := s.flight.Start(ctx, s.client.cfg.Timeout, s.renew)
	if live != nil {
		s.serve(live, live.Expiry)
	}
	return call, live, nil
}

// serve lets reads take token from memory until it is to be renewed, or until
// its credential is to be checked.
func (s *TokenSource) serve(token *Token, renew time.Time) {
	if token.Expiry.Before(renew) {
		renew = token.Expiry
	}
	until := renew
	if token.credential.identity != "" {
		if check := time.Now().Add(checkEvery); check.Before(until) {
			until = check
		}
	}
	s.cached.Store(&cachedToken{token: token, until: until, renew: renew})
}

// startCheck has the provider asked, while token serves, whether the credential
// that it was got with may still be used.
func (s *TokenSource) startCheck(ctx context.Context, token *Token) {
	checker, ok := s.client.cfg.Provider.(provider.Checker)
	if !ok {
		return
	}
	s.check.Start(ctx, s.client.cfg.Timeout, func(ctx context.Context) (none struct{}, err error) {
		err = s.client.run(ctx, func(ctx context.Context) error { return checker.Check(ctx, token.credential.identity) })
		if !errors.Is(err, provider.ErrRevoked) {
			return none, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if c := s.cached.Load(); c != nil && c.token == token {
			s.cached.Store(nil)
			smartcred.Notify(ctx, s.client.cfg.Observer, smartcred.Event{
				Kind: smartcred.EventTokenDropped, ClientID: s.client.cfg.ClientID, Server: s.client.cfg.BaseURL,
				Method: string(token.credential.method), Version: token.credential.version, KeyID: token.credential.keyID, Err: err,
				Detail: "the credential that the token was got with may not be used any more",
			})
		}
		return none, err
	})
}

// renew is the flight.
func (s *TokenSource) renew(ctx context.Context) (*Token, error) {
	token, err := s.fetch(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, smartcred.ErrClosed
	}
	now := time.Now()
	var refused *provider.RefusedError
	switch {
	case errors.As(err, &refused) && !refused.Until.IsZero():
		// The provider has a back-off of its own, which another value at the
		// source ends: it is asked every time, or while a token lives, soon.
		s.failure, s.pause = nil, 0
		if c := s.cached.Load(); c != nil {
			s.serve(c.token, now.Add(refusedRetry))
		}
		return nil, err
	case err != nil:
		s.backOff(err, now)
		return nil, err
	case !token.Expiry.After(now):
		// It can't be cached. The next one is not asked for at once: a server
		// that gives out nothing else would be asked with every call.
		s.backOff(s.client.serverError("token request", nil, errExpiredOnArrival), now)
		return token, nil
	}
	s.failure, s.pause = nil, 0
	s.serve(token, renewAt(token, now))
	return token, nil
}

// backOff keeps flights from starting for a while. s.mu is held.
func (s *TokenSource) backOff(err error, now time.Time) {
	s.pause = min(max(2*s.pause, firstRetry), lastRetry)
	wait := retryAfterOf(err)
	if wait == 0 {
		wait = s.pause - rand.N(s.pause/5)
	}
	s.failure, s.retryAt = err, now.Add(wait)
	if c := s.cached.Load(); c != nil {
		s.serve(c.token, s.retryAt)
	}
}

// renewAt is when a token got now is renewed.
func renewAt(token *Token, now time.Time) time.Time {
	ahead := min(renewAhead, time.Duration(renewAheadPart*float64(token.Expiry.Sub(now))))
	if ahead <= 0 {
		return now
	}
	return token.Expiry.Add(-ahead + rand.N(ahead/10+1))
}

var errExpiredOnArrival = errors.New("the server gives out tokens that have expired already; it is asked again after a pause")

// Drop makes the source forget token, because a server does not take it any
// more. It does so only while token is the cached one and another can be had,
// and at most once in 30 s; it reports whether the next read gets another.
func (s *TokenSource) Drop(token *Token) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cached.Load()
	if c == nil || c.token != token {
		return true
	}
	if s.ended != nil && s.ended.Load() {
		return false
	}
	now := time.Now()
	if !s.forced.IsZero() && now.Sub(s.forced) < forcedRenewal {
		return false
	}
	s.forced = now
	s.cached.Store(nil)
	return true
}

func (s *TokenSource) close() {
	s.mu.Lock()
	s.closed = true
	s.cached.Store(nil)
	s.mu.Unlock()
	s.flight.Close()
	s.check.Close()
}
