package smartauth_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const movedToken = "https://moved.example.test/auth/token"

// asserting proves itself with what passes for a signed assertion.
type asserting struct{}

func (asserting) Authenticate(ctx context.Context, _ provider.Request, send func(context.Context, provider.Credential) error) error {
	return send(ctx, provider.NewCredential(provider.CredentialOptions{
		Method: provider.MethodPrivateKeyJWT, Params: url.Values{"client_assertion": {"x.y.z"}},
	}))
}

// hostsSeen notes which hosts got a request that is no GET.
func hostsSeen(srv *smartauthtest.Server, hosts map[string]int) *http.Client {
	base := srv.Transport()
	return &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.Method != http.MethodGet {
			hosts[req.URL.Host]++
		}
		return base.RoundTrip(req)
	})}
}

// TestTokenEndpointMoves: a discovery document that names another origin than
// before gets nothing that is worth something elsewhere, whoever the client is.
func TestTokenEndpointMoves(t *testing.T) {
	stored := must(smartauth.ParseToken([]byte(`{"access_token":"a","token_type":"Bearer","refresh_token":"r","scope":"patient/*.rs"}`), nil, time.Unix(1, 0)))
	clientToken := func(t *testing.T, client *smartauth.Client) error {
		_, err := client.Token(t.Context())
		return err
	}
	refresh := func(t *testing.T, client *smartauth.Client) error {
		_, err := client.Refresh(t.Context(), stored, nil)
		return err
	}
	for name, test := range map[string]struct {
		provider provider.Provider
		act      func(t *testing.T, client *smartauth.Client) error
		refused  bool
	}{
		"secret":                          {postSecret{}, clientToken, true},
		"assertion":                       {asserting{}, clientToken, false},
		"client_credentials in the clear": {provider.Public{}, clientToken, true},
		"refresh token of a public app":   {provider.Public{}, refresh, true},
		"refresh token, assertion":        {asserting{}, refresh, true},
		"revocation, assertion": {asserting{}, func(t *testing.T, client *smartauth.Client) error {
			return client.Revoke(t.Context(), stored)
		}, true},
		"introspection, bearer": {asserting{}, func(t *testing.T, client *smartauth.Client) error {
			_, err := client.Introspect(t.Context(), "x", &smartauth.IntrospectOptions{Bearer: stored})
			return err
		}, true},
		"launch": {asserting{}, func(t *testing.T, client *smartauth.Client) error {
			_, err := client.StartLaunch(t.Context(), nil)
			return err
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, nil)
				seen, hosts := new(events), map[string]int{}
				client := newClient(t, srv, func(cfg *smartauth.Config) {
					webApp(cfg)
					cfg.Observer, cfg.Provider, cfg.HTTPClient = seen, test.provider, hostsSeen(srv, hosts)
				})
				_, _ = client.Token(t.Context())
				before := hosts["ehr.example.test"]
				move := func(endpoint string) {
					srv.SetConfigurationMember("token_endpoint", endpoint)
					srv.SetConfigurationMember("revocation_endpoint", strings.Replace(endpoint, "token", "revoke", 1))
					srv.SetConfigurationMember("introspection_endpoint", strings.Replace(endpoint, "token", "introspect", 1))
					time.Sleep(2 * time.Hour)
				}
				move(movedToken)
				for range 2 {
					if err := test.act(t, client); errors.Is(err, smartauth.ErrEndpointNotAllowed) != test.refused {
						t.Errorf("err = %v, refused: want %t", err, test.refused)
					}
					time.Sleep(2 * time.Hour)
				}
				if test.refused && hosts["moved.example.test"] > 0 || !test.refused && hosts["moved.example.test"] == 0 {
					t.Errorf("requests by host: %v", hosts)
				}
				if n := seen.count(smartcred.EventEndpointChanged); n != 1 {
					t.Errorf("%d endpoint_changed events, want 1", n)
				}
				// The pin does not move, not even with an assertion: another value
				// is another event, and the first is good again.
				move("https://again.example.test/auth/token")
				if err := test.act(t, client); errors.Is(err, smartauth.ErrEndpointNotAllowed) != test.refused {
					t.Errorf("a third origin: err = %v, refused: want %t", err, test.refused)
				}
				if n := seen.count(smartcred.EventEndpointChanged); n != 2 {
					t.Errorf("%d endpoint_changed events, want 2", n)
				}
				move(srv.TokenURL)
				if err := test.act(t, client); errors.Is(err, smartauth.ErrEndpointNotAllowed) {
					t.Errorf("back where it was: %v", err)
				}
				if n := seen.count(smartcred.EventEndpointChanged); n != 2 || name != "launch" && hosts["ehr.example.test"] == before {
					t.Errorf("%d endpoint_changed events, requests by host: %v", n, hosts)
				}
			})
		})
	}
}

