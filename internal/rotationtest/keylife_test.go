package rotationtest_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// serverTakes gives the server a JWK Set of its own, with these keys of the
// provider's.
func (b *bed) serverTakes(t *testing.T, p *provider.PrivateKeyJWT, names ...string) {
	t.Helper()
	keys, err := p.KeySet().Published(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var taken []signer.Key
	for _, key := range keys {
		for _, name := range names {
			if key.ID == name || b.names[key.ID] == name {
				taken = append(taken, key)
			}
		}
	}
	set, err := signer.PublicJWKSet(taken)
	if err != nil {
		t.Fatal(err)
	}
	b.srv.SetJWKS(clientID, set)
}

// path.next is published and not used, until the server refuses every other key:
// then it is that server's current one, and activating it changes nothing there.
func TestNextKeyFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, names := newKeyFiles(t, "next", "current", "previous")
		b, p := newKeyBed(t, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, provider.RotationOptions{})
		maps.Copy(b.names, names)
		b.wantPublished(t, p, "next current previous")
		for range 3 {
			b.mustLogin(t)
		}
		b.wantSent(t, "current current current")
		b.events.one(t, smartcred.EventCredentialSelected)

		b.serverTakes(t, p, "next")
		b.mustLogin(t)
		b.wantSent(t, "current! previous! next")
		selected := b.events.one(t, smartcred.EventCredentialSelected)
		if b.names[selected.KeyID] != "next" || !strings.Contains(selected.Detail, "staged") || selected.Server != b.srv.URL {
			t.Errorf("event %+v", selected)
		}
		if fallback := b.events.take(smartcred.EventCredentialFallback); len(fallback) != 2 || b.names[fallback[0].KeyID] != "current" ||
			b.names[fallback[1].KeyID] != "previous" || !errors.Is(fallback[0].Err, provider.ErrInvalidClient) || fallback[0].ClientID != clientID {
			t.Errorf("events %+v", fallback)
		}
		if status := p.Status(t.Context(), clientID, b.srv.URL); !status.Adopted || b.names[status.InForce.KeyID] != "next" {
			t.Errorf("status %+v", status)
		}
		time.Sleep(2 * time.Hour) // whatever refusals there were are over
		b.mustLogin(t)
		b.wantSent(t, "next")

		activate(t, path)
		time.Sleep(time.Minute)
		b.mustLogin(t)
		b.wantSent(t, "next")
		b.wantPublished(t, p, "next current") // as current and previous now
		if status := p.Status(t.Context(), clientID, b.srv.URL); status.Adopted || b.names[status.InForce.KeyID] != "next" {
			t.Errorf("status %+v", status)
		}
	})
}

// Activated in time: servers have fetched the new key, and see no refusal.
func TestActivatedKeyFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, names := newKeyFiles(t, "next", "current")
		b, p := newKeyBed(t, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, provider.RotationOptions{})
		maps.Copy(b.names, names)
		b.mustLogin(t)
		activate(t, path)
		b.mustLogin(t) // the list is not read again yet, and the old key signs from where it is now
		time.Sleep(time.Minute)
		b.mustLogin(t)
		b.wantSent(t, "current current next")
		newKeyFile(t, b.names, path+".next", "newest")
		time.Sleep(time.Minute)
		b.mustLogin(t)
		b.wantSent(t, "next")
		b.wantPublished(t, p, "newest next current")
	})
}

// What one server takes is no other server's business.
func TestAdoptedKeyIsOneServersOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path, names := newKeyFiles(t, "next", "current")
		b, p := newKeyBed(t, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, provider.RotationOptions{})
		maps.Copy(b.names, names)
		b.serverTakes(t, p, "next")
		b.mustLogin(t)
		b.wantSent(t, "current! next")

		other := &bed{srv: smartauthtest.NewUnstarted(&smartauthtest.Options{URL: "https://other.example.test/fhir"}), events: b.events, names: b.names}
		t.Cleanup(other.srv.Close)
		other.srv.AddClient(smartauthtest.Client{ID: clientID, JWKS: "{}"})
		other.connect(t, p)
		other.serverTakes(t, p, "current", "next")
		other.mustLogin(t)
		other.wantSent(t, "current")
		b.mustLogin(t)
		b.wantSent(t, "next")
	})
}

