package fosite_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/smartcred/smartcred/integration/fositetest"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

// user is a client of a server, and a user's token.
type user struct {
	s      *fositetest.Server
	p      provider.Provider
	client *smartauth.Client
	token  *smartauth.Token
}

func newUser(t *testing.T, register func(*testing.T, *fositetest.Server, string) provider.Provider) user {
	t.Helper()
	s := fositetest.NewServer(t, true)
	p := register(t, s, "app")
	client := newClient(t, s, "app", p, fositetest.UserScopes)
	return user{s, p, client, fositetest.LogIn(t, s, client, fositetest.Get)}
}

// A session lives on through refresh tokens that change with every use, also
// over a restart with what was stored.
func TestRotatedRefreshTokenIsKept(t *testing.T) {
	u := newUser(t, loginByKey(signer.ES384))
	s, client, token := u.s, u.client, u.token
	var stored []byte
	options := &smartauth.SessionOptions{Store: func(_ context.Context, token *smartauth.Token) error {
		stored = token.Answer()
		return nil
	}}
	for range 3 {
		source := client.SessionSource(token, options)
		if !source.Drop(token) {
			t.Fatal("the token was not dropped")
		}
		renewed, err := source.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if renewed.RefreshToken() == token.RefreshToken() {
			t.Fatal("fosite rotates refresh tokens: this is the old one")
		}
		readPatient(t, &http.Client{Transport: client.Transport(source)}, s)
		if token, err = smartauth.ParseToken(stored, fositetest.UserScopes, renewed.Received); err != nil {
			t.Fatal(err)
		}
		if token.RefreshToken() != renewed.RefreshToken() || token.Context.Patient != fositetest.PatientID {
			t.Fatal("what was stored is not the token in use")
		}
	}
}

// fosite takes reuse for theft and ends the whole grant.
func TestReusedRefreshToken(t *testing.T) {
	u := newUser(t, loginByKey(signer.ES384))
	renewed, err := u.client.Refresh(t.Context(), u.token, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = u.client.Refresh(t.Context(), u.token, nil)
	refused(t, err, provider.ErrInvalidGrant, http.StatusBadRequest)
	_, err = u.client.Refresh(t.Context(), renewed, nil)
	refused(t, err, provider.ErrInvalidGrant, http.StatusBadRequest)
}

func TestRevokedRefreshToken(t *testing.T) {
	for _, l := range []struct {
		name     string
		register func(*testing.T, *fositetest.Server, string) provider.Provider
	}{
		{"client_secret_basic", loginBySecret(provider.MethodClientSecretBasic)},
		{"private_key_jwt", loginByKey(signer.ES384)},
	} {
		t.Run(l.name, func(t *testing.T) {
			u := newUser(t, l.register)
			if err := u.client.Revoke(t.Context(), u.token); err != nil {
				t.Fatal(err)
			}
			source := u.client.SessionSource(u.token, nil)
			source.Drop(u.token)
			before := len(u.s.TokenRequests())
			for range 2 {
				_, err := source.Token(t.Context())
				refused(t, err, provider.ErrInvalidGrant, http.StatusBadRequest)
			}
			if n := len(u.s.TokenRequests()) - before; n != 1 {
				t.Errorf("the revoked refresh token was sent %d times, want once", n)
			}
		})
	}
}

func TestIntrospection(t *testing.T) {
	u := newUser(t, loginBySecret(provider.MethodClientSecretBasic))
	caller, err := newClient(t, u.s, "app", u.p, fositetest.SystemScopes).Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asks := map[string]*smartauth.IntrospectOptions{
		"as the client":         nil,
		"with a token as SMART": {Bearer: caller},
	}
	for name, options := range asks {
		answer, err := u.client.Introspect(t.Context(), u.token.AccessToken(), options)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !answer.Active || answer.ClientID != "app" || answer.Subject != fositetest.UserSubject {
			t.Errorf("%s, a live token: %+v", name, answer)
		}
	}
	if err := u.client.Revoke(t.Context(), u.token); err != nil {
		t.Fatal(err)
	}
	for name, options := range asks {
		answer, err := u.client.Introspect(t.Context(), u.token.AccessToken(), options)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if answer.Active {
			t.Errorf("%s: a revoked token is active", name)
		}
	}
}

func TestRefusedCodes(t *testing.T) {
	t.Run("used before", func(t *testing.T) {
		s := fositetest.NewServer(t, true)
		client := newClient(t, s, "app", loginByKey(signer.ES384)(t, s, "app"), fositetest.UserScopes)
		launch, err := client.StartLaunch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		params := fositetest.Callback(t, s, launch, fositetest.Get)
		again, err := smartauth.RestoreLaunch(launch.Save())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Exchange(t.Context(), launch, params); err != nil {
			t.Fatal(err)
		}
		_, err = client.Exchange(t.Context(), again, params)
		refused(t, err, provider.ErrInvalidGrant, http.StatusBadRequest)
	})
	t.Run("of another launch", func(t *testing.T) {
		s := fositetest.NewServer(t, true)
		client := newClient(t, s, "app", loginByKey(signer.ES384)(t, s, "app"), fositetest.UserScopes)
		mine, err := client.StartLaunch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := client.StartLaunch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		params := fositetest.Callback(t, s, theirs, fositetest.Get)
		params.Set("state", mine.State()) // PKCE is what is left to stop it
		_, err = client.Exchange(t.Context(), mine, params)
		refused(t, err, provider.ErrInvalidGrant, http.StatusBadRequest)
	})
	t.Run("asked for with another aud", func(t *testing.T) {
		s := fositetest.NewServer(t, true)
		client := newClient(t, s, "app", loginByKey(signer.ES384)(t, s, "app"), fositetest.UserScopes)
		launch, err := client.StartLaunch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		params := fositetest.Callback(t, s, launch, func(browser *http.Client, launch *smartauth.Launch) (*http.Response, error) {
			form := launch.Form()
			form.Set("aud", "https://elsewhere.example/fhir")
			return browser.PostForm(launch.Endpoint(), form)
		})
		_, err = client.Exchange(t.Context(), launch, params)
		var answer *smartauth.CallbackError
		if !errors.As(err, &answer) || !errors.Is(err, provider.ErrInvalidRequest) {
			t.Errorf("got %v, want the callback's invalid_request", err)
		}
		if n := len(s.TokenRequests()); n != 0 {
			t.Errorf("%d token requests after an error callback", n)
		}
	})
}