// What the configuration says goes before what was pinned.
func TestMoveThatIsMeant(t *testing.T) {
	for name, allow := range map[string]func(*smartauth.Config){
		"stated": func(cfg *smartauth.Config) {
			cfg.TokenEndpoint, cfg.AuthorizationEndpoint = movedToken, "https://moved.example.test/auth/authorize"
		},
		"allowed": func(cfg *smartauth.Config) {
			cfg.AllowedAuthHosts = []string{"ehr.example.test", "moved.example.test"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newWebServer(t, nil)
				seen := new(events)
				client := newClient(t, srv, func(cfg *smartauth.Config) {
					webApp(cfg)
					cfg.Scopes, cfg.Observer = []string{"patient/*.rs"}, seen
					allow(cfg)
				})
				for _, endpoint := range []string{srv.TokenURL, movedToken} {
					srv.SetConfigurationMember("token_endpoint", endpoint)
					srv.SetConfigurationMember("authorization_endpoint", strings.Replace(endpoint, "token", "authorize", 1))
					time.Sleep(2 * time.Hour)
					login(t, srv, client)
				}
				if n := seen.count(smartcred.EventEndpointChanged); n != 0 {
					t.Errorf("%d endpoint_changed events", n)
				}
			})
		})
	}
}

func TestAuthorizationEndpointMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newWebServer(t, nil)
		seen := new(events)
		client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.Observer = seen })
		startLaunch(t, client, nil)
		srv.SetConfigurationMember("authorization_endpoint", "https://evil.example.test/auth/authorize")
		time.Sleep(2 * time.Hour)
		for range 2 {
			if launch, err := client.StartLaunch(t.Context(), nil); launch != nil || !errors.Is(err, smartauth.ErrEndpointNotAllowed) {
				t.Errorf("got %v, %v; want ErrEndpointNotAllowed", launch, err)
			}
		}
		if n := seen.count(smartcred.EventEndpointChanged); n != 1 {
			t.Errorf("%d endpoint_changed events, want 1", n)
		}
		srv.SetConfigurationMember("authorization_endpoint", srv.AuthorizeURL+"/elsewhere")
		time.Sleep(2 * time.Hour)
		startLaunch(t, client, nil)
	})
}

// A code goes to the token endpoint of when its launch began, also in a process
// that has pinned nothing yet.
func TestCodeGoesNowhereElse(t *testing.T) {
	for name, change := range map[string]func(*smartauth.Config){
		"discovered": func(*smartauth.Config) {},
		"allowed": func(cfg *smartauth.Config) {
			cfg.AllowedAuthHosts = []string{"ehr.example.test", "moved.example.test"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
			hosts := map[string]int{}
			app := func(cfg *smartauth.Config) {
				webApp(cfg)
				change(cfg)
				cfg.Provider, cfg.HTTPClient, cfg.Issuer = provider.Public{}, hostsSeen(srv, hosts), srv.Issuer
			}
			launch := startLaunch(t, newClient(t, srv, app), nil)
			callback := callbackOf(t, srv, launch)
			srv.SetConfigurationMember("token_endpoint", movedToken)
			restored := must(smartauth.RestoreLaunch(launch.Save()))
			token, err := newClient(t, srv, app).Exchange(t.Context(), restored, callback)
			if token != nil || !errors.Is(err, smartauth.ErrEndpointNotAllowed) || errors.Is(err, smartauth.ErrGrantUncertain) {
				t.Errorf("got %v, %v; want ErrEndpointNotAllowed", token, err)
			}
			if len(hosts) > 0 {
				t.Errorf("requests by host: %v", hosts)
			}
		})
	}
}
