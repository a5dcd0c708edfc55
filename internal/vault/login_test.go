package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

func read(t *testing.T, s *Session) error {
	_, err := s.Read(t.Context(), "secret/data/x", nil)
	return err
}

// every calls read once a second for d and returns how many calls failed.
func every(t *testing.T, s *Session, d time.Duration) (failed int) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		if read(t, s) != nil {
			failed++
		}
	}
	return failed
}

func TestFailedLoginsArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		secretID := &changing{value: "wrong"}
		s := f.session(secretID, nil)
		defer s.Close()
		err := read(t, s)
		if !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), "not tried again before") {
			t.Errorf("%v", err)
		}
		every(t, s, time.Hour)
		want := []string{"0s login refused", "5s login refused", "35s login refused", "2m35s login refused",
			"18m35s login refused", "34m35s login refused", "50m35s login refused"}
		if diff := cmp.Diff(want, f.take("login", "login refused")); diff != "" {
			t.Errorf("logins (-want +got):\n%s", diff)
		}
		secretID.set("right")
		time.Sleep(lookEvery)
		if err := read(t, s); err != nil {
			t.Errorf("another secret id does not end the wait: %v", err)
		}
	})
}

// A program that opens and closes in a loop has no more tries than one that stays.
func TestCloseForgetsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		secretID := &changing{value: "wrong"}
		for end := time.Now().Add(10 * time.Minute); time.Now().Before(end); time.Sleep(3 * time.Second) {
			s := f.session(secretID, nil)
			join(s.login.key, s.login)
			s.login.refs = 1
			if err := read(t, s); !errors.Is(err, smartcred.ErrDenied) {
				t.Fatalf("%v", err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		if diff := cmp.Diff([]string{"0s login refused", "6s login refused", "36s login refused", "2m36s login refused"}, f.take("login refused")); diff != "" {
			t.Errorf("logins (-want +got):\n%s", diff)
		}
	})
}

// Vault's own count: a failure adds one, 15 minutes without one clear it, 5 lock.
func TestPaceNeverLocksARole(t *testing.T) {
	var p pace
	credential := credential{proof: secretsource.New([]byte("wrong"), "")}
	now := time.Now()
	var last time.Time
	count := 0
	for range 100 {
		if now.Sub(last) >= 15*time.Minute {
			count = 0
		}
		count, last = count+1, now
		if count >= 5 {
			t.Fatalf("%d failures while Vault counts", count)
		}
		p.failed(now, credential, errors.New("refused"))
		if p.wait(p.next.Add(-1), credential) == nil || p.wait(p.next, credential) != nil {
			t.Fatal("wait is not until next")
		}
		now = p.next
	}
}

// A token that is renewed says nothing of the credential that would log in anew.
func TestRenewalsDoNotEndTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		if err := read(t, s); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.forbidden = true; clear(f.secretIDs) })
		f.take()
		every(t, s, 30*time.Minute)
		want := []string{"0s login refused", "5s login refused", "35s login refused", "2m35s login refused", "18m35s login refused"}
		if diff := cmp.Diff(want, f.take("login", "login refused")); diff != "" {
			t.Errorf("logins (-want +got):\n%s", diff)
		}
	})
}

func TestResetEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{value: "late"}, nil)
		defer s.Close()
		if err := read(t, s); !errors.Is(err, smartcred.ErrDenied) {
			t.Fatal(err)
		}
		f.set(func() { f.secretIDs["late"] = true })
		if err := read(t, s); !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("the wait did not hold: %v", err)
		}
		s.Reset()
		if err := read(t, s); err != nil {
			t.Error(err)
		}
	})
}

func TestOutagesOfLoginsDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		f.set(func() { f.status = 429 })
		err := read(t, s)
		var u *smartcred.UnavailableError
		if !errors.As(err, &u) || u.RetryAfter != 7*time.Second {
			t.Errorf("%v", err)
		}
		f.set(func() { f.status = 0 })
		if err := read(t, s); err != nil {
			t.Error(err)
		}
	})
}

// A role id that can't be read was not sent to Vault, which counts nothing then;
// and it counts by role.
func TestRoleIDEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		secretID, roleID := &changing{value: "late"}, &changing{}
		s := f.session(secretID, func(m *appRoleMethod) { m.roleID = roleID })
		defer s.Close()
		for _, id := range []string{"", "wrong"} {
			roleID.set(id)
			if err := read(t, s); !errors.Is(err, smartcred.ErrDenied) || strings.Contains(err.Error(), "not tried again") != (id != "") {
				t.Errorf("role id %q: %v", id, err)
			}
		}
		f.set(func() { f.secretIDs["late"] = true })
		roleID.set("right")
		time.Sleep(lookEvery)
		if err := read(t, s); err != nil {
			t.Errorf("another role id does not end the wait: %v", err)
		}
	})
}

func TestStalledLoginIsUnavailable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.stalled = true
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		start := time.Now()
		if err := read(t, s); !errors.Is(err, smartcred.ErrUnavailable) || time.Since(start) > defaultTimeout {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		time.Sleep(defaultTimeout / 2) // joins a login whose own time is up before the caller's
		if err := read(t, s); !errors.Is(err, smartcred.ErrUnavailable) || !strings.Contains(err.Error(), "no answer in time") {
			t.Errorf("%v", err)
		}
	})
}

