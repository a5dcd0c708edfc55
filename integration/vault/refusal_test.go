package vault

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A real rate limit quota: where Vault says when to come again, so does smartcred.
func TestRateLimitQuota(t *testing.T) {
	s := vaulttest.Shared(t)
	b := newFaultBed(t, s, direct)
	quota := "sys/quotas/rate-limit/" + b.transit
	s.Write(t, quota, map[string]any{"path": b.transit + "/", "rate": 1, "interval": "1h"})
	s.Write(t, "sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": true})
	var err error
	for err == nil {
		err = signOnce(t, b.keys, b.key)
	}
	u := new(smartcred.UnavailableError)
	if !errors.As(err, &u) || u.RetryAfter < time.Second || u.RetryAfter > time.Hour {
		t.Errorf("got %v, want ErrUnavailable with the time to wait", err)
	}
	saying(t, err, smartcred.ErrUnavailable, "rate limit quota")
	if err := b.lookUp(t.Context()); err != nil {
		t.Errorf("another mount: %v", err)
	}
	s.Write(t, "sys/quotas/config", map[string]any{"enable_rate_limit_response_headers": false})
	err = signOnce(t, b.keys, b.key)
	if u := new(smartcred.UnavailableError); !errors.As(err, &u) || u.RetryAfter != 0 {
		t.Errorf("got %v, want ErrUnavailable without a time to wait", err)
	}
	if _, err := s.Root(t).Logical().Delete(quota); err != nil {
		t.Fatal(err)
	}
	b.healthy(t)
}

// A revoked token without another one in sight; then there is one.
func TestRevokedTokenIsDenied(t *testing.T) {
	b := newLoginBed(t)
	token := b.vault.Token(t, policy(transitPolicy, b.mount))
	path := tokenFile(t, token)
	seen := new(events)
	set, err := signer.NewKeySet(b.open(t, map[string]string{"token_file": path}, seen), &signer.KeySetOptions{Refresh: refresh, Observer: seen})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, set)
	key, err := set.Signing(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b.revoke(t, token)
	if _, err := set.Sign(t.Context(), key, []byte("header.claims")); !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
	}
	eventually(t, func() error { // the list serves until it is read again
		if _, err := set.Signing(t.Context(), nil); !errors.Is(err, smartcred.ErrDenied) {
			return errors.New("the set does not say that it is denied")
		}
		return nil
	})
	if seen.count(smartcred.EventBackendDenied) == 0 {
		t.Errorf("no event %s", smartcred.EventBackendDenied)
	}
	writeFile(t, path, b.vault.Token(t, policy(transitPolicy, b.mount)))
	eventually(t, func() error {
		key, err := set.Signing(t.Context(), nil)
		if err == nil {
			_, err = set.Sign(t.Context(), key, []byte("header.claims"))
		}
		return err
	})
}

func TestDeletedKey(t *testing.T) {
	s := vaulttest.Shared(t)
	b := newFaultBed(t, s, direct)
	deleteKey := func() {
		t.Helper()
		s.Write(t, b.transit+"/keys/smart/config", map[string]any{"deletion_allowed": true})
		if _, err := s.Root(t).Logical().Delete(b.transit + "/keys/smart"); err != nil {
			t.Fatal(err)
		}
	}
	deleteKey()
	if err := signOnce(t, b.keys, b.key); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("sign: %v, want ErrNotFound", err)
	}
	if _, err := b.keys.Keys(t.Context()); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("list: %v, want ErrNotFound", err)
	}
	eventually(t, func() error {
		if err := b.signBySet(t.Context()); !errors.Is(err, smartcred.ErrNotFound) {
			return errors.New("the set goes on with a key that is gone")
		}
		return nil
	})
	s.Write(t, b.transit+"/keys/smart", map[string]any{"type": "ecdsa-p384"})
	fresh := firstKey(t, b.keys)
	if fresh.ID == b.key.ID {
		t.Error("another key has the same kid")
	}
	b.key = fresh
	b.healthy(t)
	s.Write(t, b.transit+"/keys/smart/config", map[string]any{"deletion_allowed": true})
}

