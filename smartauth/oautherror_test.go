package smartauth_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// fixedSecret posts a secret of the test's choice.
type fixedSecret string

func (s fixedSecret) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	return send(ctx, provider.NewCredential(provider.CredentialOptions{
		Method:    provider.MethodClientSecretPost,
		Params:    url.Values{"client_id": {req.ClientID}, "client_secret": {string(s)}},
		Sensitive: [][]byte{[]byte(s)},
	}))
}

// A secret that is part of a registered error code does not hide what went
// wrong; an unregistered code may be the secret itself.
func TestErrorCodesAreNotRedacted(t *testing.T) {
	for _, test := range []struct {
		secret, code string
		want         string
		is           error
	}{
		{"client", "invalid_client", "invalid_client", provider.ErrInvalidClient},
		{"grant", "invalid_grant", "invalid_grant", provider.ErrInvalidGrant},
		{"temporarily", "temporarily_unavailable", "temporarily_unavailable", nil},
		{"token", "invalid_token", "invalid_token", nil},
		{"client", "bad_client", "bad_[redacted]", nil},
		{"client", "Invalid_client", "Invalid_[redacted]", nil},
	} {
		t.Run(test.secret+" in "+test.code, func(t *testing.T) {
			srv := newServer(t, nil)
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 401, Error: test.code, Description: "the " + test.secret + " is wrong"})
			client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Provider = fixedSecret(test.secret) })
			_, err := client.Token(t.Context())
			var oauth *provider.TokenError
			if !errors.As(err, &oauth) || oauth.Code != test.want || test.is != nil && !errors.Is(err, test.is) {
				t.Fatalf("got %v, want the code %s", err, test.want)
			}
			if want := "the [redacted] is wrong"; oauth.Description != want {
				t.Errorf("description %q, want %q", oauth.Description, want)
			}
		})
	}
}

func TestCallbackErrorCodesAreNotRedacted(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	for code, want := range map[string]string{"access_denied": "access_denied", "my_access": "my_[redacted]"} {
		launch := startLaunch(t, client, nil)
		_, err := client.Exchange(t.Context(), launch, url.Values{"state": {launch.State()}, "error": {code}, "code": {"access"}})
		var callback *smartauth.CallbackError
		if !errors.As(err, &callback) || callback.Code != want || strings.Contains(callback.Description, "access") {
			t.Errorf("got %v, want the code %s", err, want)
		}
	}
}