// What stands in front of Vault says nothing of secrets, nor of tokens.
func TestAnswersOfOthersAreUnavailable(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"404 of an ingress":    {404, "default backend - 404"},
		"404 of a gateway":     {404, `{"message":"no Route matched with those values"}`},
		"403 of a firewall":    {403, "<html>Forbidden</html>"},
		"401 of a proxy":       {401, "<html>Log in</html>"},
		"400 of a proxy":       {400, "<html>Bad request</html>"},
		"200 of a portal":      {200, "<html>Welcome</html>"},
		"200 of another API":   {200, `{"status":"ok"}`},
		"200 with no data":     {200, "{}"},
		"200 without a secret": {200, `{"errors":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.session(&changing{value: "right"}, nil)
				defer s.Close()
				if err := read(t, s); err != nil {
					t.Fatal(err)
				}
				f.take("login")
				f.set(func() { f.status, f.body = c.status, c.body })
				err := read(t, s)
				if !errors.Is(err, smartcred.ErrUnavailable) || errors.Is(err, smartcred.ErrNotFound) || errors.Is(err, smartcred.ErrDenied) {
					t.Errorf("%v", err)
				}
				f.set(func() { f.status, f.body = 0, "" })
				if err := read(t, s); err != nil {
					t.Error(err)
				}
				if logins := f.take("login"); len(logins) > 0 {
					t.Errorf("logins %v", logins)
				}
			})
		})
	}
}

// What logs in is missing: that is no word about the secret that is asked for.
func TestMissingCredentialIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{}, nil)
		defer s.Close()
		if err := read(t, s); !errors.Is(err, smartcred.ErrDenied) || errors.Is(err, smartcred.ErrNotFound) {
			t.Errorf("%v", err)
		}
	})
}

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

func TestMissingRightDoesNotLogInAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.ttl = 0 // without end
		f.forbidden = true
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		err := read(t, s)
		if !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), `the capability "read" on path "secret/data/x"`) {
			t.Errorf("%v", err)
		}
		every(t, s, 10*time.Minute)
		f.mu.Lock()
		live := len(f.made) - len(f.revoked)
		f.mu.Unlock()
		if live != 1 {
			t.Errorf("%d tokens are alive in Vault", live)
		}
		if logins := f.take("login"); len(logins) < 2 || len(logins) > 12 {
			t.Errorf("logins in 10 minutes of denied calls: %v", logins)
		}
	})
}

// A secret id that is used up does not hide what is wrong with the policy.
func TestMissingRightIsNamedWhateverTheLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		if err := read(t, s); err != nil {
			t.Fatal(err)
		}
		f.set(func() { f.forbidden = true; clear(f.secretIDs) })
		if err := read(t, s); !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), `the capability "read" on path "secret/data/x"`) {
			t.Errorf("%v", err)
		}
		f.set(func() { f.forbidden = false })
		if err := read(t, s); err != nil {
			t.Errorf("the token is good: %v", err)
		}
	})
}

func TestWrappedSecretID(t *testing.T) {
	for name, c := range map[string]struct {
		creation string
		role     string
		used     bool
		wants    string
	}{
		"made for the role":   {creation: "auth/approle/role/smart/secret-id", role: "smart"},
		"made for any role":   {creation: "auth/approle/role/smart/secret-id"},
		"another role's":      {creation: "auth/approle/role/other/secret-id", role: "smart", wants: "not made by generating a secret id"},
		"another mount's":     {creation: "auth/approle2/role/smart/secret-id", wants: "not made by generating a secret id"},
		"wrapped by somebody": {creation: "sys/wrapping/wrap", wants: "not made by generating a secret id"},
		"a path beside it":    {creation: "auth/approle/role/x/y/secret-id", wants: "not made by generating a secret id"},
		"used":                {used: true, wants: "used already, or has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.maxLife = 90 * time.Second
				if !c.used {
					f.wrapped["wrapping"] = c.creation
				}
				s := f.session(&changing{value: "wrapping"}, func(m *appRoleMethod) { m.wrapped, m.role = true, c.role })
				defer s.Close()
				var events []smartcred.Event
				s.login.observer = smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { events = append(events, e) })
				err := read(t, s)
				if c.wants == "" {
					if err != nil {
						t.Fatal(err)
					}
					// The secret id is kept: a token that ends is replaced without unwrapping again.
					if failed := every(t, s, 10*time.Minute); failed > 0 {
						t.Errorf("%d calls failed", failed)
					}
					if n := len(f.take("unwrap")); n != 1 {
						t.Errorf("unwrapped %d times", n)
					}
					return
				}
				if !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), c.wants) {
					t.Errorf("%v", err)
				}
				if len(events) != 1 || events[0].Kind != smartcred.EventUnwrapFailed {
					t.Errorf("events %v", events)
				}
				if !c.used && len(f.take("unwrap")) > 0 {
					t.Error("it was unwrapped although it is somebody else's")
				}
			})
		})
	}
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

func TestWaitingCallerHonoursItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.stalled = true
		s := f.session(&changing{value: "right"}, nil)
		defer s.Close()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := s.Read(ctx, "secret/data/x", nil)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 10*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
	})
}

func TestNothingPrintsATokenOrSecretID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.secretIDs["sensitive-secret-id"] = true
		s := f.session(secretsource.Static([]byte("sensitive-secret-id")), nil)
		defer s.Close()
		if err := read(t, s); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // what the login's goroutine wrote is printed too
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			for _, v := range []any{s, *s.login.lease, s.login.pace, s.login.method} {
				if text := fmt.Sprintf(verb, v); strings.Contains(text, "token-") || strings.Contains(text, "sensitive") {
					t.Errorf("%T with %s: %s", v, verb, text)
				}
			}
		}
	})
}
