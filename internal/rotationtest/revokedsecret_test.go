package rotationtest_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
)

// checkDropped checks what follows a revocation: after one refresh the token that
// was got with the credential is dropped, the next request gets another (or err),
// and for an hour no request is made with what was revoked.
func (b *bed) checkDropped(t *testing.T, revoked string, err error) {
	t.Helper()
	b.sent()
	b.events.take(smartcred.EventTokenDropped)
	old, _ := b.client.Token(t.Context())
	if old == nil {
		t.Fatal("the token did not live on until the check")
	}
	time.Sleep(time.Minute)
	_, _ = b.client.Token(t.Context()) // starts the check, while the old token serves
	time.Sleep(2 * time.Second)        // a missing file is looked at twice
	event := b.events.one(t, smartcred.EventTokenDropped)
	if event.ClientID != clientID || event.Server != b.srv.URL || !errors.Is(event.Err, provider.ErrRevoked) {
		t.Errorf("event %+v", event)
	}
	if jwt := event.Method == string(provider.MethodPrivateKeyJWT); event.Version == "" || jwt != (event.KeyID != "") || jwt && b.names[event.KeyID] != revoked && event.KeyID != revoked {
		t.Errorf("the event does not name %s: %+v", revoked, event)
	}
	for start := time.Now(); time.Since(start) < time.Hour; time.Sleep(10 * time.Second) {
		token, got := b.client.Token(t.Context())
		if !errors.Is(got, err) {
			t.Fatalf("after the revocation: %v, want %v", got, err)
		}
		if token == old {
			t.Fatal("the token that was got with the revoked credential is still in use")
		}
	}
	for _, sent := range strings.Fields(b.sent()) {
		if strings.TrimSuffix(sent, "!") == revoked {
			t.Error("a request was made with the revoked credential")
		}
	}
}

// A revocation is one way to take a secret out of use. Its source has "one" as
// current and "zero" as previous.
type revocation struct {
	source func(t *testing.T) secretsource.Source
	revoke map[string]func(t *testing.T, p provider.Rotator) // of current, of previous
}

func revocations() map[string]revocation {
	var path string
	var source *secrets
	const variable = "ROTATIONTEST_SECRET"
	fromTest := func(*testing.T) secretsource.Source {
		source = newSecrets("one", "zero")
		return source
	}
	answer := func(stage secretsource.Stage, err error) func(*testing.T, provider.Rotator) {
		return func(*testing.T, provider.Rotator) { source.fail(stage, err) }
	}
	unset := func(name string) func(*testing.T, provider.Rotator) {
		return func(t *testing.T, _ provider.Rotator) {
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	revokedByName := func(version string) func(*testing.T, provider.Rotator) {
		return func(t *testing.T, p provider.Rotator) { p.SetRevoked(t.Context(), []string{"another", version}) }
	}
	return map[string]revocation{
		"file gone": {
			source: func(t *testing.T) secretsource.Source {
				path = filepath.Join(t.TempDir(), "secret")
				writeFile(t, path, []byte("one\n"))
				writeFile(t, path+".previous", []byte("zero\n"))
				return secretsource.File(path, nil)
			},
			revoke: map[string]func(*testing.T, provider.Rotator){
				"current":  func(t *testing.T, _ provider.Rotator) { remove(t, path) },
				"previous": func(t *testing.T, _ provider.Rotator) { remove(t, path+".previous") },
			},
		},
		"variable unset": {
			source: func(t *testing.T) secretsource.Source {
				t.Setenv(variable, "one")
				t.Setenv(variable+"_PREVIOUS", "zero")
				return secretsource.Env(variable, nil)
			},
			revoke: map[string]func(*testing.T, provider.Rotator){
				"current": unset(variable), "previous": unset(variable + "_PREVIOUS"),
			},
		},
		"named in the configuration": {
			source: fromTest,
			revoke: map[string]func(*testing.T, provider.Rotator){
				"current": revokedByName("v-one"), "previous": revokedByName("v-zero"),
			},
		},
		"source has it no more": {
			source: fromTest,
			revoke: map[string]func(*testing.T, provider.Rotator){
				"current":  answer(secretsource.Current, smartcred.ErrNotFound),
				"previous": answer(secretsource.Previous, smartcred.ErrNotFound),
			},
		},
		"source denies previous": {
			source: fromTest,
			revoke: map[string]func(*testing.T, provider.Rotator){
				"previous": answer(secretsource.Previous, smartcred.ErrDenied),
			},
		},
	}
}

func TestRevokedSecret(t *testing.T) {
	for name, r := range revocations() {
		if revoke := r.revoke["current"]; revoke != nil {
			t.Run(name+", current", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					// The server takes previous too: it is not sent in its place.
					b, p := newSecretBed(t, r.source(t), provider.RotationOptions{}, "one", "zero")
					b.token(t)
					b.wantSent(t, "one")
					revoke(t, p)
					b.checkDropped(t, "one", smartcred.ErrNotFound)
					if n := b.srv.TokenRequests(); n != 1 {
						t.Errorf("%d token requests, want the one before the revocation", n)
					}
				})
			})
		}
		t.Run(name+", previous", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, p := newSecretBed(t, r.source(t), provider.RotationOptions{}, "zero")
				b.token(t)
				b.wantSent(t, "one! zero")
				b.srv.SetSecrets(clientID, "one", "zero")
				r.revoke["previous"](t, p)
				b.checkDropped(t, "zero", nil)
			})
		})
	}
}

