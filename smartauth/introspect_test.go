package smartauth_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestIntrospect(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	app := newClient(t, srv, webApp)
	token := login(t, srv, app)
	backend := newClient(t, srv, nil)
	own := mustToken(t, backend)
	for name, opts := range map[string]*smartauth.IntrospectOptions{
		"client authentication": {TokenTypeHint: "access_token"},
		"bearer":                {Bearer: own},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := backend.Introspect(t.Context(), token.AccessToken(), opts)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Active || got.ClientID != "web-app" || got.Subject != "user-1" || got.Issuer != srv.Issuer ||
				got.FHIRUser != srv.URL+"/Practitioner/prac-1" || got.Context.Patient != "pat-1" {
				t.Errorf("got %+v", got)
			}
			if diff := cmp.Diff(token.Scopes, got.Scopes); diff != "" {
				t.Errorf("scopes (-want +got):\n%s", diff)
			}
			if d := got.Expiry.Sub(token.Expiry); d.Abs() > time.Minute || got.IssuedAt.IsZero() {
				t.Errorf("expiry %s, want about %s", got.Expiry, token.Expiry)
			}
			if raw, ok := got.Member("token_type"); !ok || string(raw) != `"Bearer"` {
				t.Errorf("token_type %s", raw)
			}
			sent := srv.RequestsTo(smartauthtest.EndpointIntrospect)
			last := sent[len(sent)-1]
			if last.Form.Get("token_type_hint") != opts.TokenTypeHint || (last.AuthMethod == "bearer") != (opts.Bearer != nil) {
				t.Errorf("sent hint %q with %q", last.Form.Get("token_type_hint"), last.AuthMethod)
			}
		})
	}
	srv.RevokeTokens()
	got, err := backend.Introspect(t.Context(), token.AccessToken(), nil)
	if err != nil || got.Active || got.ClientID != "" {
		t.Errorf("a revoked token: %+v, %v", got, err)
	}
	if _, err := backend.Introspect(t.Context(), token.AccessToken(), &smartauth.IntrospectOptions{Bearer: own}); !isTokenError(err, "invalid_token") {
		t.Errorf("a revoked bearer: got %v, want invalid_token", err)
	}
	for _, opts := range []*smartauth.IntrospectOptions{nil, {Bearer: new(smartauth.Token)}} {
		value := map[bool]string{true: "", false: "x"}[opts == nil]
		if _, err := backend.Introspect(t.Context(), value, opts); !errors.Is(err, provider.ErrInvalidRequest) {
			t.Errorf("no token: got %v, want ErrInvalidRequest", err)
		}
	}
}

func isTokenError(err error, code string) bool {
	var oauth *provider.TokenError
	return errors.As(err, &oauth) && oauth.Code == code
}

