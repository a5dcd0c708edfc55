package rotationtest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// What was learned outlives the process: the credential in force, refusals,
// back-off and budget, and never a value.
func TestStateSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "state")
		options := func() provider.RotationOptions { return provider.RotationOptions{Memory: rotation.File(file)} }
		source := newSecrets("wrong-secret", "right-secret")
		b, _ := newSecretBed(t, source, options(), "right-secret")
		restart := func() provider.Rotator {
			p := secretProvider(t, source, options(), b.events)
			b.connect(t, p)
			return p
		}
		b.mustLogin(t)
		b.wantSent(t, "wrong-secret! right-secret")
		p := restart()
		b.mustLogin(t)
		b.wantSent(t, "right-secret")
		if status := p.Status(t.Context(), clientID, b.srv.URL); status.InForce.Version != "v-right-secret" || status.HourlyBudget != 11 {
			t.Errorf("status %+v", status)
		}

		b.srv.SetSecrets(clientID, "another")
		if err := b.login(t); !errors.Is(err, provider.ErrInvalidClient) {
			t.Errorf("got %v, want the refusals", err)
		}
		b.sent()
		for range 3 {
			p = restart()
			var refused *provider.RefusedError
			if err := b.login(t); !errors.As(err, &refused) || refused.Until.IsZero() {
				t.Errorf("got %v, want the back-off's error", err)
			}
		}
		b.wantSent(t, "")
		if status := p.Status(t.Context(), clientID, b.srv.URL); status.BackoffUntil.IsZero() {
			t.Errorf("status %+v", status)
		}
		p.Reset(t.Context(), clientID, b.srv.URL)
		restart()
		_ = b.login(t)
		b.wantSent(t, "wrong-secret! right-secret!")

		kept, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(kept), `"wrong-secret`) || strings.Contains(string(kept), `"right-secret`) {
			t.Error("the file holds a secret")
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // keys
		file := filepath.Join(t.TempDir(), "state")
		path, names := newKeyFiles(t, "next", "current")
		options := provider.RotationOptions{Memory: rotation.File(file)}
		b, p := newKeyBed(t, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, options)
		maps.Copy(b.names, names)
		b.serverTakes(t, p, "next")
		b.mustLogin(t)
		b.wantSent(t, "current! next")
		p = keyProvider(t, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, provider.RotationOptions{Memory: rotation.File(file)}, b.events)
		b.connect(t, p)
		time.Sleep(2 * time.Hour)
		b.mustLogin(t)
		b.wantSent(t, "next")
		if status := p.Status(t.Context(), clientID, b.srv.URL); !status.Adopted || b.names[status.InForce.KeyID] != "next" {
			t.Errorf("status %+v", status)
		}
	})
}

// brokenMemory is one whose storage has gone.
type brokenMemory struct{}

func (brokenMemory) Update(context.Context, string, func([]byte) []byte) error {
	return errors.New("test: read-only file system")
}

// Where the state can't be kept, an event says so and everything goes on.
func TestMemoryThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newSecretBed(t, newSecrets("one", "zero"), provider.RotationOptions{Memory: brokenMemory{}}, "zero")
		b.mustLogin(t)
		b.mustLogin(t)
		b.wantSent(t, "one! zero zero")
		if event := b.events.take(smartcred.EventMemoryFailed); len(event) == 0 || event[0].Err == nil {
			t.Errorf("events %+v", event)
		}
	})
}

// overlapped is a client whose source says when the current credential became so.
var overlapped = map[string]func(t *testing.T) (b *bed, p provider.Rotator, serverTakes func(names ...string)){
	"secret": func(t *testing.T) (*bed, provider.Rotator, func(...string)) {
		source := newSecrets("new", "old")
		source.change(secretsource.Current, func(s *secretsource.Secret) { s.Created = time.Now() })
		b, p := newSecretBed(t, source, provider.RotationOptions{}, "old")
		return b, p, func(names ...string) { b.srv.SetSecrets(clientID, names...) }
	},
	"key": func(t *testing.T) (*bed, provider.Rotator, func(...string)) {
		ring := new(keyring)
		ring.add("old", nil)
		ring.add("new", func(key *signer.Key) { key.NotBefore = time.Now() })
		b, p := newKeyBed(t, ring, signer.KeySetOptions{}, provider.RotationOptions{})
		takes := func(names ...string) { b.serverTakes(t, p, names...) }
		takes("old")
		return b, p, takes
	},
}

