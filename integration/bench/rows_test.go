package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred/smartauth"
)

// What has no noise is a test here, beside its line in the table.

func TestHerd(t *testing.T) {
	// The race detector takes 8,128 goroutines.
	results, err := herdOf(5000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.missed() {
			t.Errorf("%s: %v, want at most %v", r.what, r.value, r.bound)
		}
	}
}

func TestRefusedAtAColdStart(t *testing.T) {
	for name, measure := range map[string]func(int) ([]result, error){"both secrets": coldStartOf, "codes and refresh tokens": grantsOf} {
		t.Run(name, func(t *testing.T) {
			results, err := measure(1000)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range results {
				if r.missed() {
					t.Errorf("%s: %v, want at most %v", r.what, r.value, r.bound)
				}
			}
		})
	}
}

func TestFlakyServer(t *testing.T) {
	for _, s := range simulations {
		t.Run(s.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if err := s.run(t.Context(), time.Hour); err != nil {
					t.Fatal(err)
				}
				// An hour is too short for a share of 0.1 %: what x/oauth2 fails at is plain.
				if most := s.Calls / 400; s.Failed > most && !s.Other {
					t.Errorf("%d of %d calls failed", s.Failed, s.Calls)
				}
				if s.Other && s.Failed < s.Calls/100 {
					t.Errorf("x/oauth2 failed %d times of %d: what the table says of it is no longer so", s.Failed, s.Calls)
				}
			})
		})
	}
}

func TestCachedReadAllocatesNothing(t *testing.T) {
	p, err := secretProvider()
	if err != nil {
		t.Fatal(err)
	}
	client, err := smartauth.NewClient(config(new(tokenEndpoint), p))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	if got := testing.AllocsPerRun(1000, func() {
		if _, err := client.Token(ctx); err != nil {
			t.Fatal(err)
		}
	}); got != 0 {
		t.Errorf("a cached read allocates %v times", got)
	}
}

func TestDeadlineIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := secretProvider()
		if err != nil {
			t.Fatal(err)
		}
		endpoint := slowRefresh()
		client, err := smartauth.NewClient(config(endpoint, p))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		if _, err := client.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(shortLife * time.Second)

		took, err := impatient(t.Context(), client)
		if err != nil || took != patience {
			t.Errorf("back after %s with %v, want %s", took, err, patience)
		}
		// The flight goes on without the caller that started it.
		began := time.Now()
		if _, err := client.Token(t.Context()); err != nil {
			t.Error(err)
		}
		if got, want := time.Since(began), refreshTime-patience; got != want {
			t.Errorf("the next caller has the token after %s, want %s", got, want)
		}
		if got := endpoint.requests.Load(); got != 2 {
			t.Errorf("%d token requests, want 2", got)
		}
	})
}

func TestOAuth2IsBackWithTheRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		other := otherSource(t.Context(), slowRefresh())
		if _, err := other.Token(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(shortLife * time.Second)
		began := time.Now()
		if _, err := other.Token(); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != refreshTime {
			t.Errorf("x/oauth2 is back after %s: what the table says of it is no longer so", got)
		}
	})
}

func TestIdleClients(t *testing.T) {
	p, err := secretProvider()
	if err != nil {
		t.Fatal(err)
	}
	bytes, goroutines, err := fleet(p, 2000, false)
	if err != nil {
		t.Fatal(err)
	}
	if bytes > 2048 || goroutines > 5 {
		t.Errorf("%.0f bytes a client, %d goroutines in all", bytes, goroutines)
	}
}

// The benchmarks are for profiling one thing at a time; the table compares.

func BenchmarkCachedToken(b *testing.B) {
	p, err := secretProvider()
	if err != nil {
		b.Fatal(err)
	}
	client, err := smartauth.NewClient(config(new(tokenEndpoint), p))
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.Token(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
}
