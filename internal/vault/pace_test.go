package vault

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
)

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
