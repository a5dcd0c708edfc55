package smartauth_test

import (
	"errors"
	"testing"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestRevoke(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	app, backend := newClient(t, srv, webApp), newClient(t, srv, nil)
	session, access := login(t, srv, app), mustToken(t, backend)

	if err := app.Revoke(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	if srv.Active(session.AccessToken()) {
		t.Error("the access token is active after its refresh token was revoked")
	}
	if _, err := app.Refresh(t.Context(), session, nil); !errors.Is(err, provider.ErrInvalidGrant) {
		t.Errorf("refresh after revocation: got %v, want ErrInvalidGrant", err)
	}
	if err := app.Revoke(t.Context(), session); err != nil {
		t.Errorf("once more: %v", err)
	}

	if err := app.Revoke(t.Context(), access); !errors.Is(err, provider.ErrUnauthorizedClient) {
		t.Errorf("another client's token: got %v, want ErrUnauthorizedClient", err)
	}
	if err := backend.Revoke(t.Context(), access); err != nil || srv.Active(access.AccessToken()) {
		t.Errorf("an access token: %v, active %t", err, srv.Active(access.AccessToken()))
	}
	for i, want := range []string{"refresh_token", "refresh_token", "access_token", "access_token"} {
		if hint := srv.RequestsTo(smartauthtest.EndpointRevoke)[i].Form.Get("token_type_hint"); hint != want {
			t.Errorf("request %d: hint %q, want %q", i, hint, want)
		}
	}
	for _, token := range []*smartauth.Token{nil, {}} {
		if err := app.Revoke(t.Context(), token); !errors.Is(err, provider.ErrInvalidRequest) {
			t.Errorf("no token: got %v, want ErrInvalidRequest", err)
		}
	}
}