func TestIntrospectAnswers(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       smartauth.Introspection
		bad        bool
	}{
		{name: "only active", body: `{"active":true}`, want: smartauth.Introspection{Active: true}},
		{name: "odd members", body: `{"active":true,"exp":"soon","iat":-1,"scope":7,"fhirUser":"https://evil.example.test/Patient/1","patient":[]}`,
			want: smartauth.Introspection{Active: true}},
		{name: "huge exp", body: `{"active":true,"exp":1e300}`, want: smartauth.Introspection{Active: true}},
		{name: "inactive says nothing", body: `{"active":false,"client_id":"x","exp":1}`},
		{name: "active in words", body: `{"active":"true"}`, bad: true},
		{name: "no active", body: `{"scope":"x"}`, bad: true},
		{name: "active twice", body: `{"active":false,"active":true}`, bad: true},
		{name: "other case", body: `{"Active":true}`, bad: true},
		{name: "HTML", body: `<html>`, bad: true},
		{name: "empty", body: ` `, bad: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := newServer(t, nil)
			srv.Fail(smartauthtest.EndpointIntrospect, smartauthtest.Fault{Body: test.body})
			got, err := newClient(t, srv, nil).Introspect(t.Context(), "x", nil)
			if test.bad {
				var server *smartauth.ServerError
				if got != nil || !errors.As(err, &server) || server.Status != 200 {
					t.Errorf("got %v, %v; want a ServerError", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(fmt.Sprintf("%+v", &smartauth.Introspection{Active: test.want.Active}), withoutAnswer(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// withoutAnswer prints all that an Introspection has but the answer itself.
func withoutAnswer(i *smartauth.Introspection) string {
	return fmt.Sprintf("%+v", &smartauth.Introspection{
		Active: i.Active, Scopes: i.Scopes, ClientID: i.ClientID, Issuer: i.Issuer, Subject: i.Subject,
		FHIRUser: i.FHIRUser, Expiry: i.Expiry, IssuedAt: i.IssuedAt, Context: i.Context,
	})
}

// sideCalls are the calls that send tokens to endpoints beside the token endpoint.
func sideCalls(token *smartauth.Token) map[smartauthtest.Endpoint]func(t *testing.T, client *smartauth.Client) error {
	return map[smartauthtest.Endpoint]func(*testing.T, *smartauth.Client) error{
		smartauthtest.EndpointIntrospect: func(t *testing.T, client *smartauth.Client) error {
			_, err := client.Introspect(t.Context(), token.RefreshToken(), nil)
			return err
		},
		smartauthtest.EndpointRevoke: func(t *testing.T, client *smartauth.Client) error {
			return client.Revoke(t.Context(), token)
		},
	}
}

var sideMembers = map[smartauthtest.Endpoint]string{
	smartauthtest.EndpointIntrospect: "introspection_endpoint",
	smartauthtest.EndpointRevoke:     "revocation_endpoint",
}

func TestSideEndpointsRefused(t *testing.T) {
	for _, test := range []struct {
		name     string
		endpoint string
		allowed  []string
		want     error
	}{
		{"none", "", nil, smartauth.ErrNotSupported},
		{"http", "http://ehr.example.test/x", nil, smartauth.ErrEndpointNotAllowed},
		{"another origin", "https://evil.example.test/x", nil, smartauth.ErrEndpointNotAllowed},
		{"another port", "https://ehr.example.test:8443/x", nil, smartauth.ErrEndpointNotAllowed},
		{"a host not allowed", "https://evil.example.test/x", []string{"ehr.example.test"}, smartauth.ErrEndpointNotAllowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
			token := login(t, srv, newClient(t, srv, webApp))
			for endpoint, call := range sideCalls(token) {
				srv.SetConfigurationMember(sideMembers[endpoint], test.endpoint)
				client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.AllowedAuthHosts = test.allowed })
				if err := call(t, client); !errors.Is(err, test.want) {
					t.Errorf("%s: got %v, want %v", endpoint, err, test.want)
				}
				if n := srv.Count(endpoint) + srv.Count(smartauthtest.EndpointOther); n != 0 {
					t.Errorf("%s: %d requests were sent", endpoint, n)
				}
			}
		})
	}
}

func TestSideEndpointsElsewhereWhereAllowed(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	token := login(t, srv, newClient(t, srv, webApp))
	srv.SetConfigurationMember("introspection_endpoint", "https://login.example.test/auth/introspect")
	client := newClient(t, srv, func(cfg *smartauth.Config) {
		webApp(cfg)
		cfg.AllowedAuthHosts = []string{"ehr.example.test", "login.example.test"}
	})
	if got, err := client.Introspect(t.Context(), token.AccessToken(), nil); err != nil || !got.Active {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestIntrospectShowsNoBearer(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, nil)
	own := mustToken(t, client)
	for _, echo := range []smartauthtest.Echo{smartauthtest.EchoJSON, smartauthtest.EchoHeaders} {
		srv.Fail(smartauthtest.EndpointIntrospect, smartauthtest.Fault{Echo: echo, Times: 1})
		_, err := client.Introspect(t.Context(), "another-token-than-the-caller's", &smartauth.IntrospectOptions{Bearer: own})
		if err == nil || strings.Contains(err.Error(), own.AccessToken()) || strings.Contains(err.Error(), "another-token") {
			t.Errorf("echo %d: got %v", echo, err)
		}
	}
}

// A shared secret or bearer token does not follow a server that moves.
func TestIntrospectPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newServer(t, nil)
		client := newClient(t, srv, nil)
		own := mustToken(t, client)
		move := strings.NewReplacer("https://ehr.example.test", "https://moved.example.test")
		srv.SetConfigurationMember("token_endpoint", move.Replace(srv.TokenURL))
		srv.SetConfigurationMember("introspection_endpoint", move.Replace(srv.IntrospectionURL))
		time.Sleep(2 * time.Hour) // the discovery document is asked for again
		for _, opts := range []*smartauth.IntrospectOptions{nil, {Bearer: own}} {
			if _, err := client.Introspect(t.Context(), "x", opts); !errors.Is(err, smartauth.ErrEndpointNotAllowed) {
				t.Errorf("got %v, want ErrEndpointNotAllowed", err)
			}
		}
		if n := srv.Count(smartauthtest.EndpointIntrospect); n != 0 {
			t.Errorf("%d requests were sent", n)
		}
	})
}

func TestSideEndpointsFail(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	token := login(t, srv, client)
	for endpoint, call := range sideCalls(token) {
		for name, fault := range map[string]smartauthtest.Fault{
			"redirect":     {Redirect: srv.URL + "/elsewhere"},
			"echo":         {Echo: smartauthtest.EchoJSON},
			"echo HTML":    {Echo: smartauthtest.EchoHTML},
			"echo headers": {Echo: smartauthtest.EchoHeaders},
			"503":          {Status: 503},
			"dropped":      {Drop: true},
		} {
			fault.Times = 1
			srv.Fail(endpoint, fault)
			before := srv.Count(endpoint)
			err := call(t, client)
			if err == nil {
				t.Errorf("%s, %s: no error", endpoint, name)
				continue
			}
			for what, secret := range map[string]string{"token": token.RefreshToken(), "secret": testSecret} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("%s, %s: the %s shows in %v", endpoint, name, what, err)
				}
			}
			if n := srv.Count(endpoint) - before; n != 1 {
				t.Errorf("%s, %s: %d requests", endpoint, name, n)
			}
		}
		if n := srv.Count(smartauthtest.EndpointFHIR); n != 0 {
			t.Errorf("%s: a redirect was followed", endpoint)
		}
	}
}
