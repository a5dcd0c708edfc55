package vault

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/smartcred/smartcred"
)

const (
	keepRetryLeast = time.Second
	keepRetryMost  = 30 * time.Second
)

// keep renews the token ahead of its end, and replaces it where it can't be
// renewed any longer. It is the login's one goroutine.
//
// api.LifetimeWatcher is not used: its renewals take no context, so that a Vault
// which does not answer would keep its goroutine after Close.
func (l *login) keep() {
	retry := keepRetryLeast
	for {
		l.mu.Lock()
		held := l.lease
		l.mu.Unlock()
		due := time.Hour // nothing to do: another lease wakes
		if held != nil && !held.due.IsZero() {
			due = time.Until(held.due)
		}
		if !l.sleep(due) {
			return
		}
		l.mu.Lock()
		changed := l.lease != held
		l.mu.Unlock()
		if changed || held == nil || held.due.IsZero() || time.Now().Before(held.due) {
			retry = keepRetryLeast
			continue
		}
		if l.prolong(held) {
			retry = keepRetryLeast
			continue
		}
		if !l.sleep(retry) {
			return
		}
		retry = min(2*retry, keepRetryMost)
	}
}

// sleep waits for d, or less where the lease changed; false: the login is closed.
func (l *login) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.wake:
		return l.ctx.Err() == nil
	case <-l.ctx.Done():
		return false
	}
}

// prolong renews a lease or takes another in its place; false: try again.
func (l *login) prolong(held *lease) bool {
	ctx, cancel := context.WithTimeout(l.ctx, loginTimeout)
	defer cancel()
	if held.renewable && !held.expired(time.Now()) {
		longer, err := l.renewed(ctx, held)
		switch {
		case err == nil && (longer.ttl > held.ttl/2 || !l.canLogIn()):
			return l.adopt(ctx, longer) == nil
		case err != nil && errors.Is(err, smartcred.ErrUnavailable):
			return false
		}
		// Near the end of what it may live in all, or not renewable after all.
	}
	if !l.canLogIn() {
		return l.forgetLife(held)
	}
	_, err := l.flight.Do(ctx, loginTimeout, func(ctx context.Context) (*lease, error) { return l.renewLogin(ctx, held, false) })
	return err == nil
}

// canLogIn reports whether another token can be had than the one that is kept.
func (l *login) canLogIn() bool {
	_, given := l.method.(*tokenMethod)
	return !given
}

// forgetLife leaves a token that can't be prolonged to its end.
func (l *login) forgetLife(held *lease) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lease == held {
		rest := *held
		rest.due, rest.expires = time.Time{}, time.Time{}
		l.lease = &rest
	}
	return true
}

// renewed asks for a longer life of the same token.
func (l *login) renewed(ctx context.Context, held *lease) (*lease, error) {
	var header http.Header
	asked := time.Now()
	answered, err := withToken(ctx, l.client(), string(held.token.Reveal()), &header).Auth().Token().RenewSelfWithContext(ctx, 0)
	if err != nil {
		return nil, call{"update", "auth/token/renew-self"}.fail(ctx, err, header)
	}
	if answered == nil || answered.Auth == nil || answered.Auth.LeaseDuration <= 0 {
		return nil, &smartcred.UnavailableError{Err: errGarbage}
	}
	longer := &lease{token: held.token, ours: held.ours, after403: held.after403}
	longer.lives(asked, seconds(answered.Auth.LeaseDuration), answered.Auth.Renewable)
	return longer, nil
}
