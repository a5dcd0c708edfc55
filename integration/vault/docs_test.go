package vault

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
)

// The policies of docs/vault.md are the ones that are tested here, but for the
// names of mount and secret.
func TestPageHasTheLeastPolicies(t *testing.T) {
	text, err := os.ReadFile("../../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	for block, c := range map[string]struct{ tested, mount, secret, name string }{
		"transit": {tested: transitPolicy, mount: "transit"},
		"kv":      {tested: kvPolicy, mount: "secret", secret: "team/smart", name: "smart"},
	} {
		_, rest, found := strings.Cut(string(text), "```hcl "+block+"\n")
		shown, _, ended := strings.Cut(rest, "```")
		if !found || !ended {
			t.Errorf("the page has no policy %s", block)
			continue
		}
		want := strings.TrimPrefix(policy(c.tested, c.mount), "\n")
		if c.secret != "" {
			want = strings.ReplaceAll(want, c.secret, c.name)
		}
		if diff := cmp.Diff(want, shown); diff != "" {
			t.Errorf("%s (-tested +shown):\n%s", block, diff)
		}
	}
}

// Of the ways to take a program's access away, the page's are those that work at
// once: a token outlives the secret id that got it.
func TestPageRevokesAProgramsAccess(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	secretID := r.newSecretID(t)
	s := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, secretID)}), smartcred.Discard)
	works(t, s)
	b.vault.Write(t, r.path+"/secret-id/destroy", map[string]any{"secret_id": secretID})
	works(t, s)
	other := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard)
	works(t, other)
	if err := b.vault.Root(t).Sys().RevokePrefix("auth/" + r.mount + "/login"); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // Vault queues revocations
		if _, err := s.Keys(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
			return fmt.Errorf("the token of a secret id that was destroyed still works: %v", err)
		}
		return nil
	})
	works(t, other)
	if err := b.vault.Root(t).Sys().DeletePolicy(b.policy); err != nil {
		t.Fatal(err)
	}
	_, err := other.Keys(t.Context())
	saying(t, err, smartcred.ErrDenied)

	text, err := os.ReadFile("../../docs/vault.md")
	if err != nil {
		t.Fatal(err)
	}
	if _, row, found := strings.Cut(string(text), "| this program's access | "); !found || !strings.HasPrefix(row, "`vault policy delete smart`") {
		t.Error("the page takes a program's access away by another command")
	}
	if !strings.Contains(string(text), "`vault lease revoke -prefix auth/approle/login`") {
		t.Error("the page ends the tokens of a secret id by another command")
	}
}