// Below min_encryption_version, above the newest, and trimmed.
func TestVersionsThatDoNotSign(t *testing.T) {
	s := vaulttest.Shared(t)
	b := newFaultBed(t, s, direct)
	first := b.key
	missing := first
	missing.Version = "7"
	if err := signOnce(t, b.keys, missing); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("a version that does not exist: %v, want ErrNotFound", err)
	}
	s.Write(t, b.transit+"/keys/smart/rotate", nil)
	config := func(settings map[string]any) { t.Helper(); s.Write(t, b.transit+"/keys/smart/config", settings) }
	config(map[string]any{"min_encryption_version": 2})
	saying(t, signOnce(t, b.keys, first), smartcred.ErrDenied, "min_encryption_version")
	keys, err := b.keys.Keys(t.Context())
	if err != nil || len(keys) != 1 || keys[0].Version != "2" {
		t.Errorf("%d keys, %v, want version 2 only", len(keys), err)
	}
	eventually(t, func() error { return b.signBySet(t.Context()) })
	pinned := openSigner(t, "vault-transit://"+b.transit+"/smart"+query(map[string]string{
		"address": s.Address, "version": "1", "token_file": tokenFile(t, s.Token(t, policy(transitPolicy, b.transit)))}), nil)
	_, err = pinned.Keys(t.Context())
	saying(t, err, smartcred.ErrNotFound, "version 1", "min_encryption_version")

	config(map[string]any{"min_encryption_version": 0})
	if err := signOnce(t, b.keys, first); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	config(map[string]any{"min_encryption_version": 2, "min_decryption_version": 2})
	s.Write(t, b.transit+"/keys/smart/trim", map[string]any{"min_available_version": 2})
	err = signOnce(t, b.keys, first)
	if !errors.Is(err, smartcred.ErrNotFound) && !errors.Is(err, smartcred.ErrDenied) {
		t.Errorf("a trimmed version: %v, want ErrNotFound or ErrDenied", err)
	}
	b.key = firstKey(t, b.keys)
	b.healthy(t)
}

func TestKeyOfAnotherType(t *testing.T) {
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	for _, keyType := range []string{"ed25519", "aes256-gcm96", "ecdsa-p521"} {
		t.Run(keyType, func(t *testing.T) {
			mount := transitKey(t, s, keyType)
			token := tokenFile(t, s.Token(t, policy(transitPolicy, mount)))
			_, err := openSigner(t, "vault-transit://"+mount+"/smart"+query(map[string]string{"token_file": token}), nil).Keys(t.Context())
			saying(t, err, smartcred.ErrUnsupportedAlgorithm, "type=ecdsa-p384")
		})
	}
}

// A Vault that was restored from a snapshot and rotated has another key under the
// version number that is in use. The server refuses what it signs; the list is read
// again, and the key that is there now signs, its first signature verified.
func TestRestoredVaultHasAnotherKey(t *testing.T) {
	s := vaulttest.Start(t)
	s.Setenv(t, "")
	mount := transitKey(t, s, "ecdsa-p384")
	token := tokenFile(t, s.Token(t, policy(transitPolicy, mount)))
	before := s.Snapshot(t)
	s.Write(t, mount+"/keys/smart/rotate", nil)
	uri := "vault-transit://" + mount + "/smart" + query(map[string]string{"token_file": token, "version": "2"})
	// The list is not read again by itself while the test runs.
	p := keyProvider(t, openSigner(t, uri, &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{Observer: smartcred.Discard}}),
		signer.KeySetOptions{Refresh: time.Hour, MaxAge: time.Second, PublishFor: 2 * time.Hour})
	published(t, p)
	jwks := httptest.NewServer(p.KeySet().Handler(t.Context()))
	t.Cleanup(jwks.Close)
	srv := smartauthtest.NewServer(t, &smartauthtest.Options{RefetchUnknownKey: true})
	srv.AddClient(smartauthtest.Client{ID: clientID, JWKSURL: jwks.URL})
	client := newClient(t, srv, p)
	if err := callOnce(t.Context(), client, srv, "before"); err != nil {
		t.Fatal(err)
	}
	kid := func() string {
		requests := srv.RequestsTo(smartauthtest.EndpointToken)
		return requests[len(requests)-1].AssertionHeader["kid"].(string)
	}
	old := kid()

	s.Restore(t, before)
	s.Write(t, mount+"/keys/smart/rotate", nil)
	time.Sleep(2 * time.Second) // between two looks past the cache
	if err := callOnce(t.Context(), client, srv, "after"); err != nil {
		t.Fatal(err)
	}
	if kid() == old {
		t.Error("the assertion names the key that is gone")
	}
	var statuses []int
	for _, r := range srv.RequestsTo(smartauthtest.EndpointToken) {
		statuses = append(statuses, r.Status)
	}
	if len(statuses) != 3 || statuses[2] != http.StatusOK {
		t.Errorf("token requests answered %v, want one refusal and another key's success", statuses)
	}
}
