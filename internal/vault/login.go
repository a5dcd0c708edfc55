package vault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
	"github.com/smartcred/smartcred/secretsource"
)

const (
	// loginTimeout bounds a login that all callers wait for.
	loginTimeout = 30 * time.Second
	// freshFor is how long a token got after a 403 counts as proof that the 403 is
	// about policies, not about the token, where Vault does not say so itself.
	freshFor = time.Minute
	// newTokenEvery is how often, at most, a 403 leads to a login; half of the
	// token's life where that is less.
	newTokenEvery = 2 * time.Second
	// lookEvery is how often, at most, it is looked whether a credential has been
	// replaced while its login may not be tried.
	lookEvery = 2 * time.Second
	// mostTokens is how many tokens one call is made with, where each ends before
	// Vault gets to it.
	mostTokens = 5
	// revokeTimeout bounds the revocation of a token at Close.
	revokeTimeout = time.Second
)

var errShortLife = errors.New("the tokens end before Vault answers a call with them: give them a longer life, see token_ttl of the role")

// A lease is a token with what is known of its life. It does not change.
type lease struct {
	token     secretsource.Secret
	ours      bool // got by a login here, so revoked at Close
	batch     bool // can be neither renewed nor revoked
	renewable bool
	due       time.Time // when to renew or replace it; zero: never
	expires   time.Time // zero: never, or unknown
	ttl       time.Duration
	after403  time.Time // when it was got because another was refused
}

// lives sets the life of a lease: due after two thirds of it, earlier by up to a
// tenth so that many processes do not come at once. It counts from asked, when
// Vault was asked for it, so that it never ends here after it ended there.
func (l *lease) lives(asked time.Time, ttl time.Duration, renewable bool) {
	if l.batch {
		ttl = max(ttl/2, ttl-time.Second) // Vault keeps the second in which it made one
	}
	l.ttl, l.renewable, l.expires = ttl, renewable, asked.Add(ttl)
	l.due = asked.Add(ttl*2/3 - time.Duration(rand.Int64N(int64(ttl/10)+1)))
}

func (l *lease) expired(now time.Time) bool { return !l.expires.IsZero() && !now.Before(l.expires) }

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

// A LoginError is an error of logging in, which is no error of the call's path.
type LoginError struct{ err error }

// Error implements error.
func (e *LoginError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *LoginError) Unwrap() error { return e.err }

// A login keeps one token valid for all Sessions that log in alike. Nobody waits
// for a renewal: it is made ahead, on one goroutine that the last Close ends.
type login struct {
	key      string
	refs     int // guarded by logins.mu
	client   func() *api.Client
	method   method
	observer smartcred.Observer
	backend  string

	flight flight.Flight[*lease]
	ctx    context.Context // of the goroutine; ended by Close
	stop   context.CancelFunc
	keeper sync.WaitGroup
	wake   chan struct{} // holds a token when the lease changed

	mu      sync.Mutex
	lease   *lease
	pace    pace
	looked  time.Time // when the credential was last looked up
	keeping bool
	closed  bool
}

// ask makes a call with the token, and once more with another if Vault refuses
// the first for its token. A 403 to a token that has ended meanwhile is no answer:
// the call is then made again, with mostTokens at most.
func (l *login) ask(ctx context.Context, header *http.Header, do request) (*api.Secret, error) {
	held, err := l.token(ctx)
	if err != nil {
		return nil, loginFailed(ctx, err)
	}
	for tokens := 1; ; tokens++ {
		secret, err := do(ctx, withToken(ctx, l.client(), string(held.token.Reveal()), header), header)
		status, says := answer(err)
		if status != http.StatusForbidden {
			return secret, err
		}
		switch ended := held.expired(time.Now()); {
		case tokens > 1 && !ended:
			return secret, err
		case tokens == mostTokens:
			return nil, &LoginError{&smartcred.UnavailableError{Err: errShortLife}}
		}
		invalid := says(saysInvalidToken)
		other, loginErr := l.replace(ctx, held, invalid)
		switch {
		case loginErr != nil && (invalid || ctx.Err() != nil):
			return nil, loginFailed(ctx, loginErr)
		case loginErr != nil || other == nil: // it is about policies: a failed login must not hide which
			return secret, err
		}
		held = other
	}
}

// loginFailed is what a call ends with whose login failed, or took too long.
func loginFailed(ctx context.Context, err error) *LoginError {
	if ended := flight.Ended(ctx); ended != nil {
		err = fmt.Errorf("log in to Vault: %w", ended)
	}
	return &LoginError{err}
}

// token returns the token to use now.
func (l *login) token(ctx context.Context) (*lease, error) {
	l.mu.Lock()
	held := l.lease
	l.mu.Unlock()
	if held != nil && !held.expired(time.Now()) && !l.replaced(ctx, held) {
		return held, nil
	}
	return l.flight.Do(ctx, loginTimeout, func(ctx context.Context) (*lease, error) { return l.renewLogin(ctx, held, false) })
}

// replaced reports whether a token file holds another token now.
func (l *login) replaced(ctx context.Context, held *lease) bool {
	m, ok := l.method.(*tokenMethod)
	if !ok || !m.replaced() {
		return false
	}
	now, err := m.credential(ctx)
	return err == nil && !now.proof.Equal(held.token)
}

