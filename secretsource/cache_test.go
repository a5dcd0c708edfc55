package secretsource

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/internal/flight"
)

// backend is a Source whose answers change while a test runs, after a delay
// that its context can end.
type backend struct {
	mu     sync.Mutex
	values map[Stage]string
	err    error // for all stages
	delay  time.Duration
	asked  map[Stage][]time.Time
	closed int
}

func newBackend(current string) *backend {
	return &backend{values: map[Stage]string{Current: current}, asked: map[Stage][]time.Time{}}
}

func (b *backend) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *backend) looks(stage Stage) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked[stage])
}

func (b *backend) Lookup(ctx context.Context, stage Stage) (Secret, error) {
	b.mu.Lock()
	b.asked[stage] = append(b.asked[stage], time.Now())
	delay := b.delay
	b.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return Secret{}, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch value, ok := b.values[stage]; {
	case b.err != nil:
		return Secret{}, b.err
	case !ok:
		return Secret{}, smartcred.ErrNotFound
	default:
		return New([]byte(value), "version of "+value), nil
	}
}

func (b *backend) Close() error {
	b.set(func() { b.closed++ })
	return nil
}

// events collects what an observer is told.
type events struct {
	mu   sync.Mutex
	list []smartcred.Event
}

func (e *events) Observe(_ context.Context, event smartcred.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) kinds() []smartcred.EventKind {
	e.mu.Lock()
	defer e.mu.Unlock()
	var kinds []smartcred.EventKind
	for _, event := range e.list {
		kinds = append(kinds, event.Kind)
	}
	return kinds
}

// inBubble runs f with a cache under a fake clock. It closes the cache; the
// bubble then fails the test if a goroutine is left.
func inBubble(t *testing.T, opts CacheOptions, f func(t *testing.T, c *Cache, b *backend, e *events)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b, e := newBackend("one"), &events{}
		opts.Observer, opts.Name = e, "test:backend"
		c := NewCache(b, &opts)
		f(t, c, b, e)
		if err := c.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
}

func wantLooks(t *testing.T, b *backend, stage Stage, want int) {
	t.Helper()
	if got := b.looks(stage); got != want {
		t.Fatalf("%d look-ups of %s, want %d", got, stage, want)
	}
}

func wantKinds(t *testing.T, e *events, want ...smartcred.EventKind) {
	t.Helper()
	if got := e.kinds(); !slices.Equal(got, want) {
		t.Fatalf("events %v, want %v", got, want)
	}
}

func TestCacheTTL(t *testing.T) {
	for name, ttl := range map[string]time.Duration{"default": 0, "own": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, CacheOptions{TTL: ttl}, func(t *testing.T, c *Cache, b *backend, _ *events) {
				if ttl == 0 {
					ttl = time.Minute
				}
				b.set(func() { b.values[Previous] = "zero" })
				expect(t, c, Current, "one", nil)
				wantLooks(t, b, Previous, 0)
				b.set(func() { b.values[Current] = "two" })
				time.Sleep(ttl - 1)
				expect(t, c, Current, "one", nil)
				wantLooks(t, b, Current, 1)
				expect(t, c, Previous, "zero", nil) // half-way: cached on its own
				time.Sleep(time.Nanosecond)
				expect(t, c, Current, "two", nil)
				wantLooks(t, b, Current, 2)
			})
		})
	}
}

func TestCacheLooksUpAgainWhenTheSecretExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end := time.Now().Add(10 * time.Second)
		src := &fake{lookup: func(context.Context, Stage) (Secret, error) {
			s := New([]byte("a"), "")
			s.Expires = end
			return s, nil
		}}
		c := NewCache(src, nil)
		defer c.Close()
		for i, at := range []struct {
			sleep time.Duration
			looks int32
		}{{0, 1}, {10*time.Second - 1, 1}, {1, 2}, {time.Minute - 1, 2}, {1, 3}} {
			time.Sleep(at.sleep)
			expect(t, c, Current, "a", nil)
			if got := src.calls[Current].Load(); got != at.looks {
				t.Fatalf("step %d: %d look-ups, want %d", i, got, at.looks)
			}
		}
	})
}

