package vault

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
)

// each runs f for 100 callers at once.
func each(f func()) {
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range callers {
		wg.Go(func() {
			<-begin
			f()
		})
	}
	close(begin)
	wg.Wait()
}

// All that log in alike share one token and one login, a source with another
// policy path too, and 100 callers at a cold start. Close gives the token back.
func TestOneLoginForAll(t *testing.T) {
	b := newLoginBed(t)
	mount := b.vault.KV(t, 2)
	putSecret(t, b.vault, mount, 2, "secret-0")
	r := newAppRole(t, b, map[string]any{"token_policies": []string{b.policy, b.vault.Policy(t, policy(kvPolicy, mount))}})
	options := r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))})
	var signers []signer.Signer
	for range 2 {
		s, err := signer.Open(t.Context(), b.uri(options), nil)
		if err != nil {
			t.Fatal(err)
		}
		signers = append(signers, s)
	}
	options["address"] = b.front.Address
	source, err := secretsource.Open(t.Context(), "vault-kv://"+mount+"/team/smart"+query(options)+"#client_secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	each(func() {
		for _, s := range signers {
			if _, err := s.Keys(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if _, err := source.Lookup(t.Context(), secretsource.Current); err != nil {
			t.Error(err)
		}
	})
	if n := r.logins(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	token := b.sentToken(t)
	for _, c := range []any{signers[0], signers[1], source} {
		if n := b.front.Count("", "auth/token/revoke-self"); n > 0 {
			t.Error("the token was given back while it was in use")
		}
		if err := c.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.vault.Client(t, token).Auth().Token().LookupSelfWithContext(t.Context()); err == nil {
		t.Error("the token works after the last Close")
	}
}

// 403 after the revocation of the token: one new login for 100 callers, and none
// of them fails.
func TestTokenIsRevokedUnderCallers(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	s := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard)
	key := firstKey(t, s)
	b.revoke(t, b.sentToken(t))
	each(func() {
		if err := signOnce(t, s, key); err != nil {
			t.Error(err)
		}
	})
	if n := r.logins(); n != 2 {
		t.Errorf("%d logins, want 2: the first and one after the revocation", n)
	}
}

// 403 because of the policies: one login is tried, and then no more for a minute.
func TestSecondForbiddenIsDenied(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, map[string]any{"token_policies": b.vault.Policy(t, without(policy(transitPolicy, b.mount), 1))})
	s := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard)
	key := firstKey(t, s)
	for range 3 {
		each(func() {
			denied(t, signOnce(t, s, key), "update", b.mount+"/sign/smart")
		})
	}
	if n := r.logins(); n > 2 {
		t.Errorf("%d logins, want 2 at most", n)
	}
	// What is allowed works meanwhile, and the policy's repair is seen at once.
	firstKey(t, s)
	b.vault.Write(t, r.path, map[string]any{"token_policies": b.policy})
	b.revoke(t, b.sentToken(t))
	eventually(t, func() error { return signOnce(t, s, key) })
}

// A login that Vault can't answer is an outage, not a refusal.
func TestLoginDuringOutage(t *testing.T) {
	b := newLoginBed(t)
	t.Setenv("VAULT_MAX_RETRIES", "0")
	r := newAppRole(t, b, nil)
	s := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard)
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusBadGateway} {
		b.front.AnswerStatus(status, "Retry-After", "7")
		_, err := s.Keys(t.Context())
		if u := new(smartcred.UnavailableError); !errors.As(err, &u) || u.RetryAfter.Seconds() != 7 {
			t.Errorf("%d: %v, want ErrUnavailable with 7 s", status, err)
		}
	}
	b.front.Pass()
	works(t, s)
}