// Seven days after the current credential became so the one before it is not used
// any more, but where it is in force: there a warning a day says so.
func TestOverlap(t *testing.T) {
	const week = 7 * 24 * time.Hour
	for name, setUp := range overlapped {
		t.Run(name+", in force", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _, serverTakes := setUp(t)
				start := time.Now()
				for time.Since(start) < week {
					b.mustLogin(t)
					time.Sleep(6 * time.Hour)
				}
				if early := b.events.take(smartcred.EventPreviousInForce); len(early) > 0 {
					t.Errorf("before the week is over: %+v", early)
				}
				for time.Since(start) < week+3*24*time.Hour {
					time.Sleep(6 * time.Hour)
					b.mustLogin(t)
				}
				warned := b.events.take(smartcred.EventPreviousInForce)
				if len(warned) != 3 {
					t.Errorf("%d warnings in three days, want one a day", len(warned))
				}
				for _, event := range warned {
					if !strings.HasSuffix(event.Version, "old") || event.ClientID != clientID || event.Server != b.srv.URL || event.Method == "" {
						t.Errorf("event %+v", event)
					}
				}
				// Once the server has taken the current one, the other is over there.
				serverTakes("new")
				time.Sleep(2 * time.Hour)
				b.mustLogin(t)
				b.sent()
				serverTakes("old")
				if err := b.login(t); !errors.Is(err, provider.ErrInvalidClient) {
					t.Errorf("got %v, want the refusal", err)
				}
				for _, sent := range strings.Fields(b.sent()) {
					if sent != "new!" {
						t.Errorf("a request with %s", sent)
					}
				}
			})
		})
		t.Run(name+", never in force", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _, _ := setUp(t)
				time.Sleep(week + time.Second)
				if err := b.login(t); !errors.Is(err, provider.ErrInvalidClient) {
					t.Errorf("got %v, want the refusal", err)
				}
				b.wantSent(t, "new!")
			})
		})
		t.Run(name+", within the week", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _, _ := setUp(t)
				time.Sleep(week - time.Second)
				b.mustLogin(t)
				b.wantSent(t, "new! old")
			})
		})
	}
}

// Previous is looked up when it is needed, and forgotten when it is not.
func TestPreviousIsLookedUpWhenNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newSecrets("one", "zero")
		b, _ := newSecretBed(t, source, provider.RotationOptions{}, "one")
		asked := func(want int) {
			t.Helper()
			if n := source.lookups(secretsource.Previous); n != want {
				t.Errorf("previous was looked up %d times, want %d", n, want)
			}
		}
		for range 100 {
			b.mustLogin(t)
			time.Sleep(time.Minute)
		}
		b.token(t)
		time.Sleep(90 * time.Second)
		b.token(t) // its credential is checked
		synctest.Wait()
		asked(0)

		// Refused by mistake: previous is looked up, and current is taken after all.
		b.srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 401, Error: "invalid_client", Times: 1})
		b.mustLogin(t)
		asked(1)
		b.srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 401, Error: "invalid_client", Times: 1})
		b.mustLogin(t)
		asked(2) // it was forgotten in between

		b.srv.SetSecrets(clientID, "zero")
		time.Sleep(time.Hour)
		b.sent()
		b.mustLogin(t)
		b.mustLogin(t)
		asked(3) // in force: it is kept
		time.Sleep(time.Hour)
		b.srv.SetSecrets(clientID, "one")
		b.mustLogin(t)
		before := source.lookups(secretsource.Previous)
		time.Sleep(time.Hour)
		for range 10 {
			b.mustLogin(t)
		}
		asked(before)
	})
}

