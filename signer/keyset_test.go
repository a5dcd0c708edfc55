package signer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

// A backend is a Signer whose keys and failures a test sets.
type backend struct {
	mu     sync.Mutex
	keys   []Key
	err    error            // of Keys
	fail   map[string]error // of Sign, by version
	wrong  map[string]bool  // versions whose signatures are by another key
	delay  time.Duration    // of Keys
	lists  atomic.Int32
	closed atomic.Int32
	t      testing.TB
}

func (b *backend) Keys(ctx context.Context) ([]Key, error) {
	b.lists.Add(1)
	if b.delay > 0 {
		select {
		case <-time.After(b.delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Key(nil), b.keys...), b.err
}

func (b *backend) Sign(_ context.Context, key Key, input []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail[key.Version]; err != nil {
		return nil, err
	}
	for _, k := range b.keys {
		if k.Version != key.Version {
			continue
		}
		name := key.Version
		if b.wrong[key.Version] {
			name = "p384_d0"
		}
		return signLocally(testKey(b.t, name), k, input)
	}
	return nil, fmt.Errorf("version %q: %w", key.Version, smartcred.ErrNotFound)
}

func (b *backend) Close() error { b.closed.Add(1); return nil }

func (b *backend) set(err error, keys ...Key) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.keys = err, keys
}

// backendKey is testdata's key of that name, which is its version too.
func backendKey(t testing.TB, name string, notBefore time.Time) Key {
	t.Helper()
	_, key := testSigner(t, name, &CryptoSignerOptions{Version: name, NotBefore: notBefore})
	return key
}

type setup struct {
	*KeySet
	b      *backend
	events *recorder
	t      testing.TB
}

func newSetup(t testing.TB, opts KeySetOptions, keys ...Key) *setup {
	t.Helper()
	b := &backend{keys: keys, t: t, fail: map[string]error{}, wrong: map[string]bool{}}
	events := &recorder{}
	opts.Observer = events
	k, err := NewKeySet(b, &opts)
	if err != nil {
		t.Fatal(err)
	}
	return &setup{KeySet: k, b: b, events: events, t: t}
}

func (s *setup) signs(want string, algorithms ...string) Key {
	s.t.Helper()
	key, err := s.Signing(s.t.Context(), algorithms)
	if err != nil {
		s.t.Fatalf("Signing: %v", err)
	}
	if key.Version != want {
		s.t.Errorf("%s signs, want %s", key.Version, want)
	}
	return key
}

func (s *setup) publishes(want ...string) {
	s.t.Helper()
	keys, err := s.Published(s.t.Context())
	if err != nil {
		s.t.Fatalf("Published: %v", err)
	}
	var got []string
	for _, k := range keys {
		got = append(got, k.Version)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		s.t.Errorf("published (-want +got):\n%s", diff)
	}
}

func (s *setup) tells(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.events.take()); diff != "" {
		s.t.Errorf("events (-want +got):\n%s", diff)
	}
}

func (s *setup) fails(want error) error {
	s.t.Helper()
	_, err := s.Signing(s.t.Context(), nil)
	if !errors.Is(err, want) {
		s.t.Errorf("Signing: %v, want %v", err, want)
	}
	return err
}

func (s *setup) lists(want int32) {
	s.t.Helper()
	if got := s.b.lists.Load(); got != want {
		s.t.Errorf("the backend was asked %d times, want %d", got, want)
	}
}

func TestKeySetChoosesByAlgorithm(t *testing.T) {
	s := newSetup(t, KeySetOptions{}, backendKey(t, "rsa3072", Unscheduled), backendKey(t, "p384", time.Time{}), backendKey(t, "rsa2048", time.Time{}), backendKey(t, "p384_x0", time.Time{}))
	s.signs("p384")
	s.signs("p384", "RS384", "ES384")
	s.signs("rsa2048", "RS384")
	s.signs("p384", "PS512")
	s.publishes("rsa3072", "p384", "rsa2048", "p384_x0")
	s.lists(1)
}

// A server that advertises only the algorithm of a staged key does not bring its
// turn forward.
func TestKeySetStagedKeyWaits(t *testing.T) {
	s := newSetup(t, KeySetOptions{}, backendKey(t, "rsa2048", Unscheduled), backendKey(t, "p384", time.Time{}))
	s.signs("p384", "RS384")
}

func TestKeySetSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		next := backendKey(t, "p384_x0", now.Add(time.Hour))
		s := newSetup(t, KeySetOptions{}, next, backendKey(t, "p384", time.Time{}))
		s.signs("p384")
		s.publishes("p384_x0", "p384")
		s.tells("key_published p384_x0", "key_published p384", "key_activated p384")
		time.Sleep(time.Hour - time.Nanosecond)
		s.signs("p384")
		s.tells()
		time.Sleep(time.Nanosecond)
		s.signs("p384_x0")
		s.publishes("p384_x0", "p384")
		s.tells("key_activated p384_x0")

		// A third key: the first leaves 24 h after the second took over.
		third := backendKey(t, "p384_y0", time.Now())
		s.b.set(nil, third, next, backendKey(t, "p384", time.Time{}))
		time.Sleep(time.Minute)
		s.signs("p384_y0")
		s.publishes("p384_y0", "p384_x0", "p384")
		s.tells("key_published p384_y0", "key_activated p384_y0")
		time.Sleep(time.Until(next.NotBefore.Add(24*time.Hour - time.Nanosecond)))
		s.publishes("p384_y0", "p384_x0", "p384")
		time.Sleep(time.Nanosecond)
		s.publishes("p384_y0", "p384_x0")
		s.tells("key_retired p384")
	})
}

func TestKeySetLateFirstSignatureKeepsPrevious(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		second := backendKey(t, "p384_x0", start)
		s := newSetup(t, KeySetOptions{}, second, backendKey(t, "p384", time.Time{}))
		time.Sleep(10 * time.Hour)
		if _, err := s.Sign(t.Context(), s.signs("p384_x0"), nil); err != nil {
			t.Fatal(err)
		}
		s.b.set(nil, backendKey(t, "p384_y0", start.Add(11*time.Hour)), second, backendKey(t, "p384", time.Time{}))
		time.Sleep(23 * time.Hour) // 33 h after the start, 23 h after the first signature
		s.publishes("p384_y0", "p384_x0", "p384")
		time.Sleep(time.Hour)
		s.publishes("p384_y0", "p384_x0")
	})
}

func TestKeySetPublishesFourAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384_d0", now.Add(2*time.Hour)), backendKey(t, "p384_y0", now.Add(time.Hour)),
			backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}), fresh(t, "5"), fresh(t, "6"))
		s.publishes("p384_d0", "p384_y0", "p384_x0", "p384")
	})
}

// fresh is a key that nobody has seen.
func fresh(t testing.TB, version string) Key {
	t.Helper()
	_, public, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	key, err := describe(public, "")
	if err != nil {
		t.Fatal(err)
	}
	key.Version = version
	return key
}

// A key that left the JWK Set never signs: a server that fetches the set would not
// know it, and the staged key that it does know is there.
func TestKeySetRetiredKeyNeverSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		retired := backendKey(t, "p384", time.Time{})
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384_d0", Unscheduled), backendKey(t, "p384_y0", now.Add(-time.Hour)),
			backendKey(t, "p384_x0", now.Add(-48*time.Hour)), retired)
		s.publishes("p384_d0", "p384_y0", "p384_x0")
		denied := fmt.Errorf("disabled: %w", smartcred.ErrDenied)
		for _, version := range []string{"p384_y0", "p384_x0", "p384_d0"} {
			s.b.fail[version] = denied
			if _, err := s.Sign(t.Context(), s.signs(version), nil); !errors.Is(err, smartcred.ErrDenied) {
				t.Errorf("%s: %v", version, err)
			}
		}
		s.signs("p384_y0")
		if _, err := s.Sign(t.Context(), retired, nil); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("a retired key signs: %v", err)
		}
	})
}

func TestKeySetRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := backendKey(t, "p384", time.Time{}), backendKey(t, "p384_x0", time.Time{})
		s := newSetup(t, KeySetOptions{}, second, first)
		key := s.signs("p384_x0")
		s.events.take()

		s.b.set(nil, first)
		time.Sleep(time.Minute)
		s.signs("p384")
		s.publishes("p384")
		s.tells("key_revoked p384_x0", "key_activated p384")
		if _, err := s.Sign(t.Context(), key, nil); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("a revoked key signs: %v", err)
		}

		s.b.set(fmt.Errorf("gone: %w", smartcred.ErrNotFound))
		time.Sleep(time.Minute)
		s.fails(smartcred.ErrNotFound)
		s.tells("key_revoked p384")
	})
}