func TestCacheHerd(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		b.delay = 300 * time.Millisecond
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				if s, err := c.Lookup(t.Context(), Current); err != nil || string(s.Reveal()) != "one" {
					t.Errorf("Lookup = %q, %v", s.Reveal(), err)
				}
			})
		}
		wg.Wait()
		wantLooks(t, b, Current, 1)
	})
}

func TestCacheFlightOutlivesItsFirstCaller(t *testing.T) {
	type key struct{}
	var seen any
	synctest.Test(t, func(t *testing.T) {
		src := &fake{lookup: func(ctx context.Context, _ Stage) (Secret, error) {
			seen = ctx.Value(key{})
			select {
			case <-time.After(300 * time.Millisecond):
				return New([]byte("one"), ""), nil
			case <-ctx.Done():
				return Secret{}, ctx.Err()
			}
		}}
		c := NewCache(src, nil)
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "kept"), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := c.Lookup(ctx, Current)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Millisecond {
			t.Fatalf("first caller: %v after %s", err, took)
		}
		if errors.Is(err, smartcred.ErrUnavailable) {
			t.Errorf("the caller's own deadline looks like an outage: %v", err)
		}
		expect(t, c, Current, "one", nil)
		if took := time.Since(start); took != 300*time.Millisecond {
			t.Errorf("second caller had it after %s", took)
		}
		if n := src.calls[Current].Load(); n != 1 || seen != "kept" {
			t.Errorf("%d look-ups, context value %v", n, seen)
		}
	})
}

func TestCacheTimeoutIsAnOutage(t *testing.T) {
	inBubble(t, CacheOptions{Timeout: 5 * time.Second}, func(t *testing.T, c *Cache, b *backend, e *events) {
		expect(t, c, Current, "one", nil)
		time.Sleep(time.Minute)
		b.set(func() { b.delay = time.Hour })
		start := time.Now()
		expect(t, c, Current, "one", nil)
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("the look-up took %s", took)
		}
		wantKinds(t, e, smartcred.EventStaleInUse)

		// From now on nobody waits long for a backend that hangs.
		time.Sleep(time.Second)
		start = time.Now()
		expect(t, c, Current, "one", nil)
		if took := time.Since(start); took != probeWait {
			t.Errorf("a caller in the outage waited %s, want %s", took, probeWait)
		}
		start = time.Now()
		expect(t, c, Current, "one", nil)
		if took := time.Since(start); took != 0 {
			t.Errorf("a later caller in the same look-up waited %s", took)
		}
		wantLooks(t, b, Current, 3)
	})
}

func TestCacheOutageAndRecovery(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
		expect(t, c, Current, "one", nil)
		confirmed := time.Now()
		down := &smartcred.UnavailableError{Err: errors.New("connection refused")}
		b.set(func() { b.err, b.asked = down, map[Stage][]time.Time{} })

		// One caller every 100 ms, for ten minutes.
		time.Sleep(time.Minute)
		for start := time.Now(); time.Since(start) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			expect(t, c, Current, "one", nil)
		}
		asked := b.asked[Current]
		want := []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60}
		for i, pause := range want {
			if got := asked[i+1].Sub(asked[i]); got != pause*time.Second {
				t.Errorf("pause %d is %s, want %ds", i, got, pause)
			}
		}
		wantKinds(t, e, smartcred.EventStaleInUse)
		event := e.list[0]
		if event.Version != "version of one" || event.Backend != "test:backend" || !errors.Is(event.Err, smartcred.ErrUnavailable) {
			t.Errorf("event %+v", event)
		}
		status := c.Status(Current)
		if !status.Stale || status.Version != "version of one" || !status.Confirmed.Equal(confirmed) || !errors.Is(status.Err, down) {
			t.Errorf("status %+v", status)
		}

		b.set(func() { b.err, b.values[Current] = nil, "two" })
		time.Sleep(time.Minute)
		expect(t, c, Current, "two", nil)
		if status := c.Status(Current); status.Stale || status.Err != nil || status.Version != "version of two" {
			t.Errorf("status after recovery %+v", status)
		}

		// The next outage is another one: told again, and its pauses begin anew.
		b.set(func() { b.err, b.asked = down, map[Stage][]time.Time{} })
		time.Sleep(time.Minute)
		expect(t, c, Current, "two", nil)
		time.Sleep(time.Second)
		expect(t, c, Current, "two", nil)
		wantLooks(t, b, Current, 2)
		wantKinds(t, e, smartcred.EventStaleInUse, smartcred.EventStaleInUse)
	})
}

