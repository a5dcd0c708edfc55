package secretsource

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

// CacheOptions configure a [Cache]. The zero value and nil are the defaults.
type CacheOptions struct {
	// TTL is for how long an answer is used before the source is asked again;
	// 0: one minute. It bounds how long a revoked secret stays in use.
	TTL time.Duration
	// MaxStale is for how long after the source last confirmed a value it may
	// serve on while the source is unavailable; 0 and more than 24 h: 24 h.
	// Negative: not at all.
	MaxStale time.Duration
	// Timeout bounds one look-up, whatever the callers' contexts; 0: 30 s.
	Timeout time.Duration
	// Name names the source in events: its URI without secrets.
	Name string
	// Observer is told of events; nil: slog's default logger.
	Observer smartcred.Observer
}

const (
	defaultTTL     = time.Minute
	defaultTimeout = 30 * time.Second
	maxMaxStale    = 24 * time.Hour

	errorTTL   = time.Second     // an error that is an answer
	newerEvery = 2 * time.Second // look-ups that Newer causes
	probeWait  = time.Second     // for a look-up in an outage, before a stale value serves
)

// A Cache is a [Source] that keeps what another Source answers, and the only
// place in smartcred where secrets are kept. It is safe for concurrent use. Its
// Close ends what it has under way, closes the source if that is an
// [io.Closer], and forgets all values.
//
// Stages are looked up when asked for, and cached each on its own. Whatever the
// number of callers, one look-up of a stage runs at a time. It is detached from
// the caller that started it (context values kept, Timeout, ended by Close);
// every caller waits on its own context only.
//
// While the source is unavailable ([smartcred.ErrUnavailable], or no answer in
// time) the last value serves, with one [smartcred.EventStaleInUse], and the
// source is asked again after the time it names (1 s to 5 min), else after 1 s
// doubling to 60 s; a caller waits at most 1 s for these look-ups. Every other
// error is an answer: it ends the value's use, and is returned for 1 s, or for
// TTL where there is no previous secret. A value whose Expires comes is looked
// up again then.
type Cache struct {
	src  Source
	opts CacheOptions

	slots [Previous + 1]slot
	mu    sync.Mutex // guards what slots hold beside the answers

	done      chan struct{} // closed by Close
	closed    bool          // guarded by mu
	closeOnce sync.Once
	closeErr  error
}

var (
	_ Source    = (*Cache)(nil)
	_ io.Closer = (*Cache)(nil)
)

// NewCache returns a Cache of src, which it owns from then on: see [Cache.Close].
func NewCache(src Source, opts *CacheOptions) *Cache {
	c := &Cache{src: src, done: make(chan struct{})}
	if opts != nil {
		c.opts = *opts
	}
	if c.opts.TTL <= 0 {
		c.opts.TTL = defaultTTL
	}
	if c.opts.Timeout <= 0 {
		c.opts.Timeout = defaultTimeout
	}
	if c.opts.MaxStale == 0 || c.opts.MaxStale > maxMaxStale {
		c.opts.MaxStale = maxMaxStale
	}
	return c
}

// Lookup implements [Source]: from memory where it may, else by a look-up that
// all callers share.
func (c *Cache) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	if stage != Current && stage != Previous {
		return Secret{}, noStage("cache", stage)
	}
	s := &c.slots[stage]
	if a := s.answer.Load(); a != nil && time.Now().Before(a.until) {
		return a.secret, a.err
	}
	if err := ended(ctx, stage); err != nil {
		return Secret{}, err
	}

	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return Secret{}, errClosed
	}
	now := time.Now()
	if a := s.answer.Load(); a != nil && now.Before(a.until) {
		c.mu.Unlock()
		return a.secret, a.err
	}
	if s.failures > 0 && now.Before(s.retryAt) {
		err := s.err
		s.forget() // no answer before retryAt: it was forgotten, or is too old
		c.mu.Unlock()
		return Secret{}, err
	}
	f := c.join(ctx, stage, now)
	// In an outage that has been seen, the value need not wait for its end to be seen.
	var stale <-chan time.Time
	var held Secret
	if s.failures > 0 && c.usable(s, now) {
		held = s.last
		timer := time.NewTimer(f.started.Add(probeWait).Sub(now))
		defer timer.Stop()
		stale = timer.C
	}
	c.mu.Unlock()

	select {
	case <-f.call.Done():
		return f.served.secret, f.served.err
	case <-stale:
		return held, nil
	case <-ctx.Done():
		return Secret{}, ended(ctx, stage)
	case <-c.done:
		return Secret{}, errClosed
	}
}