// The key that was previous leaves when the current one takes its place.
func TestKeySetRotationByFilesRetires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := backendKey(t, "p384", time.Time{}), backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384_y0", time.Time{})
		s := newSetup(t, KeySetOptions{}, b, a)
		s.signs("p384_x0")
		s.events.take()
		s.b.set(nil, c, b)
		time.Sleep(time.Minute)
		s.signs("p384_y0")
		s.tells("key_retired p384", "key_published p384_y0", "key_activated p384_y0")
		s.b.set(nil, c)
		time.Sleep(time.Minute)
		s.signs("p384_y0")
		s.tells("key_revoked p384_x0")
	})
}

func TestKeySetRevokedByConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{Revoked: []string{"p384_x0"}}, backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}))
		key := s.signs("p384")
		s.tells("key_revoked p384_x0", "key_published p384", "key_activated p384")
		s.SetRevoked(t.Context(), []string{"p384_x0", key.ID})
		s.fails(smartcred.ErrNotFound)
		s.tells("key_revoked p384")
		if _, err := s.Sign(t.Context(), key, nil); !errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("a revoked key signs: %v", err)
		}
		s.SetRevoked(t.Context(), nil)
		s.signs("p384_x0")
		s.lists(1)
	})
}

func TestKeySetStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := &smartcred.UnavailableError{Err: errors.New("connection refused")}
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		s.signs("p384")
		s.events.take()
		read := time.Now()
		s.b.set(down)
		time.Sleep(time.Minute)
		for time.Since(read) < 24*time.Hour {
			key := s.signs("p384")
			if _, err := s.Sign(t.Context(), key, nil); !errors.Is(err, smartcred.ErrNotFound) {
				t.Fatal(err) // the backend has no keys, but it was asked
			}
			time.Sleep(7 * time.Minute)
		}
		if got := s.events.take(); len(got) == 0 || got[0] != "stale_in_use" || count(got, "stale_in_use") != 1 {
			t.Errorf("events %v", got)
		}
		time.Sleep(time.Until(read.Add(24 * time.Hour)))
		s.fails(smartcred.ErrUnavailable)
		s.b.set(nil, backendKey(t, "p384", time.Time{}))
		time.Sleep(time.Minute)
		s.signs("p384")
	})
}

func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// In an outage callers do not wait for a backend that hangs.
func TestKeySetStaleServesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		s.signs("p384")
		s.b.delay = time.Hour
		time.Sleep(time.Minute)
		start := time.Now()
		s.signs("p384")
		if waited := time.Since(start); waited != 30*time.Second {
			t.Errorf("the first caller waited %s, want the time-out", waited)
		}
		time.Sleep(2 * time.Second)
		start = time.Now()
		s.signs("p384")
		if waited := time.Since(start); waited != 0 {
			t.Errorf("a later caller waited %s", waited)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestKeySetBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{})
		s.b.set(&smartcred.UnavailableError{})
		var asked []time.Duration
		start := time.Now()
		for range 2400 {
			before := s.b.lists.Load()
			s.fails(smartcred.ErrUnavailable)
			if s.b.lists.Load() != before {
				asked = append(asked, time.Since(start))
			}
			time.Sleep(100 * time.Millisecond)
		}
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("asked at (-want +got):\n%s", diff)
		}

		s.b.set(&smartcred.UnavailableError{RetryAfter: 90 * time.Second})
		time.Sleep(time.Minute)
		s.fails(smartcred.ErrUnavailable)
		n := s.b.lists.Load()
		s.b.set(nil, backendKey(t, "p384", time.Time{}))
		time.Sleep(89 * time.Second)
		s.fails(smartcred.ErrUnavailable)
		s.lists(n)
		time.Sleep(time.Second)
		s.signs("p384")
	})
}

// Neither a backend that asks for next to no time nor one that asks for a day has
// its way.
func TestKeySetRetryAfterBounds(t *testing.T) {
	for asked, want := range map[time.Duration]time.Duration{1: time.Second, 24 * time.Hour: 5 * time.Minute} {
		t.Run(asked.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSetup(t, KeySetOptions{})
				s.b.set(&smartcred.UnavailableError{RetryAfter: asked})
				s.Handler(t.Context())
				time.Sleep(10*want - 1)
				synctest.Wait()
				s.lists(10)
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestKeySetDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		s.signs("p384")
		s.events.take()
		s.b.set(fmt.Errorf("403: %w", smartcred.ErrDenied))
		time.Sleep(time.Minute)
		for range 3 {
			s.fails(smartcred.ErrDenied)
			time.Sleep(time.Minute)
		}
		s.tells("backend_denied")
		s.b.set(nil, backendKey(t, "p384", time.Time{}))
		s.signs("p384")
		s.tells()
	})
}

func TestKeySetOneFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		s.b.delay = time.Second
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		wg.Go(func() { // starts the flight and gives up
			if _, err := s.Signing(ctx, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
		synctest.Wait()
		for range 1000 {
			wg.Go(func() { s.signs("p384") })
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		s.lists(1)
	})
}

func TestKeySetNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		old := s.signs("p384")
		newer := func(want bool) {
			t.Helper()
			if _, got, err := s.Newer(t.Context(), old); err != nil || got != want {
				t.Errorf("Newer = %t, %v; want %t", got, err, want)
			}
		}
		s.b.set(nil, backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}))
		newer(false) // it was read just now
		s.lists(1)
		time.Sleep(2 * time.Second)
		newer(true)
		newer(true)
		s.lists(2)
		s.signs("p384_x0")
	})
}

// An outage is not "there is nothing newer": the key comes with the error.
func TestKeySetNewerInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		old := s.signs("p384")
		newer := func(than Key, want bool) {
			t.Helper()
			key, got, err := s.Newer(t.Context(), than)
			if got != want || key.Version != "p384" || !errors.Is(err, smartcred.ErrUnavailable) {
				t.Errorf("Newer = %q, %t, %v; want p384, %t, ErrUnavailable", key.Version, got, err, want)
			}
		}
		s.b.set(&smartcred.UnavailableError{RetryAfter: 10 * time.Second})
		time.Sleep(2 * time.Second)
		newer(old, false)
		newer(old, false) // left alone
		s.lists(2)
		newer(backendKey(t, "p384_x0", time.Time{}), true)
		s.signs("p384")

		s.b.set(nil, backendKey(t, "p384", time.Time{}))
		time.Sleep(10 * time.Second)
		s.signs("p384")
		synctest.Wait()
		if _, got, err := s.Newer(t.Context(), old); got || err != nil {
			t.Errorf("after the outage: %t, %v", got, err)
		}
	})
}

func TestKeySetFirstSignatureIsVerified(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		s.b.wrong["p384_x0"] = true
		if _, err := s.Sign(t.Context(), s.signs("p384"), []byte("input")); err != nil {
			t.Fatal(err)
		}
		s.b.set(nil, backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}))
		time.Sleep(time.Minute)
		bad := s.signs("p384_x0")
		s.events.take()
		if _, err := s.Sign(t.Context(), bad, []byte("input")); !errors.Is(err, ErrBadSignature) {
			t.Errorf("error %v, want ErrBadSignature", err)
		}
		s.tells("key_left_out p384_x0")
		if _, err := s.Sign(t.Context(), s.signs("p384"), []byte("input")); err != nil {
			t.Error(err)
		}
		time.Sleep(59 * time.Minute)
		s.signs("p384")
	})
}

func TestKeySetKeyThatCannotSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}))
		key := s.signs("p384_x0")
		s.b.fail["p384_x0"] = fmt.Errorf("disabled: %w", smartcred.ErrDenied)
		time.Sleep(3 * time.Second)
		if _, err := s.Sign(t.Context(), key, nil); !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("error %v", err)
		}
		s.signs("p384")
		s.lists(2) // the list was read again
	})
}

func TestKeySetEmergency(t *testing.T) {
	s := newSetup(t, KeySetOptions{}, backendKey(t, "p384_x0", Unscheduled), backendKey(t, "p384", Unscheduled))
	s.signs("p384")
	s.signs("p384")
	s.tells("key_published p384_x0", "key_published p384", "key_activated p384")
}

func TestKeySetKeyID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{KeyID: "registered"}, backendKey(t, "p384", time.Time{}))
		key := s.signs("p384")
		if key.ID != "registered" {
			t.Errorf("kid %q", key.ID)
		}
		if _, err := s.Sign(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
		s.events.take()
		s.b.set(nil, backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}))
		time.Sleep(time.Minute)
		s.signs("p384")
		s.tells("key_left_out p384_x0")

		several := newSetup(t, KeySetOptions{KeyID: "registered"}, backendKey(t, "p384_x0", time.Time{}), backendKey(t, "p384", time.Time{}))
		several.fails(smartcred.ErrInvalidConfig)
		several.tells("key_left_out p384_x0", "key_left_out p384")
	})
}