// The source refuses to say what the secret is: its use ends, and tokens live on.
func TestDeniedSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newSecrets("one", "zero")
		b, _ := newSecretBed(t, source, provider.RotationOptions{}, "one", "zero")
		live := b.token(t)
		b.wantSent(t, "one")
		source.fail(secretsource.Current, smartcred.ErrDenied)
		time.Sleep(61 * time.Second)
		for range 100 { // until the token is to be renewed
			if token := b.token(t); token != live {
				t.Fatal("another token")
			}
			time.Sleep(time.Second)
		}
		if err := b.login(t); !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("a new request: %v, want ErrDenied", err)
		}
		if event := b.events.one(t, smartcred.EventBackendDenied); event.Version != "v-one" || event.Backend == "" {
			t.Errorf("event %+v", event)
		}
		time.Sleep(5 * time.Minute)
		if _, err := b.client.Token(t.Context()); !errors.Is(err, smartcred.ErrDenied) {
			t.Errorf("after the token's end: %v, want ErrDenied", err)
		}
		b.wantSent(t, "")
		if dropped := b.events.take(smartcred.EventTokenDropped); len(dropped) > 0 {
			t.Errorf("dropped: %+v", dropped)
		}
	})
}

func TestPreviousSecretIsNeverUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newSecrets("one", "zero")
		never := provider.RotationOptions{Previous: provider.PreviousNever}
		b, _ := newSecretBed(t, source, never, "zero")
		if err := b.login(t); !errors.Is(err, provider.ErrInvalidClient) {
			t.Errorf("got %v, want the refusal of current", err)
		}
		b.wantSent(t, "one!")
		if n := source.lookups(secretsource.Previous); n != 0 {
			t.Errorf("previous was looked up %d times", n)
		}
	})
	// What leaked was replaced, and is previous now.
	synctest.Test(t, func(t *testing.T) {
		source := newSecrets("one", "")
		never := provider.RotationOptions{Previous: provider.PreviousNever}
		b, _ := newSecretBed(t, source, never, "one")
		b.token(t)
		b.wantSent(t, "one")
		b.srv.SetSecrets(clientID, "one", "two")
		source.set("two", "one")
		b.checkDropped(t, "one", nil)
	})
}

// In an outage what was looked up serves on, but for what the configuration revokes.
func TestRevokedSecretInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newSecrets("one", "zero")
		b, p := newSecretBed(t, source, provider.RotationOptions{}, "one", "zero")
		b.token(t)
		source.fail(secretsource.Current, smartcred.ErrUnavailable)
		source.fail(secretsource.Previous, smartcred.ErrUnavailable)
		time.Sleep(2 * time.Minute)
		b.mustLogin(t)
		b.wantSent(t, "one one")
		if status := p.Status(t.Context(), clientID, b.srv.URL); !errors.Is(status.Degraded, smartcred.ErrUnavailable) {
			t.Errorf("degraded: %v, want ErrUnavailable", status.Degraded)
		}
		if event := b.events.one(t, smartcred.EventStaleInUse); event.Version != "v-one" {
			t.Errorf("event %+v", event)
		}
		p.SetRevoked(t.Context(), []string{"v-one"})
		b.checkDropped(t, "one", smartcred.ErrNotFound)
	})
}
