package vault

import (
	"slices"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// Once warm, an assertion costs one request, whose X-Correlation-Id is the
// assertion's jti; Vault's audit log holds it where it was told to.
func TestOneRequestPerAssertion(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg.name), func(t *testing.T) {
			b := newLoginBed(t)
			if alg.keyType != "ecdsa-p384" {
				b.mount = transitKey(t, b.vault, alg.keyType)
			}
			b.vault.Write(t, "sys/config/auditing/request-headers/X-Correlation-Id", map[string]any{"hmac": false})
			keys := b.open(t, map[string]string{"token_file": tokenFile(t, b.vault.Token(t, policy(transitPolicy, b.mount)))}, smartcred.Discard)
			p := keyProvider(t, keys, signer.KeySetOptions{Refresh: time.Hour, PublishFor: 24 * time.Hour})
			srv := smartauthtest.NewServer(t, nil)
			srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: published(t, p)})
			client := newClient(t, srv, p)
			b.front.Reset()
			const calls = 20
			for i := range calls {
				if err := callOnce(t.Context(), client, srv, string(rune('a'+i))); err != nil {
					t.Fatal(err)
				}
			}
			requests := b.front.Requests()
			if len(requests) != calls || b.front.Count("", b.mount+"/sign/smart") != calls {
				t.Fatalf("%d requests for %d assertions", len(requests), calls)
			}
			for i, r := range srv.RequestsTo(smartauthtest.EndpointToken) {
				jti, _ := r.AssertionClaims["jti"].(string)
				if got := requests[i].Header.Get("X-Correlation-Id"); got != jti || jti == "" {
					t.Errorf("X-Correlation-Id %q with the assertion of jti %q", got, jti)
				}
				audited := 0
				for _, entry := range b.vault.AuditLog(t) {
					if entry.Type == "request" && entry.Request.Path == b.mount+"/sign/smart" &&
						slices.Contains(entry.Request.Headers["x-correlation-id"], jti) {
						audited++
					}
				}
				if audited != 1 {
					t.Errorf("jti %q is %d times in the audit log, want once", jti, audited)
				}
			}
		})
	}
}

// 100 callers at a cold start: one list, and one signature each.
func TestColdStartCostsOneList(t *testing.T) {
	b := newLoginBed(t)
	r := newAppRole(t, b, nil)
	keys := b.open(t, r.options(map[string]string{"secret_id_file": tokenFile(t, r.newSecretID(t))}), smartcred.Discard)
	set, err := signer.NewKeySet(keys, &signer.KeySetOptions{Refresh: time.Hour, PublishFor: 24 * time.Hour, Observer: smartcred.Discard})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, set)
	each(func() {
		key, err := set.Signing(t.Context(), nil)
		if err == nil {
			_, err = set.Sign(t.Context(), key, []byte("header.claims"))
		}
		if err != nil {
			t.Error(err)
		}
	})
	lists, signatures := b.front.Count("", b.mount+"/keys/"), b.front.Count("", b.mount+"/sign/")
	if lists != 1 || signatures != callers || r.logins() != 1 {
		t.Errorf("%d logins, %d lists and %d signatures, want 1, 1 and %d", r.logins(), lists, signatures, callers)
	}
}