func TestKeySetLeavesOut(t *testing.T) {
	good, other := backendKey(t, "p384", time.Time{}), backendKey(t, "p384_x0", time.Time{})
	kept := good
	kept.Custody = Custody{CustodyGenerated, "says so"}
	change := func(k Key, f func(*Key)) Key { f(&k); return k }
	for name, tt := range map[string]struct {
		opts KeySetOptions
		keys []Key // the first is left out
		err  error // of the first alone
	}{
		"algorithm that does not fit": {KeySetOptions{}, []Key{change(other, func(k *Key) { k.Algorithm = RS384 }), good}, smartcred.ErrUnsupportedAlgorithm},
		"algorithm not allowed":       {KeySetOptions{Algorithms: []Algorithm{ES384}}, []Key{backendKey(t, "rsa2048", time.Time{}), good}, smartcred.ErrUnsupportedAlgorithm},
		"kid not allowed":             {KeySetOptions{AllowedKIDs: []string{good.ID}}, []Key{other, good}, smartcred.ErrInvalidConfig},
		"exportable":                  {KeySetOptions{RequireNonExportable: true}, []Key{other, kept}, smartcred.ErrInvalidConfig},
		"revoked kid":                 {KeySetOptions{Revoked: []string{other.ID}}, []Key{other, good}, smartcred.ErrNotFound},
		"no public key":               {KeySetOptions{}, []Key{{Version: "x", Algorithm: ES384}, good}, smartcred.ErrUnsupportedAlgorithm},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, tt.opts, tt.keys...)
			s.signs("p384")
			s.publishes("p384")
			alone := newSetup(t, tt.opts, tt.keys[0])
			alone.fails(tt.err)
		})
	}
	for name, twin := range map[string]Key{
		"kid twice":     change(other, func(k *Key) { k.ID = good.ID }),
		"version twice": change(other, func(k *Key) { k.Version = good.Version }),
		"key twice":     change(good, func(k *Key) { k.Version = "twin" }),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetup(t, KeySetOptions{}, good, twin)
			s.publishes("p384")
			twin.NotBefore = Unscheduled
			staged := newSetup(t, KeySetOptions{}, twin, good)
			staged.publishes("p384")
			staged.signs("p384")
		})
	}
}

func TestNewKeySetRefuses(t *testing.T) {
	s, _ := testSigner(t, "p384", nil)
	for name, tt := range map[string]struct {
		signer Signer
		opts   KeySetOptions
	}{
		"no signer":              {nil, KeySetOptions{}},
		"unknown algorithm":      {s, KeySetOptions{Algorithms: []Algorithm{"HS256"}}},
		"publish_for too short":  {s, KeySetOptions{PublishFor: 31*time.Minute - 1}},
		"max-age over half days": {s, KeySetOptions{MaxAge: 12 * time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := NewKeySet(tt.signer, &tt.opts); !errors.Is(err, smartcred.ErrInvalidConfig) {
				t.Errorf("error %v", err)
			}
		})
	}
	if _, err := NewKeySet(s, &KeySetOptions{PublishFor: 31 * time.Minute}); err != nil {
		t.Error(err)
	}
}

func TestKeySetClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSetup(t, KeySetOptions{}, backendKey(t, "p384", time.Time{}))
		key := s.signs("p384")
		s.b.delay = time.Hour
		s.Handler(t.Context())
		time.Sleep(time.Minute)
		var wg sync.WaitGroup
		wg.Go(func() { s.fails(smartcred.ErrClosed) }) // waits for the list
		synctest.Wait()
		for range 2 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		if n := s.b.closed.Load(); n != 1 {
			t.Errorf("the signer was closed %d times", n)
		}
		s.fails(smartcred.ErrClosed)
		if _, err := s.Sign(t.Context(), key, nil); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("Sign: %v", err)
		}
		if _, _, err := s.Newer(t.Context(), key); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("Newer: %v", err)
		}
		s.Handler(t.Context()) // starts nothing
	})
}

// An occupied is a Signer whose calls go on for a while whatever their context
// says, and which notices being closed under one.
type occupied struct {
	Signer
	keys, sign time.Duration
	inside     atomic.Int32
	under      atomic.Bool
}

func (o *occupied) Keys(ctx context.Context) ([]Key, error) {
	defer o.call(o.keys)()
	return o.Signer.Keys(context.WithoutCancel(ctx))
}

func (o *occupied) Sign(ctx context.Context, key Key, input []byte) ([]byte, error) {
	defer o.call(o.sign)()
	return o.Signer.Sign(context.WithoutCancel(ctx), key, input)
}

