package smartauth_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// userSession returns a user's token of srv.
func userSession(t *testing.T, srv *smartauthtest.Server, scopes ...string) (*smartauth.Client, *smartauth.Token) {
	t.Helper()
	const callback = "https://app.example.test/callback"
	srv.AddClient(smartauthtest.Client{ID: testClient, Secrets: []string{testSecret}, RedirectURIs: []string{callback}})
	p, err := provider.NewClientSecretPost(secretsource.Static([]byte(testSecret)), &provider.SecretOptions{
		Rotation: &provider.RotationOptions{Observer: smartcred.Discard},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	client := newClient(t, srv, func(cfg *smartauth.Config) {
		cfg.Provider, cfg.RedirectURL, cfg.Scopes = p, callback, scopes
	})
	launch, err := client.StartLaunch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	back, err := srv.Authorize(t.Context(), launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.Exchange(t.Context(), launch, back.Query())
	if err != nil {
		t.Fatal(err)
	}
	return client, token
}

func TestSessionRenewsAndStoresFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client, token := userSession(t, srv, "launch/patient", "patient/*.rs", "offline_access")
		var stored []*smartauth.Token
		broken := errors.New("database is down")
		source := client.SessionSource(token, &smartauth.SessionOptions{Store: func(_ context.Context, next *smartauth.Token) error {
			if len(stored) == 0 && broken != nil {
				return broken
			}
			stored = append(stored, next)
			return nil
		}})
		time.Sleep(301 * time.Second)
		before := srv.TokenRequests()
		if _, err := source.Token(t.Context()); !errors.Is(err, broken) {
			t.Fatalf("err = %v: a token was used before it was stored", err)
		}
		broken = nil
		time.Sleep(2 * time.Second)
		got, err := source.Token(t.Context())
		if err != nil || len(stored) != 1 || stored[0] != got {
			t.Fatalf("err = %v, %d stored", err, len(stored))
		}
		if n := srv.TokenRequests() - before; n != 1 {
			t.Errorf("%d refresh requests, want 1: the unstored answer is kept", n)
		}
	})
}

// TestRefusedSessionDoesNotStorm: the provider starts no back-off for a refresh,
// so the source's own has to hold.
func TestRefusedSessionDoesNotStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client, token := userSession(t, srv, "launch/patient", "patient/*.rs", "offline_access")
		source := client.SessionSource(token, nil)
		srv.SetSecrets(testClient, "another")
		time.Sleep(301 * time.Second)
		before := srv.TokenRequests()
		for range 3600 {
			if _, err := source.Token(t.Context()); err == nil {
				t.Fatal("a token")
			}
			time.Sleep(time.Second)
		}
		if n := srv.TokenRequests() - before; n > 2*80 {
			t.Errorf("%d refresh requests in an hour", n)
		}
		srv.SetSecrets(testClient, testSecret)
		time.Sleep(time.Minute)
		if _, err := source.Token(t.Context()); err != nil {
			t.Errorf("after the repair: %v", err)
		}
	})
}

func TestUncertainRefreshIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client, token := userSession(t, srv, "launch/patient", "patient/*.rs", "offline_access")
		source := client.SessionSource(token, nil)
		time.Sleep(301 * time.Second)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Drop: true, Stage: smartauthtest.Done, Times: 1})
		before := srv.TokenRequests()
		for range 10 {
			if _, err := source.Token(t.Context()); !errors.Is(err, smartauth.ErrGrantUncertain) {
				t.Errorf("err = %v", err)
			}
			time.Sleep(time.Minute)
		}
		if n := srv.TokenRequests() - before; n != 1 {
			t.Errorf("the refresh token was sent %d times", n)
		}
	})
}

// TestSessionWithoutRefreshToken is served until it expires: one 401 for one
// resource does not end it.
func TestSessionWithoutRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client, token := userSession(t, srv, "launch/patient", "patient/*.rs")
		source := client.SessionSource(token, nil)
		if source.Drop(token) {
			t.Error("dropped, and there is no other")
		}
		for time.Since(token.Received) < 299*time.Second {
			if got, err := source.Token(t.Context()); err != nil || got != token {
				t.Fatalf("after %s: %v", time.Since(token.Received), err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		if _, err := source.Token(t.Context()); !errors.Is(err, provider.ErrInvalidGrant) {
			t.Errorf("err = %v", err)
		}
	})
}

func TestSessionOfNoToken(t *testing.T) {
	srv := newServer(t, nil)
	source := newClient(t, srv, nil).SessionSource(nil, nil)
	if _, err := source.Token(t.Context()); !errors.Is(err, provider.ErrInvalidGrant) {
		t.Errorf("err = %v", err)
	}
}
