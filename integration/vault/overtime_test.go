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

// What takes half a minute, side by side. Each begins, goes on by itself, and is
// looked at when its time is over.
func TestOverTime(t *testing.T) {
	s := vaulttest.Shared(t)
	t.Setenv("VAULT_CACERT", s.CACert)
	var halfAMinute []func()
	for name, settings := range map[string]map[string]any{
		"renewable":        {"token_ttl": "3s"},
		"explicit max TTL": {"token_ttl": "2s", "token_explicit_max_ttl": "5s"},
		"may not renew":    {"token_ttl": "3s", "token_no_default_policy": true},
		"batch":            {"token_ttl": "3s", "token_type": "batch"},
	} {
		halfAMinute = append(halfAMinute, shortLife(t, newLoginBedAt(t, s), name, settings))
	}
	halfAMinute = append(halfAMinute, shortLifeInEnvironment(t, newLoginBedAt(t, s)))
	locked := lockOut(t, newLoginBedAt(t, s))
	time.Sleep(30 * time.Second)
	for _, finish := range halfAMinute {
		finish()
	}
	locked()
}

// pace leaves Vault room, so that its answers take less than a token's life: five
// times 100 callers are 170 calls a second.
const pace = 3 * time.Second

func startSigning(t *testing.T, keys signer.Signer) *load {
	t.Helper()
	key := firstKey(t, keys)
	return startLoad(t, pace, nil, func(ctx context.Context, _ string) error {
		_, err := keys.Sign(ctx, key, []byte("header.claims"))
		return err
	})
}

// shortLife has 100 callers sign, while tokens of 2 or 3 s end again and again.
func shortLife(t *testing.T, b *loginBed, name string, settings map[string]any) (finish func()) {
	r := newAppRole(t, b, settings)
	l := startSigning(t, b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard))
	return func() {
		l.finish(t)
		renewals := b.front.Count("", "auth/token/renew-self")
		t.Logf("%s: %d logins, %d renewals", name, r.logins(), renewals)
		switch name {
		case "renewable":
			// A machine that takes a second to renew finds the token ended, and logs in.
			if renewals < 5 || r.logins() > renewals {
				t.Errorf("%s: want a login, and renewals from then on", name)
			}
		case "batch":
			if renewals > 0 || r.logins() < 5 {
				t.Errorf("%s: want logins only: a batch token can't be renewed", name)
			}
		default:
			if r.logins() < 3 {
				t.Errorf("%s: want another token each time one can't be renewed further", name)
			}
		}
		// Renewed at two thirds of its life, 2 s at least: 30 times in 30 s, and no storm.
		if n := r.logins() + renewals; n > 60 {
			t.Errorf("%s: %d logins and renewals in 30 s", name, n)
		}
	}
}

// shortLifeInEnvironment is the same with VAULT_TOKEN, which there is no login for.
func shortLifeInEnvironment(t *testing.T, b *loginBed) (finish func()) {
	token, err := b.vault.Root(t).Auth().Token().CreateWithContext(t.Context(), tokenRequest(b.policy, "15s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("VAULT_ADDR", b.front.Address)
	t.Setenv("VAULT_TOKEN", token.Auth.ClientToken)
	l := startSigning(t, openSigner(t, b.uri(nil), nil))
	return func() {
		l.finish(t)
		if n := b.front.Count("", "auth/token/renew-self"); n < 1 {
			t.Errorf("VAULT_TOKEN: renewed %d times in 30 s, want once at least", n)
		}
	}
}

// lockOut has 50 callers log in with a wrong secret id for 40 s: Vault, which locks
// a role out after 5 failures, sees 3. A right secret id then works at once.
func lockOut(t *testing.T, b *loginBed) (finish func()) {
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
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	return func() {
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
}

// What the pace of logins keeps from happening: without it Vault locks the role out.
func TestLockOutWithoutPace(t *testing.T) {
	b := newLoginBed(t)
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
