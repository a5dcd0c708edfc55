package vault

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

func TestTokensAreKept(t *testing.T) {
	for name, c := range map[string]struct {
		ttl       int
		renewable bool
		maxLife   time.Duration
		renewals  [2]int // least and most in an hour
		logins    [2]int
	}{
		"renewable":     {ttl: 600, renewable: true, renewals: [2]int{8, 11}, logins: [2]int{1, 1}},
		"not renewable": {ttl: 600, renewals: [2]int{0, 0}, logins: [2]int{8, 11}},
		"longest life":  {ttl: 600, renewable: true, maxLife: 20 * time.Minute, renewals: [2]int{5, 20}, logins: [2]int{3, 6}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.ttl, f.renewable, f.maxLife = c.ttl, c.renewable, c.maxLife
				s := f.session(&changing{value: "right"}, nil)
				defer s.Close()
				if failed := every(t, s, time.Hour); failed > 0 {
					t.Errorf("%d calls failed", failed)
				}
				f.mu.Lock()
				log := strings.Join(f.log, "\n") + "\n"
				f.mu.Unlock()
				within := func(what string, bounds [2]int) {
					if n := strings.Count(log, " "+what+"\n"); n < bounds[0] || n > bounds[1] {
						t.Errorf("%s: %d times in an hour, want %v", what, n, bounds)
					}
				}
				within("renew", c.renewals)
				within("login", c.logins)
				within("invalid token", [2]int{0, 0})
			})
		})
	}
}

func TestRevokedTokenLeadsToOneLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		if err := read(t, s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		f.take()
		f.set(func() {
			for token := range f.made {
				f.revoked[token] = true
			}
		})
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if err := read(t, s); err != nil {
					t.Error(err)
				}
			})
		}
		callers.Wait()
		if diff := cmp.Diff([]string{"10s login"}, f.take("login")); diff != "" {
			t.Errorf("logins (-want +got):\n%s", diff)
		}
	})
}

// Tokens that live for a second are refused more often than every 2 s.
func TestShortTokensAreReplacedAsOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.ttl, f.renewable = 1, false
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		for range 5 {
			if err := read(t, s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(550 * time.Millisecond)
			f.set(func() {
				for token := range f.made {
					f.revoked[token] = true
				}
			})
		}
	})
}

func TestCloseRevokesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{value: "right"}, nil)
		if err := read(t, s); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"0s revoke"}, f.take("revoke")); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := read(t, s); !errors.Is(err, smartcred.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// A Vault that answers nothing keeps Close for the second that revoking may take.
func TestCloseOfAStalledVault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.ttl = 10
		s := f.session(&changing{value: "right"}, nil)
		if err := read(t, s); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.stalled = true })
		time.Sleep(9 * time.Second) // a renewal is under way
		start := time.Now()
		_ = s.Close()
		if took := time.Since(start); took > revokeTimeout {
			t.Errorf("Close took %s", took)
		}
	})
}