// replace returns another token than held, which Vault refused; nil if that
// would not help.
func (l *login) replace(ctx context.Context, held *lease, invalid bool) (*lease, error) {
	l.mu.Lock()
	now := l.lease
	l.mu.Unlock()
	if now != nil && now != held && !now.expired(time.Now()) {
		return now, nil // somebody else was there first
	}
	ended := held.expired(time.Now()) // on the way, so that it proves nothing about policies
	every := newTokenEvery
	if held.ttl > 0 {
		every = min(every, held.ttl/2)
	}
	if age := time.Since(held.after403); !ended && (age < every || !invalid && age < freshFor) {
		return nil, nil
	}
	if m, ok := l.method.(*tokenMethod); ok {
		// There is no other token to get than the one that is kept there.
		if kept, err := m.credential(ctx); err == nil && kept.proof.Equal(held.token) {
			return nil, nil
		}
	}
	return l.flight.Do(ctx, loginTimeout, func(ctx context.Context) (*lease, error) {
		got, err := l.renewLogin(ctx, held, !ended)
		if err == nil && !invalid { // nobody needs it; left alive they would pile up in Vault
			l.revoke(ctx, held)
		}
		return got, err
	})
}

// renewLogin logs in, unless another flight did so since held was seen.
func (l *login) renewLogin(ctx context.Context, held *lease, refused bool) (*lease, error) {
	l.mu.Lock()
	now := time.Now()
	if l.lease != nil && l.lease != held && !l.lease.expired(now) {
		defer l.mu.Unlock()
		return l.lease, nil
	}
	waiting := l.pace.failures > 0 && now.Before(l.pace.next)
	if waiting && now.Sub(l.looked) < lookEvery {
		defer l.mu.Unlock()
		return nil, l.pace.err
	}
	l.looked = now
	l.mu.Unlock()

	c, err := l.method.credential(ctx)
	if err != nil {
		return nil, fmt.Errorf("log in to Vault: %w", noLogin(err))
	}
	l.mu.Lock()
	err = l.pace.wait(time.Now(), c)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	got, err := l.method.login(ctx, l.client(), c)
	if err != nil {
		return nil, l.failed(ctx, c, err)
	}
	if refused {
		got.after403 = time.Now()
	}
	l.mu.Lock()
	l.pace = pace{} // a renewal would not end it: that proves nothing about the credential
	l.mu.Unlock()
	return got, l.adopt(ctx, got)
}

// failed counts a login that Vault refused. What Vault did not answer counts for
// nothing.
func (l *login) failed(ctx context.Context, c credential, err error) error {
	var unwrap *UnwrapError
	if errors.As(err, &unwrap) {
		smartcred.Notify(ctx, l.observer, smartcred.Event{Kind: smartcred.EventUnwrapFailed, Backend: l.backend, Detail: unwrap.Problem, Err: err})
	}
	if errors.Is(err, smartcred.ErrUnavailable) || ctx.Err() != nil {
		return fmt.Errorf("log in to Vault: %w", err)
	}
	err = noLogin(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	next := time.Now().Add(pauses[min(l.pace.failures, len(pauses)-1)])
	err = fmt.Errorf("log in to Vault: %w; not tried again before %s with the same credential, so that Vault does not lock the role out", err, next.UTC().Format(time.RFC3339))
	l.pace.failed(time.Now(), c, err)
	return err
}

// noLogin is err as an answer to whoever wanted to ask for a secret or key: that
// what logs in is missing, or its role or mount, says nothing of those.
func noLogin(err error) error {
	if errors.Is(err, smartcred.ErrNotFound) {
		return fmt.Errorf("%w: %s", smartcred.ErrDenied, err)
	}
	return err
}

// adopt makes a lease the one in use.
func (l *login) adopt(ctx context.Context, got *lease) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.revoke(context.WithoutCancel(ctx), got)
		return smartcred.ErrClosed
	}
	defer l.mu.Unlock()
	l.lease = got
	if !got.due.IsZero() && !l.keeping {
		l.keeping = true
		l.keeper.Go(l.keep)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
	return nil
}

func (l *login) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pace, l.looked = pace{}, time.Time{}
}

// close ends the goroutine and what is in flight, and revokes a token that was
// got here, so that short-lived programs leave no leases behind.
func (l *login) close() {
	l.mu.Lock()
	l.closed = true
	held := l.lease
	l.lease, l.pace = nil, pace{}
	l.mu.Unlock()
	l.stop()
	l.flight.Close()
	l.keeper.Wait()
	if held != nil {
		l.revoke(context.WithoutCancel(l.ctx), held)
	}
	_ = l.method.Close()
	l.client().CloneConfig().HttpClient.CloseIdleConnections()
}

// revoke gives a token back. It expires by itself where that fails.
func (l *login) revoke(ctx context.Context, held *lease) {
	if !held.ours || held.batch || held.expired(time.Now()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	var header http.Header
	_ = withToken(ctx, l.client(), string(held.token.Reveal()), &header).Auth().Token().RevokeSelfWithContext(ctx, "")
}
