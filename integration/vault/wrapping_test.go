package vault

import (
	"errors"
	"testing"

	"github.com/smartcred/smartcred"
)

// wrapped writes to a path and returns the wrapping token of the answer.
func (b *loginBed) wrapped(t *testing.T, path string, data map[string]any) string {
	t.Helper()
	client := b.vault.Root(t)
	client.SetWrappingLookupFunc(func(string, string) string { return "5m" })
	answer, err := client.Logical().WriteWithContext(t.Context(), path, data)
	if err != nil {
		t.Fatal(err)
	}
	return answer.WrapInfo.Token
}

// wrap returns a new secret id of the role, wrapped.
func (r *appRole) wrap(t *testing.T) string {
	t.Helper()
	return r.bed.wrapped(t, r.path+"/secret-id", nil)
}

// A wrapping token that was used, has run out, or wraps something else is a
// security event: somebody may have the secret id.
func TestWrappedSecretIDIsRefused(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	other := newAppRole(t, b, nil)
	b.vault.Write(t, "auth/"+r.mount+"/role/another", map[string]any{"token_policies": b.policy})
	used := r.wrap(t)
	if _, err := b.vault.Client(t, used).Logical().Unwrap(""); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, token, role string
	}{
		{"unwrapped by somebody else", used, ""},
		{"no wrapping token", "hvs.CAESIJ-nothing", ""},
		{"wraps something else", b.wrapped(t, "sys/wrapping/wrap", map[string]any{"secret_id": r.newSecretID(t)}), ""},
		{"made by another mount", other.wrap(t), ""},
		{"made for another role", b.wrapped(t, "auth/"+r.mount+"/role/another/secret-id", nil), r.name},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := new(events)
			options := r.options(map[string]string{"wrapped_secret_id_file": tokenFile(t, c.token)})
			if c.role != "" {
				options["role"] = c.role
			}
			s := b.open(t, options, seen)
			for range 2 {
				if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
					t.Errorf("got %v, want ErrDenied", err)
				}
			}
			if n := seen.count(smartcred.EventUnwrapFailed); n != 1 {
				t.Errorf("%d events %s, want 1", n, smartcred.EventUnwrapFailed)
			}
			if n := r.logins(); n > 0 {
				t.Errorf("%d logins with what was in it", n)
			}
		})
	}
}

// The secret id serves for the process's life: later logins need no other wrapping
// token, even where its file is gone. A new one is taken.
func TestUnwrappedSecretIDServesOn(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	path := tokenFile(t, r.wrap(t))
	s := b.open(t, r.options(map[string]string{"wrapped_secret_id_file": path}), smartcred.Discard)
	works(t, s)
	key := firstKey(t, s)
	relogin := func() {
		t.Helper()
		b.revoke(t, b.sentToken(t))
		eventually(t, func() error { return signOnce(t, s, key) }) // logins after a 403 are 2 s apart
	}
	relogin()
	remove(t, path)
	relogin()
	writeFile(t, path, r.wrap(t))
	relogin()
	if n := r.logins(); n != 4 {
		t.Errorf("%d logins, want 4", n)
	}
	if n := b.front.Count("", "sys/wrapping/unwrap"); n != 2 {
		t.Errorf("%d times unwrapped, want 2", n)
	}
}
