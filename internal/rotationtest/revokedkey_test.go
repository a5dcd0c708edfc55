package rotationtest_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
)

// A keyRevocation is one way to take a key out of use. Its signer has the keys
// "next", "current" and "previous".
type keyRevocation struct {
	signer func(t *testing.T) (signer.Signer, map[string]string)
	revoke func(t *testing.T, p *provider.PrivateKeyJWT, key string)
	// promoted: where current goes, the one before it takes its place. Else
	// nothing is sent any more.
	promoted bool
}

func keyRevocations() map[string]keyRevocation {
	var path string
	var names map[string]string
	var ring *keyring
	files := func(t *testing.T) (signer.Signer, map[string]string) {
		path, names = newKeyFiles(t, "next", "current", "previous")
		return fileSigner(t, path, smartcred.Discard), names
	}
	versions := func(*testing.T) (signer.Signer, map[string]string) {
		ring = new(keyring)
		ring.add("previous", nil)
		ring.add("current", nil)
		ring.add("next", func(key *signer.Key) { key.NotBefore = signer.Unscheduled })
		return ring, nil
	}
	kidOf := func(name string) string {
		for kid, n := range names {
			if n == name {
				return kid
			}
		}
		return name
	}
	return map[string]keyRevocation{
		"file gone": {
			signer: files,
			revoke: func(t *testing.T, _ *provider.PrivateKeyJWT, key string) {
				remove(t, path+map[string]string{"next": ".next", "current": "", "previous": ".previous"}[key])
			},
		},
		"kid named in the configuration": {
			signer: files,
			revoke: func(t *testing.T, p *provider.PrivateKeyJWT, key string) {
				p.SetRevoked(t.Context(), []string{"another", kidOf(key)})
			},
			promoted: true,
		},
		"version named in the configuration": {
			signer: versions,
			revoke: func(t *testing.T, p *provider.PrivateKeyJWT, key string) {
				p.SetRevoked(t.Context(), []string{key})
			},
			promoted: true,
		},
		"named to the key set": {
			signer: versions,
			revoke: func(t *testing.T, p *provider.PrivateKeyJWT, key string) {
				p.KeySet().SetRevoked(t.Context(), []string{key})
			},
			promoted: true,
		},
		"no longer listed": {
			signer:   versions,
			revoke:   func(_ *testing.T, _ *provider.PrivateKeyJWT, key string) { ring.remove(key) },
			promoted: true,
		},
	}
}

// useKey has the bed's client get a token with that key: the server's JWK Set has
// no other.
func (b *bed) useKey(t *testing.T, p *provider.PrivateKeyJWT, key string) {
	t.Helper()
	keys, err := p.KeySet().Published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == key || b.names[k.ID] == key {
			set, err := signer.PublicJWKSet([]signer.Key{k})
			if err != nil {
				t.Fatal(err)
			}
			b.srv.SetJWKS(clientID, set)
		}
	}
	b.token(t)
	sent := strings.Fields(b.sent())
	if last := sent[len(sent)-1]; last != key {
		t.Fatalf("token requests with %s, want the last with %s", sent, key)
	}
	if event := b.events.one(t, smartcred.EventCredentialSelected); event.KeyID == "" || event.Version == "" || event.ClientID != clientID {
		t.Errorf("event %+v", event)
	}
}

func TestRevokedKey(t *testing.T) {
	for name, r := range keyRevocations() {
		for _, key := range []string{"current", "previous", "next"} {
			t.Run(name+", "+key, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, names := r.signer(t)
					b, p := newKeyBed(t, s, signer.KeySetOptions{}, provider.RotationOptions{})
					maps.Copy(b.names, names)
					b.useKey(t, p, key)
					b.wantPublished(t, p, "next current previous")
					b.srv.SetJWKS(clientID, nil) // whatever is published
					b.events.take(smartcred.EventKeyActivated)

					r.revoke(t, p, key)
					var want error
					if key == "current" && !r.promoted {
						want = smartcred.ErrNotFound
					}
					b.checkDropped(t, key, want)
					if want == nil {
						b.wantPublished(t, p, strings.Join(strings.Fields(strings.Replace("next current previous", key, "", 1)), " "))
					} else {
						b.wantPublished(t, p, "503")
					}
					event := b.events.take(smartcred.EventKeyRevoked)
					if len(event) == 0 {
						t.Fatal("no event")
					}
					if e := event[0]; e.Version == "" || e.KeyID != key && b.names[e.KeyID] != key && want == nil || e.Backend == "" {
						t.Errorf("event %+v", e)
					}
				})
			})
		}
	}
}