// Newer returns the current secret after a server refused than. One in memory
// that differs is returned at once; else the source is asked, past the cache,
// once in 2 s for all callers: a call within 2 s of the last look-up gets its
// result. The result equals than where the source has nothing newer.
//
// Where the source can't be asked the error is [smartcred.ErrUnavailable], at
// once if it is to be left alone: what serves on meanwhile is Lookup's to say.
func (c *Cache) Newer(ctx context.Context, than Secret) (Secret, error) {
	s := &c.slots[Current]
	if err := ended(ctx, Current); err != nil {
		return Secret{}, err
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return Secret{}, errClosed
	}
	now := time.Now()
	if a := s.answer.Load(); a != nil && now.Before(a.until) && a.err == nil && !a.secret.Equal(than) {
		c.mu.Unlock()
		return a.secret, nil
	}
	recent := s.flight == nil && now.Before(s.started.Add(newerEvery)) && (s.err != nil || !s.last.IsZero())
	if recent || s.failures > 0 && now.Before(s.retryAt) {
		last, err := s.last, s.err
		c.mu.Unlock()
		if err != nil {
			return Secret{}, err
		}
		return last, nil
	}
	f := c.join(ctx, Current, now)
	c.mu.Unlock()

	select {
	case <-f.call.Done():
		return f.secret, f.err
	case <-ctx.Done():
		return Secret{}, ended(ctx, Current)
	case <-c.done:
		return Secret{}, errClosed
	}
}

// Forget drops what is kept of a stage. The next Lookup asks the source.
func (c *Cache) Forget(stage Stage) {
	if stage != Current && stage != Previous {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots[stage].forget()
}

// A CacheStatus says how it stands with a cached secret.
type CacheStatus struct {
	// Version is that of the value in memory; empty if there is none.
	Version string
	// Confirmed is when the source last answered with it; zero if there is none.
	Confirmed time.Time
	// Stale: the value serves although the source is unavailable.
	Stale bool
	// Err is why the last look-up gave no value; nil if it gave one, or if there was none.
	Err error
}

// Status returns how it stands with a stage, without asking the source.
func (c *Cache) Status(stage Stage) CacheStatus {
	if stage != Current && stage != Previous {
		return CacheStatus{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.slots[stage]
	status := CacheStatus{Err: s.err}
	if now := time.Now(); c.usable(s, now) || s.err == nil && !s.last.IsZero() {
		status.Version, status.Confirmed, status.Stale = s.last.Version, s.confirmed, s.failures > 0
	}
	return status
}

// Close implements [io.Closer]: look-ups under way end, callers that wait and
// later calls get [smartcred.ErrClosed], values leave memory, and the source is
// closed if it is an io.Closer. A second call returns what the first did.
func (c *Cache) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		close(c.done)
		var flights []<-chan struct{}
		for i := range c.slots {
			if f := c.slots[i].flight; f != nil {
				f.call.Cancel()
				flights = append(flights, f.call.Done())
			}
			c.slots[i].forget()
		}
		c.mu.Unlock()
		// A source is closed under its own look-ups only if they ignore their
		// context.
		flight.Land(flights...)
		if err := closeSource(c.src); err != nil {
			c.closeErr = fmt.Errorf("secretsource: close: %w", err)
		}
	})
	return c.closeErr
}

// An answer is what Lookup returns until a time. It never changes.
type answer struct {
	secret Secret
	err    error
	until  time.Time
}

// A slot is what the cache knows of one stage.
type slot struct {
	answer atomic.Pointer[answer]

	flight    *lookup
	started   time.Time // of the last look-up
	last      Secret    // the last value; none after an error that is an answer
	confirmed time.Time // when the source answered with it
	lost      bool      // there is no value because the last one, or the look for it, came to nothing
	err       error     // of the last look-up
	failures  int       // look-ups in a row that found the source unavailable
	retryAt   time.Time // where failures > 0: not asked again before
	told      smartcred.EventKind
}

func (s *slot) forget() {
	s.answer.Store(nil)
	s.lose()
	if s.flight != nil {
		s.flight.dropped = true
	}
}

func (s *slot) lose() { s.last, s.confirmed, s.lost = Secret{}, time.Time{}, true }

// usable reports whether a value may serve although the source is unavailable.
func (c *Cache) usable(s *slot, now time.Time) bool {
	return !s.last.IsZero() && now.Before(s.confirmed.Add(c.opts.MaxStale))
}
