package provider_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
)

// TestOneObserverIsEnough: nothing below a provider with an observer falls back
// on slog's default logger.
func TestOneObserverIsEnough(t *testing.T) {
	var logged bytes.Buffer
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	defer slog.SetDefault(before)
	var kinds []smartcred.EventKind
	observer := smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) { kinds = append(kinds, e.Kind) })

	jwt, err := provider.NewPrivateKeyJWT(testSigner(t), &provider.PrivateKeyJWTOptions{Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	defer jwt.Close()
	ok := func(context.Context, provider.Credential) error { return nil }
	if err := jwt.Authenticate(t.Context(), provider.Request{ClientID: "app", URL: "https://ehr.example.test/token"}, ok); err != nil {
		t.Fatal(err)
	}
	want := []smartcred.EventKind{smartcred.EventKeyPublished, smartcred.EventKeyActivated, smartcred.EventCredentialSelected}
	if !slices.Equal(kinds, want) || logged.Len() > 0 {
		t.Errorf("events = %v, want %v; logged %s", kinds, want, logged.String())
	}
}

func TestRevokedSecretIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte("value"), 0o600); err != nil {
			t.Fatal(err)
		}
		var revoked []smartcred.Event
		p, err := provider.NewClientSecretPost(secretsource.File(path, nil), &provider.SecretOptions{
			Observer: smartcred.ObserverFunc(func(_ context.Context, e smartcred.Event) {
				if e.Kind == smartcred.EventSecretRevoked {
					revoked = append(revoked, e)
				}
			}),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var version string
		send := func(_ context.Context, c provider.Credential) error { version = c.Version; return nil }
		call := func() error { return p.Authenticate(t.Context(), provider.Request{ClientID: "app"}, send) }
		if err := call(); err != nil {
			t.Fatal(err)
		}
		p.SetRevoked(t.Context(), []string{version})
		for range 3 {
			if call() == nil {
				t.Fatal("a revoked secret was sent")
			}
		}
		if len(revoked) != 1 || revoked[0].Version != version {
			t.Errorf("by the configuration: events = %+v", revoked)
		}
		p.SetRevoked(t.Context(), nil)
		if err := call(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			time.Sleep(time.Minute)
			_ = call()
		}
		if len(revoked) != 2 || revoked[1].Version != version {
			t.Errorf("gone at its source: events = %+v", revoked)
		}
	})
}