func TestCacheOutageWithoutValue(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
		b.set(func() { b.err = smartcred.ErrUnavailable })
		for range 100 {
			expect(t, c, Current, "", smartcred.ErrUnavailable)
			expect(t, c, Previous, "", smartcred.ErrUnavailable)
		}
		wantLooks(t, b, Current, 1)
		wantLooks(t, b, Previous, 1)
		wantKinds(t, e)
		if status := c.Status(Current); status.Stale || status.Version != "" || status.Err == nil {
			t.Errorf("status %+v", status)
		}
		b.set(func() { b.err = nil })
		time.Sleep(time.Second)
		expect(t, c, Current, "one", nil)
	})
}

func TestCacheRetryAfter(t *testing.T) {
	tests := map[string]struct{ asked, pause time.Duration }{
		"obeyed":         {17 * time.Second, 17 * time.Second},
		"above the max":  {90 * time.Second, 90 * time.Second},
		"much too short": {time.Millisecond, time.Second},
		"much too long":  {24 * time.Hour, 5 * time.Minute},
		"none":           {0, time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
				b.set(func() { b.err = &smartcred.UnavailableError{RetryAfter: tt.asked} })
				expect(t, c, Current, "", smartcred.ErrUnavailable)
				time.Sleep(tt.pause - 1)
				expect(t, c, Current, "", smartcred.ErrUnavailable)
				wantLooks(t, b, Current, 1)
				time.Sleep(time.Nanosecond)
				expect(t, c, Current, "", smartcred.ErrUnavailable)
				wantLooks(t, b, Current, 2)
			})
		})
	}
}

func TestCacheStaleLimit(t *testing.T) {
	tests := map[string]struct{ set, limit time.Duration }{
		"default":    {0, 24 * time.Hour},
		"own":        {time.Hour, time.Hour},
		"too long":   {100 * time.Hour, 24 * time.Hour},
		"not at all": {-1, time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, CacheOptions{MaxStale: tt.set}, func(t *testing.T, c *Cache, b *backend, _ *events) {
				expect(t, c, Current, "one", nil)
				start := time.Now()
				b.set(func() { b.err = &smartcred.UnavailableError{RetryAfter: 5 * time.Minute} })
				time.Sleep(time.Minute - 1)
				expect(t, c, Current, "one", nil)
				for time.Since(start) < tt.limit-time.Minute {
					time.Sleep(time.Minute)
					expect(t, c, Current, "one", nil)
				}
				time.Sleep(tt.limit - time.Since(start))
				expect(t, c, Current, "", smartcred.ErrUnavailable)
				if status := c.Status(Current); status.Stale || status.Version != "" {
					t.Errorf("status %+v", status)
				}
				if !c.slots[Current].last.IsZero() {
					t.Error("the value is still in memory")
				}
				b.set(func() { b.err = nil })
				time.Sleep(5 * time.Minute)
				expect(t, c, Current, "one", nil)
			})
		})
	}
}

