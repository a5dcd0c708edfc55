package secretsource

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/backoff"
	"github.com/smartcred/smartcred/internal/flight"
)

// A lookup is one look-up, shared by all who wait for it.
type lookup struct {
	call    *flight.Call[struct{}]
	started time.Time
	dropped bool   // guarded by Cache.mu: the result is not kept
	secret  Secret // what the source said, once the call is done
	err     error
	served  answer // what Lookup makes of it
}

// join returns the look-up of stage that is under way, or starts one. c.mu is held.
func (c *Cache) join(ctx context.Context, stage Stage, now time.Time) *lookup {
	s := &c.slots[stage]
	if s.flight == nil {
		f := &lookup{started: now}
		s.started, s.flight = now, f
		f.call = flight.Launch(ctx, c.opts.Timeout, func(ctx context.Context) (struct{}, error) {
			c.fly(ctx, stage, f)
			return struct{}{}, nil
		})
	}
	return s.flight
}

func (c *Cache) fly(ctx context.Context, stage Stage, f *lookup) {
	// Stands if the source ends the goroutine instead of returning.
	f.err = errors.New("secretsource: the source did not return")
	defer func() {
		if event := c.land(stage, f); event.Kind != "" {
			smartcred.Notify(ctx, c.opts.Observer, event)
		}
	}()
	f.secret, f.err = c.src.Lookup(ctx, stage)
	switch {
	case f.err == nil && f.secret.IsZero():
		f.err = errors.New("secretsource: the source returned neither a secret nor an error")
	case f.err != nil:
		f.secret = Secret{}
	}
	if isContextError(f.err) && !errors.Is(f.err, smartcred.ErrUnavailable) {
		f.err = &smartcred.UnavailableError{Err: f.err} // no answer came
	}
}

// land keeps what f found and returns the event to report, if there is one.
func (c *Cache) land(stage Stage, f *lookup) smartcred.Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.slots[stage]
	s.flight = nil
	if c.closed {
		f.secret, f.err = Secret{}, errClosed
		f.served = answer{err: errClosed}
		return smartcred.Event{}
	}
	now := time.Now()
	s.err = f.err
	var event smartcred.Event
	switch {
	case f.err == nil:
		event = c.landValue(stage, f, now)
	case errors.Is(f.err, smartcred.ErrUnavailable):
		event = c.landOutage(stage, f, now)
	default:
		event = c.landRefusal(stage, f, now)
	}
	if f.dropped {
		s.forget()
	} else {
		kept := f.served
		s.answer.Store(&kept)
	}
	return event
}

func (c *Cache) landValue(stage Stage, f *lookup, now time.Time) smartcred.Event {
	s := &c.slots[stage]
	if stage == Current && (s.lost || !s.last.IsZero() && !s.last.Equal(f.secret)) {
		c.slots[Previous].forget() // it is another one now, or may be
	}
	s.last, s.confirmed, s.lost = f.secret, now, false
	s.failures, s.told = 0, ""
	f.served = answer{secret: f.secret, until: now.Add(c.opts.TTL)}
	if end := f.secret.Expires; end.After(now) {
		f.served.until = earlier(f.served.until, end)
	}
	return smartcred.Event{}
}

func (c *Cache) landOutage(stage Stage, f *lookup, now time.Time) smartcred.Event {
	s := &c.slots[stage]
	s.failures++
	s.retryAt = now.Add(backoff.Pause(f.err, s.failures))
	f.served = answer{err: f.err, until: s.retryAt}
	if !c.usable(s, now) {
		s.lose()
		return smartcred.Event{}
	}
	end := s.confirmed.Add(c.opts.MaxStale)
	f.served = answer{secret: s.last, until: earlier(s.retryAt, end)}
	return s.tell(smartcred.Event{
		Kind:    smartcred.EventStaleInUse,
		Version: s.last.Version,
		Backend: c.opts.Name,
		Detail:  fmt.Sprintf("%s secret, confirmed %s, serves until %s at the latest", stage, rfc3339(s.confirmed), rfc3339(end)),
		Err:     f.err,
	})
}

// landRefusal: the source answered, and the answer is no.
func (c *Cache) landRefusal(stage Stage, f *lookup, now time.Time) smartcred.Event {
	s := &c.slots[stage]
	version, had := s.last.Version, !s.last.IsZero()
	s.lose()
	s.failures = 0
	ttl := min(errorTTL, c.opts.TTL)
	if stage == Previous && errors.Is(f.err, smartcred.ErrNotFound) {
		ttl = c.opts.TTL
	}
	f.served = answer{err: f.err, until: now.Add(ttl)}
	event := smartcred.Event{Version: version, Backend: c.opts.Name, Detail: fmt.Sprintf("%s secret", stage), Err: f.err}
	switch {
	case errors.Is(f.err, smartcred.ErrDenied):
		event.Kind = smartcred.EventBackendDenied
	case errors.Is(f.err, smartcred.ErrNotFound) && stage == Current && had:
		event.Kind = smartcred.EventSecretRevoked
	case s.told == smartcred.EventSecretRevoked && errors.Is(f.err, smartcred.ErrNotFound):
		return smartcred.Event{} // as before
	default:
		s.told = ""
		return smartcred.Event{}
	}
	return s.tell(event)
}

// tell returns e, or nothing if it was the last that was told.
func (s *slot) tell(e smartcred.Event) smartcred.Event {
	if s.told == e.Kind {
		return smartcred.Event{}
	}
	s.told = e.Kind
	return e
}

func isContextError(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
