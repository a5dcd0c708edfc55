package vault

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const refresh = 200 * time.Millisecond

// A keyBed is a Transit key, a provider over it and a server that takes it.
type keyBed struct {
	vault *vaulttest.Server
	mount string
	p     *provider.PrivateKeyJWT
	srv   *smartauthtest.Server
}

func newKeyBed(t *testing.T, keyType string, options map[string]string, publishFor time.Duration, keys signer.KeySetOptions) *keyBed {
	t.Helper()
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	b := &keyBed{vault: s, mount: transitKey(t, s, keyType), srv: smartauthtest.NewServer(t, &smartauthtest.Options{MaxRequests: 1_000_000})}
	all := map[string]string{"token_file": tokenFile(t, s.Token(t, policy(transitPolicy, b.mount)))}
	for name, value := range options {
		all[name] = value
	}
	opts := &signer.OpenOptions{OpenOptions: secretsource.OpenOptions{Observer: smartcred.Discard}, PublishFor: publishFor}
	keys.Refresh = refresh
	b.p = keyProvider(t, openSigner(t, "vault-transit://"+b.mount+"/smart"+query(all), opts), keys)
	return b
}

func (b *keyBed) rotate(t *testing.T) { b.vault.Write(t, b.mount+"/keys/smart/rotate", nil) }

func (b *keyBed) setLeast(t *testing.T, version int) {
	b.vault.Write(t, b.mount+"/keys/smart/config", map[string]any{"min_encryption_version": version})
}

// registerByHand gives the server what is published, or some versions of it.
func (b *keyBed) registerByHand(t *testing.T, versions ...string) {
	t.Helper()
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal(published(t, b.p), &set); err != nil {
		t.Fatal(err)
	}
	keys, err := b.p.KeySet().Published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]bool{}
	for _, key := range keys {
		wanted[key.ID] = len(versions) == 0 || slices.Contains(versions, key.Version)
	}
	set.Keys = slices.DeleteFunc(set.Keys, func(key map[string]any) bool { return !wanted[key["kid"].(string)] })
	b.srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: set})
}

func (b *keyBed) startLoad(t *testing.T) *load {
	client := newClient(t, b.srv, b.p)
	return startLoad(t, 0, nil, func(ctx context.Context, name string) error { return callOnce(ctx, client, b.srv, name) })
}

// inForce is the version that the server took last.
func (b *keyBed) inForce(t *testing.T) string {
	return b.p.Status(t.Context(), clientID, b.srv.URL).InForce.Version
}

// refused counts token requests that the server refused.
func refused(srv *smartauthtest.Server) int {
	n := 0
	for _, r := range srv.RequestsTo(smartauthtest.EndpointToken) {
		if r.Status != http.StatusOK {
			n++
		}
	}
	return n
}

// `vault write -f transit/keys/K/rotate` is all that anybody does: where the server
// fetches the JWK Set, the new version is in it long before it signs.
func TestKeyRotationByJWKSetURL(t *testing.T) {
	for _, alg := range algorithms {
		t.Run(string(alg.name), func(t *testing.T) {
			const publishFor = 4 * time.Second
			b := newKeyBed(t, alg.keyType, nil, publishFor, signer.KeySetOptions{MaxAge: time.Second, PublishFor: publishFor})
			published(t, b.p)
			jwks := httptest.NewServer(b.p.KeySet().Handler(t.Context()))
			t.Cleanup(jwks.Close)
			b.srv.AddClient(smartauthtest.Client{ID: clientID, JWKSURL: jwks.URL})
			l := b.startLoad(t)
			l.await(t, func() bool { return b.inForce(t) == "1" })
			versions := []string{"2", "3"}
			if alg.name == signer.RS384 {
				versions = versions[:1] // it takes its time
			}
			for _, version := range versions {
				rotated := time.Now()
				b.rotate(t)
				l.await(t, func() bool { return b.inForce(t) == version })
				if after := time.Since(rotated); after < publishFor {
					t.Errorf("version %s signed %s after it was made, want %s at least", version, after, publishFor)
				}
			}
			l.finish(t)
			if n := refused(b.srv); n > 0 {
				t.Errorf("%d token requests were refused", n)
			}
		})
	}
}

// Keys that are registered by hand: the new version is published, so that it can be
// registered, and signs once the server refuses the old one.
func TestKeyRotationByHand(t *testing.T) {
	b := newKeyBed(t, "ecdsa-p384", nil, 0, signer.KeySetOptions{})
	b.registerByHand(t)
	l := b.startLoad(t)
	l.await(t, func() bool { return b.inForce(t) == "1" })
	b.rotate(t)
	awaitPublished(t, b.p, "2", "1")
	b.registerByHand(t)
	l.await(t, func() bool { return true })
	if got := b.inForce(t); got != "1" {
		t.Errorf("version %s signs, and nobody refused version 1", got)
	}
	b.registerByHand(t, "2")
	l.await(t, func() bool { return b.inForce(t) == "2" })
	l.finish(t)
}

// Revocation: a version below min_encryption_version does not sign, and the server
// sees nothing of it.
func TestKeyRevocationUnderLoad(t *testing.T) {
	b := newKeyBed(t, "ecdsa-p384", nil, 0, signer.KeySetOptions{})
	b.rotate(t)
	awaitPublished(t, b.p, "2", "1")
	b.registerByHand(t)
	l := b.startLoad(t)
	l.await(t, func() bool { return b.inForce(t) == "1" })
	b.setLeast(t, 2)
	l.await(t, func() bool { return b.inForce(t) == "2" })
	awaitPublished(t, b.p, "2")
	l.finish(t)
	if n := refused(b.srv); n > 0 {
		t.Errorf("%d token requests were refused", n)
	}
}

// version=N names the key that signs, against the schedule and against the newest.
func TestVersionIsPinned(t *testing.T) {
	const publishFor = time.Hour
	for version, publishes := range map[string][]string{"1": {"3", "2", "1"}, "2": {"3", "2", "1"}, "3": {"3", "2", "1"}} {
		t.Run(version, func(t *testing.T) {
			b := newKeyBed(t, "ecdsa-p384", map[string]string{"version": version}, publishFor, signer.KeySetOptions{PublishFor: publishFor})
			b.rotate(t)
			b.rotate(t)
			awaitPublished(t, b.p, publishes...)
			b.registerByHand(t)
			client := newClient(t, b.srv, b.p)
			if err := callOnce(t.Context(), client, b.srv, "pinned"); err != nil {
				t.Fatal(err)
			}
			if got := b.inForce(t); got != version {
				t.Errorf("version %s signs", got)
			}
		})
	}
}