func TestCacheAnswersEndTheValue(t *testing.T) {
	broken := errors.New("broken")
	tests := map[string]struct {
		err    error
		events []smartcred.EventKind
	}{
		"not found": {smartcred.ErrNotFound, []smartcred.EventKind{smartcred.EventSecretRevoked}},
		"denied":    {smartcred.ErrDenied, []smartcred.EventKind{smartcred.EventBackendDenied}},
		"invalid":   {smartcred.ErrInvalidConfig, nil},
		"untyped":   {broken, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
				expect(t, c, Current, "one", nil)
				time.Sleep(time.Minute)
				b.set(func() { b.err = tt.err })
				for range 10 {
					expect(t, c, Current, "", tt.err)
				}
				wantLooks(t, b, Current, 2)
				time.Sleep(errorTTL)
				expect(t, c, Current, "", tt.err) // asked again, told once
				wantLooks(t, b, Current, 3)
				wantKinds(t, e, tt.events...)

				// An outage after it brings nothing back.
				b.set(func() { b.err = smartcred.ErrUnavailable })
				time.Sleep(errorTTL)
				expect(t, c, Current, "", smartcred.ErrUnavailable)
				if !c.slots[Current].last.IsZero() {
					t.Error("the value is still in memory")
				}
				b.set(func() { b.err = nil })
				time.Sleep(time.Second)
				expect(t, c, Current, "one", nil)
			})
		})
	}
}

func TestCacheDeniedIsToldAgainAfterItWorked(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
		for range 2 {
			b.set(func() { b.err = smartcred.ErrDenied })
			expect(t, c, Current, "", smartcred.ErrDenied)
			time.Sleep(errorTTL)
			b.set(func() { b.err = nil })
			expect(t, c, Current, "one", nil)
			time.Sleep(time.Minute)
		}
		wantKinds(t, e, smartcred.EventBackendDenied, smartcred.EventBackendDenied)
	})
}

func TestCacheDeniedIsToldAgainAfterAnotherAnswer(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
		for _, err := range []error{smartcred.ErrDenied, smartcred.ErrNotFound, smartcred.ErrDenied} {
			b.set(func() { b.err = err })
			expect(t, c, Previous, "", err)
			time.Sleep(time.Minute)
		}
		wantKinds(t, e, smartcred.EventBackendDenied, smartcred.EventBackendDenied)
	})
}

func TestCachePausesBeginAnewAfterAnAnswer(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		b.set(func() { b.err = smartcred.ErrUnavailable })
		for range 5 {
			expect(t, c, Current, "", smartcred.ErrUnavailable)
			time.Sleep(time.Minute)
		}
		b.set(func() { b.err = smartcred.ErrNotFound })
		expect(t, c, Current, "", smartcred.ErrNotFound)
		time.Sleep(errorTTL)
		b.set(func() { b.err = smartcred.ErrUnavailable })
		expect(t, c, Current, "", smartcred.ErrUnavailable)
		wantLooks(t, b, Current, 7)
		time.Sleep(time.Second)
		expect(t, c, Current, "", smartcred.ErrUnavailable)
		wantLooks(t, b, Current, 8)
	})
}

// A caller may find the end of its look-up and Close at the same moment.
func TestCacheLookupThatLandsAfterClose(t *testing.T) {
	for name, err := range map[string]error{"value": nil, "denied": smartcred.ErrDenied, "cancelled": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			e := &events{}
			c := NewCache(newBackend("one"), &CacheOptions{Observer: e})
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			f := &lookup{secret: New([]byte("one"), ""), err: err}
			event := c.land(Current, f)
			if !errors.Is(f.err, smartcred.ErrClosed) || !errors.Is(f.served.err, smartcred.ErrClosed) || !f.secret.IsZero() {
				t.Errorf("flight %v, served %v; want ErrClosed", f.err, f.served.err)
			}
			if event.Kind != "" || c.slots[Current].answer.Load() != nil {
				t.Error("it was kept or told")
			}
		})
	}
}

