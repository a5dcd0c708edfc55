package vault

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/integration/vaulttest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A secretBed is a KV secret, a provider over it and a server that takes it.
type secretBed struct {
	vault   *vaulttest.Server
	mount   string
	version int
	source  secretsource.Source
	p       *provider.ClientSecretBasic
	srv     *smartauthtest.Server
}

// newSecretBed has "secret-0" in Vault and at the server. Version 1 gets a second
// URI, whose secret is the previous one.
func newSecretBed(t *testing.T, version int, ttl time.Duration) *secretBed {
	t.Helper()
	s := vaulttest.Shared(t)
	s.Setenv(t, "")
	b := &secretBed{vault: s, version: version, srv: smartauthtest.NewServer(t, &smartauthtest.Options{MaxRequests: 1_000_000})}
	var uri string
	b.mount, uri = kvSecret(t, s, version, nil)
	b.source = openSource(t, uri)
	b.put(t, "secret-0")
	b.srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{"secret-0"}})
	b.p = secretProvider(t, b.source, ttl)
	return b
}

func (b *secretBed) put(t *testing.T, value string) { putSecret(t, b.vault, b.mount, b.version, value) }

func (b *secretBed) startLoad(t *testing.T) *load {
	client := newClient(t, b.srv, b.p)
	return startLoad(t, 0, nil, func(ctx context.Context, name string) error { return callOnce(ctx, client, b.srv, name) })
}

func (b *secretBed) inForce(t *testing.T) string {
	return b.p.Status(t.Context(), clientID, b.srv.URL).InForce.Version
}

// Three secrets after each other, each with an overlap in which the server takes
// the old one and the new one.
func TestSecretRotationWithOverlap(t *testing.T) {
	b := newSecretBed(t, 2, 100*time.Millisecond)
	l := b.startLoad(t)
	l.await(t, func() bool { return b.inForce(t) == "1" })
	for i := 1; i <= 3; i++ {
		old, fresh := fmt.Sprint("secret-", i-1), fmt.Sprint("secret-", i)
		b.srv.SetSecrets(clientID, old, fresh)
		b.put(t, fresh)
		l.await(t, func() bool { return b.inForce(t) == fmt.Sprint(i+1) })
		b.srv.SetSecrets(clientID, fresh)
	}
	l.finish(t)
	if n := refused(b.srv); n > 0 {
		t.Errorf("%d token requests were refused, although each secret was taken as long as it was used", n)
	}
}

// Vault has the new secret before the server takes it: until then the version
// before it works.
func TestSecretRotationVaultFirst(t *testing.T) {
	b := newSecretBed(t, 2, 100*time.Millisecond)
	l := b.startLoad(t)
	l.await(t, func() bool { return b.inForce(t) == "1" })
	b.put(t, "secret-1")
	l.await(t, func() bool { return refused(b.srv) > 0 })
	if got := b.inForce(t); got != "1" {
		t.Errorf("version %s is in force, and the server takes version 1 only", got)
	}
	b.srv.SetSecrets(clientID, "secret-1")
	l.await(t, func() bool { return b.inForce(t) == "2" })
	l.finish(t)
}

// The server drops the old secret while it is cached here: the refusal makes Vault
// be asked.
func TestSecretRotationServerFirst(t *testing.T) {
	for name, version := range map[string]int{"version 1": 1, "version 2": 2} {
		t.Run(name, func(t *testing.T) {
			b := newSecretBed(t, version, time.Hour)
			l := b.startLoad(t)
			l.await(t, func() bool { return b.inForce(t) != "" })
			before := b.inForce(t)
			time.Sleep(2100 * time.Millisecond) // looks past the cache are as far apart
			b.put(t, "secret-1")
			b.srv.SetSecrets(clientID, "secret-1")
			l.await(t, func() bool { return b.inForce(t) != before })
			l.finish(t)
		})
	}
}

// A current version that is deleted or destroyed is a revocation: the one before it
// is not sent in its place. Bringing it back heals that.
func TestSecretRevocation(t *testing.T) {
	for _, action := range []string{"delete", "destroy"} {
		t.Run(action, func(t *testing.T) {
			b := newSecretBed(t, 2, 50*time.Millisecond)
			b.put(t, "secret-1")
			b.srv.SetSecrets(clientID, "secret-0", "secret-1")
			client := newClient(t, b.srv, b.p)
			call := func(name string) error { return callOnce(t.Context(), client, b.srv, name) }
			if err := call("before"); err != nil {
				t.Fatal(err)
			}
			b.vault.Write(t, b.mount+"/"+action+"/team/smart", map[string]any{"versions": []int{2}})
			if _, err := b.source.Lookup(t.Context(), secretsource.Current); !errors.Is(err, smartcred.ErrNotFound) {
				t.Errorf("the source says %v, want ErrNotFound", err)
			}
			time.Sleep(100 * time.Millisecond) // the life of a cached answer
			before := b.srv.TokenRequests()
			if err := call("revoked"); !errors.Is(err, smartcred.ErrNotFound) {
				t.Errorf("got %v, want ErrNotFound", err)
			}
			if n := b.srv.TokenRequests() - before; n > 0 {
				t.Errorf("%d token requests were sent with a revoked secret", n)
			}
			if action == "delete" {
				b.vault.Write(t, b.mount+"/undelete/team/smart", map[string]any{"versions": []int{2}})
			} else {
				b.put(t, "secret-1")
			}
			eventually(t, func() error { return call("after") })
		})
	}
}

// Only a write of the field counts as a rotation, and previous is looked for past
// versions that are gone.
func TestPreviousSecret(t *testing.T) {
	b := newSecretBed(t, 2, 0)
	b.put(t, "secret-1")
	b.put(t, "secret-2")
	for range 2 { // other fields change
		b.put(t, "secret-2")
	}
	previous := func() string {
		secret, err := b.source.Lookup(t.Context(), secretsource.Previous)
		if err != nil {
			return err.Error()
		}
		return string(secret.Reveal())
	}
	if got := previous(); got != "secret-1" {
		t.Errorf("previous is %s, want secret-1", got)
	}
	b.vault.Write(t, b.mount+"/destroy/team/smart", map[string]any{"versions": []int{2}})
	if got := previous(); got != "secret-0" {
		t.Errorf("previous is %s, want secret-0", got)
	}
	for range 5 {
		b.put(t, "secret-2")
	}
	if _, err := b.source.Lookup(t.Context(), secretsource.Previous); !errors.Is(err, smartcred.ErrNotFound) {
		t.Errorf("previous, more than 5 versions back: %v, want ErrNotFound", err)
	}
}