// A key that can't sign: the next one does, and the server sees nothing of it.
// When it can again, it does.
func TestCurrentKeyCannotSign(t *testing.T) {
	for _, test := range []struct {
		name      string
		err       error
		keys      []string // oldest first
		denied    []string
		want      string
		published string
	}{
		{"previous signs", smartcred.ErrDenied, []string{"previous", "current", "next"}, []string{"current"}, "previous", "next current previous"},
		{"disabled", smartcred.ErrNotFound, []string{"previous", "current", "next"}, []string{"current"}, "previous", "next current previous"},
		{"staged signs", smartcred.ErrDenied, []string{"current", "next"}, []string{"current"}, "next", "next current"},
		{"neither current nor previous", smartcred.ErrDenied, []string{"previous", "current", "next"}, []string{"current", "previous"}, "next", "next current previous"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ring := new(keyring)
				for _, name := range test.keys {
					ring.add(name, func(key *signer.Key) {
						if name == "next" {
							key.NotBefore = signer.Unscheduled
						}
					})
				}
				b, p := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
				b.mustLogin(t)
				b.wantSent(t, "current")
				for _, name := range test.denied {
					ring.alter(name, func(key *ringKey) { key.denied = fmt.Errorf("test: %w", test.err) })
				}
				for range 3 {
					b.mustLogin(t)
				}
				b.wantSent(t, strings.TrimSpace(strings.Repeat(test.want+" ", 3)))
				b.wantPublished(t, p, test.published)
				left := b.events.take(smartcred.EventKeyLeftOut)
				if len(left) != len(test.denied) || left[0].KeyID != "current" || left[0].Version != "current" || !errors.Is(left[0].Err, test.err) {
					t.Errorf("events %+v", left)
				}

				for _, name := range test.denied {
					ring.alter(name, func(key *ringKey) { key.denied = nil })
				}
				time.Sleep(2 * time.Minute)
				b.mustLogin(t)
				b.wantSent(t, "current")
			})
		})
	}
}

// No key can sign: the error says so, and the server was not asked.
func TestNoKeyCanSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		for _, name := range []string{"previous", "current"} {
			ring.add(name, nil)
			ring.alter(name, func(key *ringKey) { key.denied = smartcred.ErrDenied })
		}
		b, _ := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		var failed *provider.CredentialError
		if err := b.login(t); !errors.As(err, &failed) || !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("got %v, want a CredentialError of ErrDenied", err)
		}
		b.wantSent(t, "")
	})
}

// A new key whose signatures do not verify never displaces one that works.
func TestWrongNewKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("good", nil)
		b, _ := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		b.mustLogin(t)
		ring.add("bad", nil)
		ring.alter("bad", func(key *ringKey) { key.private = newECKey() })
		time.Sleep(time.Minute)
		for range 100 {
			b.mustLogin(t)
			time.Sleep(time.Minute)
		}
		b.wantSent(t, strings.TrimSpace(strings.Repeat("good ", 101)))
		left := b.events.take(smartcred.EventKeyLeftOut)
		if len(left) == 0 || left[0].Version != "bad" || !errors.Is(left[0].Err, signer.ErrBadSignature) {
			t.Errorf("events %+v", left)
		}
		if len(left) > 2 { // once an hour it is looked at again
			t.Errorf("%d events in 100 minutes", len(left))
		}
	})
}

// An emergency does not wait for publish_for: the server refuses the only key
// that may sign, and the one that is published for later is taken.
func TestStagedKeyInAnEmergency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("old", nil)
		ring.add("staged", func(key *signer.Key) { key.NotBefore = time.Now().Add(24 * time.Hour) })
		b, p := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		b.mustLogin(t)
		b.serverTakes(t, p, "staged")
		b.mustLogin(t)
		b.mustLogin(t)
		b.wantSent(t, "old old! old! staged staged") // what worked there is sent once more
		time.Sleep(24 * time.Hour)
		b.mustLogin(t)
		b.wantSent(t, "staged")
		if status := p.Status(t.Context(), clientID, b.srv.URL); status.Adopted || status.InForce.Version != "staged" {
			t.Errorf("status %+v", status)
		}
	})
	// There is nothing but a staged key.
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("staged", func(key *signer.Key) { key.NotBefore = time.Now().Add(24 * time.Hour) })
		b, _ := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		b.mustLogin(t)
		b.wantSent(t, "staged")
		if event := b.events.one(t, smartcred.EventKeyActivated); event.Version != "staged" || event.Detail == "" {
			t.Errorf("event %+v", event)
		}
	})
}

func TestKeyIDWithTwoKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("one", nil)
		ring.add("two", nil)
		p := keyProvider(t, ring, signer.KeySetOptions{KeyID: "registered"}, provider.RotationOptions{}, smartcred.Discard)
		var problem *smartcred.ConfigError
		if _, err := p.KeySet().Published(t.Context()); !errors.As(err, &problem) || problem.Option != "key_id" {
			t.Errorf("at start: %v, want a ConfigError of key_id", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		ring.add("one", nil)
		b, p := newKeyBed(t, ring, signer.KeySetOptions{KeyID: "registered"}, provider.RotationOptions{})
		b.mustLogin(t)
		ring.add("two", nil)
		time.Sleep(time.Minute)
		b.mustLogin(t)
		b.wantSent(t, "registered registered")
		b.wantPublished(t, p, "registered")
		if event := b.events.one(t, smartcred.EventKeyLeftOut); event.Version != "two" || event.Err == nil {
			t.Errorf("event %+v", event)
		}
	})
}

// The life of keys of a versioned backend, with the events at each turn: a new
// version is published at once, signs when its time has come, and the one that was
// replaced twice leaves a day after the first time.
func TestLifeOfVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const publishFor = 12 * time.Hour
		ring := new(keyring)
		b, p := newBedOfVersions(t, ring, publishFor)
		want := func(set, sent string, wanted ...string) {
			t.Helper()
			b.mustLogin(t)
			b.wantPublished(t, p, set)
			b.wantSent(t, sent)
			var got []string
			for _, kind := range []smartcred.EventKind{
				smartcred.EventKeyPublished, smartcred.EventKeyActivated, smartcred.EventKeyRetired, smartcred.EventKeyRevoked,
			} {
				for _, event := range b.events.take(kind) {
					if event.KeyID != event.Version || event.Backend == "" {
						t.Errorf("event %+v", event)
					}
					got = append(got, strings.TrimPrefix(string(kind), "key_")+" "+event.Version)
				}
			}
			if strings.Join(got, ", ") != strings.Join(wanted, ", ") {
				t.Errorf("events %q, want %q", got, wanted)
			}
		}
		add := func(version string) {
			ring.add(version, func(key *signer.Key) { key.NotBefore = time.Now().Add(publishFor) })
			time.Sleep(time.Minute)
		}
		want("v1", "v1", "published v1", "activated v1")
		add("v2")
		want("v2 v1", "v1", "published v2")
		time.Sleep(publishFor - 2*time.Minute)
		want("v2 v1", "v1")
		time.Sleep(2 * time.Minute)
		want("v2 v1", "v2", "activated v2")
		time.Sleep(30 * 24 * time.Hour)
		want("v2 v1", "v2")
		add("v3")
		want("v3 v2 v1", "v2", "published v3")
		time.Sleep(publishFor)
		// v1's successor took over long ago: it leaves as soon as v2 is previous.
		want("v3 v2", "v3", "activated v3", "retired v1")
		add("v4")
		time.Sleep(publishFor)
		want("v4 v3 v2", "v4", "published v4", "activated v4")
		time.Sleep(publishFor)
		want("v4 v3", "v4", "retired v2")
	})
}

func newBedOfVersions(t *testing.T, ring *keyring, publishFor time.Duration) (*bed, *provider.PrivateKeyJWT) {
	t.Helper()
	ring.add("v1", nil)
	return newKeyBed(t, ring, signer.KeySetOptions{PublishFor: publishFor}, provider.RotationOptions{})
}

// However fast versions come, four keys are published, and the one that signs is
// among them.
func TestFourKeysArePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ring := new(keyring)
		b, p := newBedOfVersions(t, ring, 24*time.Hour)
		for i := range 8 {
			ring.add(fmt.Sprint("staged-", i), func(key *signer.Key) { key.NotBefore = time.Now().Add(24 * time.Hour) })
			time.Sleep(time.Hour)
		}
		b.mustLogin(t)
		b.wantSent(t, "v1")
		set := strings.Fields(b.published(t, p))
		if len(set) != 4 || set[3] != "v1" || set[2] != "staged-0" {
			t.Errorf("published: %s", set)
		}
	})
}

// A period that is too short for servers to fetch the new set is refused.
func TestPublishForTooShort(t *testing.T) {
	_, err := provider.NewPrivateKeyJWT(new(keyring), &provider.PrivateKeyJWTOptions{
		KeySet: &signer.KeySetOptions{PublishFor: 30 * time.Minute},
	})
	var problem *smartcred.ConfigError
	if !errors.As(err, &problem) || problem.Option != "publish_for" {
		t.Errorf("got %v, want a ConfigError of publish_for", err)
	}
}
