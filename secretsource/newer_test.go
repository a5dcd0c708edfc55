package secretsource

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
)

func expectNewer(t *testing.T, c *Cache, than Secret, want string, wantErr error) Secret {
	t.Helper()
	s, err := c.Newer(t.Context(), than)
	if !errors.Is(err, wantErr) || string(s.Reveal()) != want {
		t.Fatalf("Newer = %q, %v; want %q, %v", s.Reveal(), err, want, wantErr)
	}
	return s
}

func TestNewer(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		b.set(func() { b.values[Previous] = "zero" })
		one := expect(t, c, Current, "one", nil)
		expect(t, c, Previous, "zero", nil)
		time.Sleep(10 * time.Second)

		// Nothing newer: asked once, past the TTL.
		expectNewer(t, c, one, "one", nil)
		wantLooks(t, b, Current, 2)

		b.set(func() { b.values = map[Stage]string{Current: "two", Previous: "one"} })
		// Within 2 s of that look-up its result is given.
		time.Sleep(newerEvery - 1)
		expectNewer(t, c, one, "one", nil)
		wantLooks(t, b, Current, 2)
		time.Sleep(time.Nanosecond)
		two := expectNewer(t, c, one, "two", nil)
		wantLooks(t, b, Current, 3)

		// Everybody has it now, without another look-up, and previous moved along.
		expect(t, c, Current, "two", nil)
		expectNewer(t, c, one, "two", nil)
		expect(t, c, Previous, "one", nil)
		wantLooks(t, b, Current, 3)
		wantLooks(t, b, Previous, 2)

		// A look-up of Lookup's counts as well.
		time.Sleep(time.Minute)
		expect(t, c, Current, "two", nil)
		expectNewer(t, c, two, "two", nil)
		wantLooks(t, b, Current, 4)
	})
}

func TestNewerBeginsCold(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		expectNewer(t, c, New([]byte("from elsewhere"), ""), "one", nil)
		expect(t, c, Current, "one", nil)
		wantLooks(t, b, Current, 1)
		c.Forget(Current)
		expectNewer(t, c, Secret{}, "one", nil)
		wantLooks(t, b, Current, 2)
	})
}

func TestNewerIsSharedAndLimited(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		one := expect(t, c, Current, "one", nil)
		time.Sleep(newerEvery)
		b.set(func() { b.delay = 300 * time.Millisecond })
		var wg sync.WaitGroup
		for range 10_000 {
			wg.Go(func() {
				if _, err := c.Newer(t.Context(), one); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		wantLooks(t, b, Current, 2)

		// A thousand callers a second for a minute: one look-up in 2 s.
		for range 60_000 {
			expectNewer(t, c, one, "one", nil)
			time.Sleep(time.Millisecond)
		}
		asked := b.asked[Current]
		for i := 2; i < len(asked); i++ {
			if pause := asked[i].Sub(asked[i-1]); pause < newerEvery {
				t.Fatalf("look-ups %s apart", pause)
			}
		}
		if n := len(asked); n < 20 {
			t.Errorf("%d look-ups in a minute: Newer stopped asking", n)
		}
	})
}

func TestNewerCallersWaitOnTheirOwnContext(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		one := expect(t, c, Current, "one", nil)
		time.Sleep(newerEvery)
		b.set(func() { b.delay, b.values[Current] = time.Second, "two" })
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		for range 2 { // waiting, then with an ended context
			if _, err := c.Newer(ctx, one); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Newer = %v, want context.DeadlineExceeded", err)
			}
		}
		expectNewer(t, c, one, "two", nil)
		wantLooks(t, b, Current, 2)
	})
}

func TestNewerInAnOutage(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, e *events) {
		one := expect(t, c, Current, "one", nil)
		time.Sleep(newerEvery)
		b.set(func() { b.err = &smartcred.UnavailableError{RetryAfter: 30 * time.Second} })
		for range 290 {
			expectNewer(t, c, one, "", smartcred.ErrUnavailable)
			expect(t, c, Current, "one", nil)
			expectNewer(t, c, Secret{}, "one", nil)
			time.Sleep(100 * time.Millisecond)
		}
		wantLooks(t, b, Current, 2)
		wantKinds(t, e, smartcred.EventStaleInUse)
		time.Sleep(time.Second)
		b.set(func() { b.err, b.values[Current] = nil, "two" })
		expectNewer(t, c, one, "two", nil)
	})
}

func TestNewerFindsTheSecretRevoked(t *testing.T) {
	for _, want := range []error{smartcred.ErrNotFound, smartcred.ErrDenied} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
				one := expect(t, c, Current, "one", nil)
				time.Sleep(newerEvery)
				b.set(func() { b.err = want })
				expectNewer(t, c, one, "", want)
				expect(t, c, Current, "", want)
				time.Sleep(newerEvery - 1)
				expectNewer(t, c, one, "", want)
				wantLooks(t, b, Current, 2)
			})
		})
	}
}

// A look-up of previous that began before the new current was seen may have
// read the stages as they were.
func TestNewerDropsPreviousUnderWay(t *testing.T) {
	inBubble(t, CacheOptions{}, func(t *testing.T, c *Cache, b *backend, _ *events) {
		b.set(func() { b.values[Previous] = "zero" })
		one := expect(t, c, Current, "one", nil)
		time.Sleep(newerEvery)
		b.set(func() { b.delay = time.Second })
		var wg sync.WaitGroup
		wg.Go(func() {
			if s, err := c.Lookup(t.Context(), Previous); err != nil || string(s.Reveal()) != "zero" {
				t.Errorf("Lookup(previous) = %q, %v", s.Reveal(), err)
			}
		})
		time.Sleep(time.Second / 2)
		b.set(func() { b.delay, b.values[Current] = 0, "two" })
		expectNewer(t, c, one, "two", nil)
		wg.Wait()
		b.set(func() { b.values[Previous] = "one" })
		expect(t, c, Previous, "one", nil)
		wantLooks(t, b, Previous, 2)
	})
}