// What the key set no longer holds it does not sign with, whoever asks.
func TestRevokedKeyNeverSigns(t *testing.T) {
	for name, r := range keyRevocations() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := r.signer(t)
				keys, err := s.Keys(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				p := keyProvider(t, s, signer.KeySetOptions{}, provider.RotationOptions{}, smartcred.Discard)
				if _, err := p.KeySet().Sign(t.Context(), keys[2], []byte("input")); err != nil {
					t.Fatal(err)
				}
				r.revoke(t, p, "previous")
				time.Sleep(time.Minute)
				if _, err := p.KeySet().Sign(t.Context(), keys[2], []byte("input")); !errors.Is(err, smartcred.ErrNotFound) {
					t.Errorf("signed by a revoked key: %v", err)
				}
			})
		})
	}
}

// The backend refuses to list its keys: their use ends, and tokens live on.
func TestDeniedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("one", nil)
		b, p := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		live := b.token(t)
		b.wantSent(t, "one")
		ring.mu.Lock()
		ring.err = smartcred.ErrDenied
		ring.mu.Unlock()
		time.Sleep(61 * time.Second)
		for range 100 {
			if token := b.token(t); token != live {
				t.Fatal("another token")
			}
			time.Sleep(time.Second)
		}
		if err := b.login(t); !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("a new request: %v, want ErrDenied", err)
		}
		b.wantSent(t, "")
		b.wantPublished(t, p, "503")
		if event := b.events.one(t, smartcred.EventBackendDenied); event.Backend == "" {
			t.Errorf("event %+v", event)
		}
	})
}

// In an outage the last list serves on, but for what the configuration revokes.
func TestRevokedKeyInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("one", nil)
		b, p := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		b.token(t)
		ring.mu.Lock()
		ring.err = smartcred.ErrUnavailable
		ring.mu.Unlock()
		time.Sleep(2 * time.Minute)
		b.mustLogin(t)
		b.wantSent(t, "one one")
		if status := p.Status(t.Context(), clientID, b.srv.URL); !errors.Is(status.Degraded, smartcred.ErrUnavailable) {
			t.Errorf("degraded: %v, want ErrUnavailable", status.Degraded)
		}
		if event := b.events.one(t, smartcred.EventStaleInUse); event.Backend == "" || event.Detail == "" {
			t.Errorf("event %+v", event)
		}
		p.SetRevoked(t.Context(), []string{"one"})
		b.checkDropped(t, "one", smartcred.ErrNotFound)
		b.wantPublished(t, p, "503")
	})
}

// Previous is never used, so it is not published either: what leaked is of no use
// to whoever has it.
func TestPreviousKeyIsNeverUsed(t *testing.T) {
	for name, given := range map[string]func(*testing.T, signer.Signer) signer.Signer{
		"signer": func(_ *testing.T, s signer.Signer) signer.Signer { return s },
		"key set": func(t *testing.T, s signer.Signer) signer.Signer {
			keys, err := signer.NewKeySet(s, &signer.KeySetOptions{WithoutPrevious: true, Observer: smartcred.Discard})
			if err != nil {
				t.Fatal(err)
			}
			return keys
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ring := new(keyring)
				ring.add("previous", nil)
				ring.add("current", nil)
				ring.add("next", func(key *signer.Key) { key.NotBefore = signer.Unscheduled })
				b, p := newKeyBed(t, given(t, ring), signer.KeySetOptions{}, provider.RotationOptions{Previous: provider.PreviousNever})
				b.wantPublished(t, p, "next current")
				b.token(t)
				b.wantSent(t, "current")
				if name == "signer" {
					if event := b.events.one(t, smartcred.EventKeyRevoked); event.Version != "previous" || event.KeyID != "previous" {
						t.Errorf("event %+v", event)
					}
				}
				ring.alter("next", func(key *ringKey) { key.NotBefore = time.Time{} })
				b.checkDropped(t, "current", nil)
				b.wantPublished(t, p, "next")
				if _, err := p.KeySet().Sign(t.Context(), ring.keys[1].Key, []byte("input")); !errors.Is(err, smartcred.ErrNotFound) {
					t.Errorf("signed by a previous key: %v", err)
				}
			})
		})
	}
}