func (o *occupied) call(takes time.Duration) (done func()) {
	o.inside.Add(1)
	time.Sleep(takes)
	return func() { o.inside.Add(-1) }
}

func (o *occupied) Close() error {
	o.under.Store(o.inside.Load() > 0)
	return errors.New("closed")
}

func TestKeySetCloseWaitsForCallsInTheSigner(t *testing.T) {
	for name, tt := range map[string]struct {
		keys, sign, want time.Duration
		under            bool
	}{
		"idle":          {0, 0, 0, false},
		"reads":         {3 * time.Second, 0, 3 * time.Second, false},
		"signs":         {0, 6 * time.Second, 4 * time.Second, false}, // it began 2 s ago
		"both":          {3 * time.Second, 6 * time.Second, 4 * time.Second, false},
		"reads, hangs":  {time.Hour, 0, 5 * time.Second, true},
		"signs, hangs":  {0, time.Hour, 5 * time.Second, true},
		"both are hung": {time.Hour, time.Hour, 5 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner, key := testSigner(t, "p384", nil)
				o := &occupied{Signer: inner}
				k, err := NewKeySet(o, &KeySetOptions{Observer: smartcred.Discard})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := k.Signing(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				o.keys, o.sign = tt.keys, tt.sign
				go func() {
					if _, err := k.Sign(t.Context(), key, nil); err != nil && !tt.under {
						t.Errorf("the signature under way: %v", err)
					}
				}()
				synctest.Wait()
				time.Sleep(2 * time.Second)
				go func() { _, _, _ = k.Newer(t.Context(), key) }()
				synctest.Wait()
				start := time.Now()
				for range 2 {
					if err := k.Close(); err == nil || err.Error() != "closed" {
						t.Errorf("Close: %v, want the signer's error", err)
					}
				}
				if got := time.Since(start); got != tt.want || o.under.Load() != tt.under {
					t.Errorf("Close took %s, want %s; under a call: %t", got, tt.want, o.under.Load())
				}
				if _, err := k.Sign(t.Context(), key, nil); !errors.Is(err, smartcred.ErrClosed) {
					t.Errorf("Sign: %v", err)
				}
				time.Sleep(time.Hour)
			})
		})
	}
}

// The owner of a key file rotates it as the package's documentation says; an
// assertion is made at each step.
func TestKeySetOverFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key.pem")
		putKey(t, path, "rsa2048.pem")
		events := &recorder{}
		k, err := NewKeySet(openKeyFile(t, path, nil), &KeySetOptions{Observer: events})
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		step := func(signs string, published ...string) {
			t.Helper()
			time.Sleep(time.Minute)
			key, err := k.Signing(t.Context(), []string{"RS384", "ES384"})
			if err != nil {
				t.Fatal(err)
			}
			token, _, err := Assertion{ClientID: "app", Audience: "https://as.example.com/token"}.Sign(t.Context(), k, key)
			if err != nil {
				t.Fatal(err)
			}
			if err := verifyJWT(key, token); err != nil {
				t.Error(err)
			}
			if !samePublic(key.Public, testKey(t, signs).Public()) {
				t.Errorf("%s signs, want %s", key.ID, signs)
			}
			if diff := cmp.Diff(published, listed(t, k)); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
		}
		rename := func(from, to string) {
			t.Helper()
			if err := os.Rename(path+from, path+to); err != nil {
				t.Fatal(err)
			}
		}
		step("rsa2048", "rsa2048")
		putKey(t, path+".next", "rsa3072.pem")
		step("rsa2048", "rsa3072 staged", "rsa2048")
		rename("", ".previous")
		rename(".next", "")
		step("rsa3072", "rsa3072", "rsa2048")
		if err := os.Remove(path + ".previous"); err != nil {
			t.Fatal(err)
		}
		step("rsa3072", "rsa3072")
		var kinds []smartcred.EventKind
		for _, e := range events.events {
			kinds = append(kinds, e.Kind)
		}
		want := []smartcred.EventKind{
			smartcred.EventKeyPublished, smartcred.EventKeyActivated, // the first key
			smartcred.EventKeyPublished, smartcred.EventKeyActivated, // the second, staged and moved on
			smartcred.EventKeyRevoked, // the first, removed
		}
		if diff := cmp.Diff(want, kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

func verifyJWT(key Key, token string) error {
	i := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil {
		return err
	}
	return Verify(key, []byte(token[:i]), sig)
}
