package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// A file with more lines than the token's can't be sent: nobody's network or proxy
// is at fault.
func TestTokenOfSeveralLinesIsInvalidConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(&changing{}, nil)
		defer s.Close()
		s.login.method = &tokenMethod{sources: &sources{}, source: secretsource.Static([]byte("{\n  \"token\": \"sensitive\"\n}")), path: "/run/vault/token"}
		err := read(t, s)
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), "/run/vault/token: holds more than a token") {
			t.Errorf("%v", err)
		}
		if err != nil && strings.Contains(err.Error(), "sensitive") {
			t.Errorf("the error shows the token: %v", err)
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