func TestCacheNoPreviousIsKeptForTTL(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		expect(t, c, Previous, "", smartcred.ErrNotFound)
		time.Sleep(time.Minute - 1)
		expect(t, c, Previous, "", smartcred.ErrNotFound)
		wantLooks(t, b, Previous, 1)
		time.Sleep(time.Nanosecond)
		expect(t, c, Previous, "", smartcred.ErrNotFound)
		wantLooks(t, b, Previous, 2)
	})
}

// That there was no previous secret says nothing once current was away and is
// another one.
func TestCachePreviousIsLookedUpAgainAfterCurrentWasLost(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *Cache, *backend){
		"not found": func(t *testing.T, c *Cache, b *backend) {
			b.set(func() { b.err = smartcred.ErrNotFound })
			time.Sleep(time.Minute)
			expect(t, c, Current, "", smartcred.ErrNotFound)
			b.set(func() { b.err = nil })
			expect(t, c, Previous, "", smartcred.ErrNotFound) // kept for a minute from now
			time.Sleep(2 * time.Second)
		},
		"denied": func(t *testing.T, c *Cache, b *backend) {
			b.set(func() { b.err = smartcred.ErrDenied })
			time.Sleep(time.Minute)
			expect(t, c, Current, "", smartcred.ErrDenied)
			b.set(func() { b.err = nil })
			expect(t, c, Previous, "", smartcred.ErrNotFound)
			time.Sleep(2 * time.Second)
		},
		"forgotten": func(_ *testing.T, c *Cache, _ *backend) { c.Forget(Current) },
		"another": func(t *testing.T, c *Cache, _ *backend) {
			time.Sleep(time.Minute)
			c.Forget(Previous)
			expect(t, c, Previous, "", smartcred.ErrNotFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
				expect(t, c, Current, "one", nil)
				expect(t, c, Previous, "", smartcred.ErrNotFound)
				lose(t, c, b)
				b.set(func() { b.values[Current], b.values[Previous] = "two", "one" })
				expect(t, c, Current, "two", nil)
				expect(t, c, Previous, "one", nil)
			})
		})
	}
}

// The end of an outage is no change: what serves on as previous serves on.
func TestCachePreviousOutlivesAnOutageOfCurrent(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		b.set(func() { b.values[Previous] = "zero" })
		expect(t, c, Current, "one", nil)
		expect(t, c, Previous, "zero", nil)
		b.set(func() { b.err = smartcred.ErrUnavailable })
		time.Sleep(time.Minute)
		expect(t, c, Current, "one", nil)
		expect(t, c, Previous, "zero", nil)
		b.set(func() { b.err = nil })
		time.Sleep(time.Second)
		expect(t, c, Current, "one", nil)
		b.set(func() { b.err = smartcred.ErrUnavailable })
		expect(t, c, Previous, "zero", nil)
	})
}

func TestCacheForget(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		b.set(func() { b.values[Previous] = "zero" })
		expect(t, c, Current, "one", nil)
		expect(t, c, Previous, "zero", nil)
		c.Forget(Previous)
		c.Forget(Stage(9))
		if c.Status(Stage(9)) != (CacheStatus{}) {
			t.Error("an unknown stage has a status")
		}
		if !c.slots[Previous].last.IsZero() || c.Status(Previous).Version != "" {
			t.Error("previous is still in memory")
		}
		expect(t, c, Current, "one", nil)
		expect(t, c, Previous, "zero", nil)
		wantLooks(t, b, Current, 1)
		wantLooks(t, b, Previous, 2)

		// A look-up under way gives its callers the value, and is not kept.
		c.Forget(Previous)
		b.set(func() { b.delay = time.Second })
		go func() {
			time.Sleep(time.Second / 2)
			c.Forget(Previous)
		}()
		expect(t, c, Previous, "zero", nil)
		if !c.slots[Previous].last.IsZero() {
			t.Error("a value was kept that was forgotten while it was looked up")
		}
		expect(t, c, Previous, "zero", nil)
		wantLooks(t, b, Previous, 4)

		// In an outage a forgotten value does not come back, nor is the source hammered.
		b.set(func() { b.err, b.delay = smartcred.ErrUnavailable, 0 })
		time.Sleep(time.Minute)
		expect(t, c, Previous, "zero", nil)
		c.Forget(Previous)
		expect(t, c, Previous, "", smartcred.ErrUnavailable)
		wantLooks(t, b, Previous, 5)
	})
}