// What the engine knows is visible, by client and server.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newSecrets("one", "zero")
		b, p := newSecretBed(t, source, provider.RotationOptions{}, "zero")
		status := func() provider.Status { return p.Status(t.Context(), clientID, b.srv.URL) }
		if s := status(); s.InForce.Version != "" || len(s.Known) != 0 || s.HourlyBudget != 12 || s.DailyBudget != 40 || s.Degraded != nil {
			t.Errorf("at first: %+v", s)
		}
		b.mustLogin(t)
		s := status()
		if s.Scope != (rotation.Scope{ClientID: clientID, Server: b.srv.URL}) || s.InForce.Version != "v-zero" || s.InForce.Worked.IsZero() || s.Adopted {
			t.Errorf("with previous in force: %+v", s)
		}
		if len(s.Known) != 2 || s.Known[1].Version != "v-one" || s.Known[1].Refusals != 1 || s.HourlyBudget != 11 || s.DailyBudget != 39 {
			t.Errorf("with previous in force: %+v", s)
		}
		if until := time.Until(s.Known[1].RefusedUntil); until < 24*time.Second || until > 30*time.Second {
			t.Errorf("current comes last for %s, want 30 s less a fifth at most", until)
		}
		b.srv.SetSecrets(clientID)
		err := b.login(t)
		s = status()
		if until := time.Until(s.BackoffUntil); until <= 0 || until > time.Second {
			t.Errorf("back-off for %s, want 1 s at most: one of them had worked", until)
		}
		var refused *provider.RefusedError
		if !errors.As(err, &refused) || s.LastError == nil || s.LastError.Error() != refused.Error() {
			t.Errorf("last error %v, want %v", s.LastError, err)
		}
		for _, version := range []string{"v-one", "v-zero"} {
			if !strings.Contains(err.Error(), version) {
				t.Errorf("the error does not name %s: %v", version, err)
			}
		}
		p.Reset(t.Context(), clientID, b.srv.URL)
		if s := status(); len(s.Known) != 0 || !s.BackoffUntil.IsZero() || s.HourlyBudget != 12 {
			t.Errorf("after a reset: %+v", s)
		}
	})
}

// Security events as they are logged: level, message and fields are stable, and no
// value is in them.
func TestEventsInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		logger := smartcred.LogTo(slog.New(slog.NewJSONHandler(&out, nil)))
		b := newBed(t, nil)
		b.srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{"s3cret-right"}})
		source := newSecrets("", "")
		source.values[secretsource.Current] = secretsource.New([]byte("s3cret-wrong"), "v2")
		source.values[secretsource.Previous] = secretsource.New([]byte("s3cret-right"), "v1")
		b.connect(t, secretProvider(t, source, provider.RotationOptions{}, logger))
		b.mustLogin(t)
		b.srv.SetSecrets(clientID, "s3cret-other")
		_ = b.login(t)

		type event struct{ kind, level, version string }
		want := []event{
			{"credential_fallback", "WARN", "v2"}, {"credential_selected", "INFO", "v1"},
			{"credential_fallback", "WARN", "v1"}, {"all_refused", "WARN", "v2"},
		}
		var got []event
		for line := range strings.Lines(out.String()) {
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Fatal(err)
			}
			text := func(name string) string { value, _ := fields[name].(string); return value }
			got = append(got, event{text("kind"), text("level"), text("version")})
			if text("msg") != "smartcred: "+text("kind") || fields["client_id"] != clientID || fields["server"] != b.srv.URL || fields["method"] != "client_secret_post" || text("detail") == "" {
				t.Errorf("log line %s", line)
			}
			if strings.Contains(line, "s3cret") {
				t.Errorf("a secret in the log: %s", line)
			}
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(event{})); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// Another endpoint is an event, and no client secret goes there.
func TestEndpointChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newSecretBed(t, newSecrets("one", ""), provider.RotationOptions{}, "one")
		b.mustLogin(t)
		b.srv.SetConfigurationMember("token_endpoint", "https://elsewhere.example.test/token")
		time.Sleep(2 * time.Hour)
		if err := b.login(t); err == nil {
			t.Error("a token from elsewhere")
		}
		b.wantSent(t, "one")
		changed := b.events.take(smartcred.EventEndpointChanged)
		if len(changed) == 0 || changed[0].ClientID != clientID || changed[0].Server != b.srv.URL {
			t.Errorf("events %+v", changed)
		}
	})
}
