package vault

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/plugins/vaulttransit"
	"github.com/smartcred/smartcred/signer"
)

// What takes half a minute, side by side.
func TestOverTime(t *testing.T) {
	s := vaulttest.Shared(t)
	t.Setenv("VAULT_CACERT", s.CACert)
	for name, settings := range map[string]map[string]any{
		"renewable":        {"token_ttl": "3s"},
		"explicit max TTL": {"token_ttl": "2s", "token_explicit_max_ttl": "5s"},
		"may not renew":    {"token_ttl": "3s", "token_no_default_policy": true},
		"batch":            {"token_ttl": "3s", "token_type": "batch"},
	} {
		t.Run("short life/"+name, func(t *testing.T) {
			t.Parallel()
			shortLife(t, newLoginBedAt(t, s), name, settings)
		})
	}
	t.Run("token from the environment", func(t *testing.T) {
		b := newLoginBedAt(t, s)
		token, err := s.Root(t).Auth().Token().CreateWithContext(t.Context(), tokenRequest(b.policy, "3s"))
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("VAULT_ADDR", b.front.Address)
		t.Setenv("VAULT_TOKEN", token.Auth.ClientToken)
		keys := openSigner(t, b.uri(nil), nil)
		key := firstKey(t, keys)
		l := startLoad(t, pace, nil, func(ctx context.Context, _ string) error {
			_, err := keys.Sign(ctx, key, []byte("header.claims"))
			return err
		})
		time.Sleep(10 * time.Second)
		l.finish(t)
	})
	t.Run("lock-out", func(t *testing.T) {
		t.Parallel()
		lockOut(t, newLoginBedAt(t, s))
	})
	t.Run("lock-out without pace", func(t *testing.T) {
		t.Parallel()
		lockOutWithoutPace(t, newLoginBedAt(t, s))
	})
}

// pace leaves the machine room: what is tested is time, not throughput.
const pace = 500 * time.Millisecond

// shortLife has 100 callers sign for 30 s, in which tokens of 2 or 3 s end again
// and again.
func shortLife(t *testing.T, b *loginBed, name string, settings map[string]any) {
	r := newAppRole(t, b, settings)
	keys := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard)
	key := firstKey(t, keys)
	l := startLoad(t, pace, nil, func(ctx context.Context, _ string) error {
		_, err := keys.Sign(ctx, key, []byte("header.claims"))
		return err
	})
	time.Sleep(30 * time.Second)
	l.finish(t)
	renewals := b.front.Count("", "auth/token/renew-self")
	t.Logf("%d logins, %d renewals", r.logins(), renewals)
	switch name {
	case "renewable":
		// A machine that takes a second to renew finds the token ended, and logs in.
		if renewals < 5 || r.logins() > renewals {
			t.Error("want a login, and renewals from then on")
		}
	case "batch":
		if renewals > 0 || r.logins() < 5 {
			t.Error("want logins only: a batch token can't be renewed")
		}
	default:
		if r.logins() < 3 {
			t.Error("want another token each time one can't be renewed further")
		}
	}
	// Renewed at two thirds of its life: 30 s are 30 lives of 2 s at most, and no storm.
	if n := r.logins() + renewals; n > 60 {
		t.Errorf("%d logins and renewals in 30 s", n)
	}
}

// lockOut has 50 callers log in with a wrong secret id for 40 s: Vault, which locks
// a role out after 5 failures, sees 3. A right secret id then works at once.
func lockOut(t *testing.T, b *loginBed) {
	r := newAppRole(t, b, nil)
	path := tokenFile(t, "00000000-1111-2222-3333-444444444444")
	keys := b.open(t, r.options(map[string]string{"secret_id_file": path}), smartcred.Discard)
	end := time.Now().Add(40 * time.Second)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for time.Now().Before(end) {
				if _, err := keys.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) || !strings.Contains(err.Error(), "not tried again before") {
					t.Errorf("got %v, want ErrDenied that says when it is tried again", err)
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	if n := r.logins(); n < 2 || n > 3 {
		t.Errorf("%d logins in 40 s, want those at 0, 5 and 35 s", n)
	}
	writeFile(t, path, r.newSecretID(t))
	replaced := time.Now()
	eventually(t, func() error { _, err := keys.Keys(t.Context()); return err })
	if took := time.Since(replaced); took > 20*time.Second { // looked at every 2 s
		t.Errorf("the right secret id worked after %s", took)
	}
}

// lockOutWithoutPace shows what pace keeps from happening.
func lockOutWithoutPace(t *testing.T, b *loginBed) {
	r := newAppRole(t, b, nil)
	client := b.vault.Client(t, "")
	login := func(secretID string) error {
		_, err := client.Logical().WriteWithContext(t.Context(), "auth/"+r.mount+"/login", map[string]any{"role_id": r.id, "secret_id": secretID})
		return err
	}
	right := r.newSecretID(t)
	for range 5 {
		if err := login("wrong"); err == nil {
			t.Fatal("Vault took a wrong secret id")
		}
	}
	if err := login(right); err == nil {
		t.Error("Vault does not lock the role out after 5 failures: these tests show nothing then")
	}
}

// Reset ends the wait where the same secret id becomes right: the operator repaired
// Vault's side.
func TestReset(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	const secretID = "00000000-1111-2222-3333-555555555555"
	keys := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, secretID)}), smartcred.Discard)
	if _, err := keys.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
		t.Fatalf("got %v, want ErrDenied", err)
	}
	b.vault.Write(t, r.path+"/custom-secret-id", map[string]any{"secret_id": secretID})
	if _, err := keys.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("before Reset: %v, want ErrDenied", err)
	}
	if n := r.logins(); n != 1 {
		t.Errorf("%d logins before Reset, want 1", n)
	}
	keys.(*vaulttransit.Signer).Reset()
	works(t, keys)
}

// A login that is refused on the first use is told to all, and a KeySet over it
// says so too.
func TestDeniedLoginThroughKeySet(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	path := tokenFile(t, "00000000-1111-2222-3333-666666666666")
	seen := new(events)
	keys, err := signer.NewKeySet(b.open(t, r.options(map[string]string{"secret_id_file": path}), seen), &signer.KeySetOptions{Observer: seen, Refresh: refresh})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, keys)
	each(func() {
		if _, err := keys.Signing(t.Context(), nil); !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("got %v, want ErrDenied", err)
		}
	})
	if n := seen.count(smartcred.EventBackendDenied); n != 1 {
		t.Errorf("%d events %s, want 1", n, smartcred.EventBackendDenied)
	}
	writeFile(t, path, r.newSecretID(t))
	eventually(t, func() error { _, err := keys.Signing(t.Context(), nil); return err })
}