func TestCacheClose(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
		expect(t, c, Current, "one", nil)
		b.set(func() { b.delay = time.Hour })
		var wg sync.WaitGroup
		start := time.Now()
		for range 10 {
			wg.Go(func() { expectClosed(t, c, Previous) })
		}
		time.Sleep(time.Second)
		if err := c.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		wg.Wait()
		if took := time.Since(start); took != time.Second {
			t.Errorf("callers waited %s", took)
		}
		for range 2 {
			if err := c.Close(); err != nil {
				t.Errorf("Close again = %v", err)
			}
		}
		expectClosed(t, c, Current)
		expectClosed(t, c, Previous)
		if _, err := c.Newer(t.Context(), Secret{}); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("Newer = %v, want ErrClosed", err)
		}
		if b.closed != 1 {
			t.Errorf("source closed %d times", b.closed)
		}
		if !c.slots[Current].last.IsZero() || c.slots[Current].answer.Load() != nil {
			t.Error("a value is still in memory")
		}
		wantKinds(t, e)
	})
}

func expectClosed(t *testing.T, c *Cache, stage Stage) {
	t.Helper()
	if s, err := c.Lookup(t.Context(), stage); !errors.Is(err, smartcred.ErrClosed) || !s.IsZero() {
		t.Errorf("Lookup after Close = %v, want ErrClosed", err)
	}
}

func TestCacheCloseDoesNotWaitForASourceThatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := holding("late")
		inner := src.lookup
		src.lookup = func(ctx context.Context, stage Stage) (Secret, error) {
			time.Sleep(time.Minute)
			return inner(context.WithoutCancel(ctx), stage)
		}
		src.closes = errors.New("broken pipe")
		c := NewCache(src, nil)
		for _, stage := range []Stage{Current, Previous} {
			go expectClosed(t, c, stage)
		}
		synctest.Wait()
		start := time.Now()
		for range 2 {
			if err := c.Close(); !errors.Is(err, src.closes) {
				t.Errorf("Close = %v, want the source's error", err)
			}
		}
		if took := time.Since(start); took != flight.CloseWait {
			t.Errorf("Close took %s, want %s", took, flight.CloseWait)
		}
		time.Sleep(time.Minute)
		if c.slots[Current].answer.Load() != nil || !c.slots[Current].last.IsZero() {
			t.Error("a value that came after Close is kept")
		}
	})
}

func TestCacheOfSourcesThatMisbehave(t *testing.T) {
	tests := map[string]struct {
		lookup func(context.Context, Stage) (Secret, error)
		say    string
		is     error
	}{
		"no secret, no error": {func(context.Context, Stage) (Secret, error) { return Secret{}, nil }, "neither", nil},
		"both": {func(context.Context, Stage) (Secret, error) {
			return New([]byte("x"), ""), smartcred.ErrDenied
		}, "denied", smartcred.ErrDenied},
		"ends the goroutine": {func(context.Context, Stage) (Secret, error) {
			runtime.Goexit()
			return Secret{}, nil
		}, "did not return", nil},
		"own deadline, bare": {func(context.Context, Stage) (Secret, error) {
			return Secret{}, context.DeadlineExceeded
		}, "unavailable", smartcred.ErrUnavailable},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := NewCache(&fake{lookup: tt.lookup}, &CacheOptions{Observer: smartcred.Discard})
				defer c.Close()
				s, err := c.Lookup(t.Context(), Current)
				if !s.IsZero() || err == nil || !strings.Contains(err.Error(), tt.say) || tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("Lookup = %v, %v", s, err)
				}
			})
		})
	}
}
