package smartauth_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func members(t *testing.T, token *smartauth.Token) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal(token.Answer(), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRefreshCarriesOver(t *testing.T) {
	var bare atomic.Bool
	srv := newWebServer(t, &smartauthtest.Options{
		SigningKey: testRSAKey(), KeepRefreshTokens: true,
		Launch: smartauthtest.Launch{Encounter: "enc-1", Intent: "review", Extra: map[string]any{"__vendor": map[string]any{"a": 1.5}, "other": "x"}},
		ModifyToken: func(m map[string]any) {
			if bare.Load() {
				access := m["access_token"]
				clear(m)
				maps.Copy(m, map[string]any{"access_token": access, "token_type": "bearer", "intent": nil, "other": "new", "refresh_token": ""})
			}
		},
	})
	client := newClient(t, srv, webApp)
	first := login(t, srv, client)
	bare.Store(true)
	second, err := client.Refresh(t.Context(), first, nil)
	if err != nil {
		t.Fatal(err)
	}
	if second.AccessToken() == first.AccessToken() || second.RefreshToken() != first.RefreshToken() {
		t.Error("want a new access token and the old refresh token")
	}
	want := members(t, first)
	delete(want, "expires_in")
	want["access_token"], want["token_type"], want["other"] = second.AccessToken(), "bearer", "new"
	if diff := cmp.Diff(want, members(t, second)); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(first.Context, second.Context); diff != "" {
		t.Errorf("context (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(first.Scopes, second.Scopes); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	if second.Identity() != first.Identity() {
		t.Error("the identity is not the same")
	}
	if _, stated := second.ExpiresIn(); stated {
		t.Error("expires_in was carried over")
	}
	if !slices.ContainsFunc(second.Violations(smartauth.ProfileAppLaunch), func(v smartauth.Violation) bool { return v.Field == "intent" }) {
		t.Error("the violations are not those of the server's answer")
	}
	// What was stored is what there was.
	restored, err := smartauth.ParseToken(second.Answer(), nil, second.Received)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(second.Scopes, restored.Scopes); diff != "" {
		t.Errorf("restored scopes (-want +got):\n%s", diff)
	}
	if third, err := client.Refresh(t.Context(), restored, nil); err != nil || third.Context.Patient != "pat-1" {
		t.Errorf("refresh of a restored token: %v", err)
	}
}

func TestRefreshScopes(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	token := login(t, srv, client)
	for _, scopes := range [][]string{{}, {"patient/*.cruds"}, {"patient/*.rs", "system/*.rs"}} {
		if _, err := client.Refresh(t.Context(), token, scopes); !errors.Is(err, smartcred.ErrInvalidConfig) {
			t.Errorf("%v: got %v, want ErrInvalidConfig", scopes, err)
		}
	}
	srv.ResetRequests()
	narrow, err := client.Refresh(t.Context(), token, []string{"patient/*.rs"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"patient/*.rs"}, narrow.Scopes); diff != "" {
		t.Errorf("scopes (-want +got):\n%s", diff)
	}
	if _, err := client.Refresh(t.Context(), narrow, nil); err != nil {
		t.Fatal(err)
	}
	sent := srv.RequestsTo(smartauthtest.EndpointToken)
	if len(sent) != 2 || sent[0].Form.Get("scope") != "patient/*.rs" || sent[1].Form.Has("scope") {
		t.Errorf("sent %d requests, want scope in the first only", len(sent))
	}
}

func TestRefreshWithoutRefreshToken(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	token, err := client.StartLaunch(t.Context(), &smartauth.LaunchOptions{Scopes: []string{"patient/*.rs"}})
	if err != nil {
		t.Fatal(err)
	}
	online, err := client.Exchange(t.Context(), token, callbackOf(t, srv, token))
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []*smartauth.Token{nil, {}, online} {
		if _, err := client.Refresh(t.Context(), token, nil); !errors.Is(err, provider.ErrInvalidGrant) {
			t.Errorf("got %v, want ErrInvalidGrant", err)
		}
	}
}

func TestRefreshIdentity(t *testing.T) {
	for name, test := range map[string]struct {
		change func(claims map[string]any)
		good   bool
		want   error
	}{
		"the same":        {func(map[string]any) {}, true, nil},
		"another sub":     {func(c map[string]any) { c["sub"] = "user-2" }, false, nil},
		"another iss":     {func(c map[string]any) { c["iss"] = "https://evil.example.test" }, false, smartauth.ErrIssuerMismatch},
		"another nonce":   {func(c map[string]any) { c["nonce"] = "x" }, false, nil},
		"another aud":     {func(c map[string]any) { c["aud"] = "x" }, false, nil},
		"expired":         {func(c map[string]any) { c["exp"] = int64(1) }, false, nil},
		"a bad fhirUser":  {func(c map[string]any) { c["fhirUser"] = "x" }, false, nil},
		"another patient": {func(c map[string]any) { c["fhirUser"] = "Patient/2" }, true, nil},
	} {
		for _, stored := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", stored between"}[stored], func(t *testing.T) {
				var refreshing atomic.Bool
				srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyIDToken: func(claims map[string]any) {
					if refreshing.Load() {
						test.change(claims)
					}
				}})
				client := newClient(t, srv, webApp)
				token := login(t, srv, client)
				if stored {
					var err error
					if token, err = smartauth.ParseToken(token.Answer(), nil, token.Received); err != nil {
						t.Fatal(err)
					}
				}
				refreshing.Store(true)
				renewed, err := client.Refresh(t.Context(), token, nil)
				if test.good {
					if err != nil || renewed.Identity().Subject != "user-1" {
						t.Errorf("got %v, %v", renewed, err)
					}
					return
				}
				if renewed != nil || !errors.Is(err, smartauth.ErrIDToken) || test.want != nil && !errors.Is(err, test.want) {
					t.Errorf("got %v, %v; want ErrIDToken, %v", renewed, err, test.want)
				}
				if !errors.Is(err, smartauth.ErrGrantUncertain) {
					t.Errorf("%v does not say that the refresh token has been used", err)
				}
			})
		}
	}
}

// An issuer that the configuration now names is another all the same.
func TestRefreshAfterIssuerMoved(t *testing.T) {
	const moved = "https://moved.example.test"
	var refreshing atomic.Bool
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyIDToken: func(claims map[string]any) {
		if refreshing.Load() {
			claims["iss"] = moved
		}
	}})
	token := login(t, srv, newClient(t, srv, webApp))
	refreshing.Store(true)
	client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.Issuer = moved })
	if renewed, err := client.Refresh(t.Context(), token, nil); renewed != nil || !errors.Is(err, smartauth.ErrIDToken) || !errors.Is(err, smartauth.ErrIssuerMismatch) {
		t.Errorf("got %v, %v; want ErrIDToken and ErrIssuerMismatch", renewed, err)
	}
}

// A refresh that can't end well does not begin: the refresh token stays good.
func TestRefreshFailsBeforeItSends(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	stored := login(t, srv, newClient(t, srv, webApp))
	client := newClient(t, srv, webApp) // a new process: it has no keys yet
	srv.ResetRequests()
	srv.SetConfigurationMember("jwks_uri", nil)
	if _, err := client.Refresh(t.Context(), stored, nil); err == nil || errors.Is(err, smartauth.ErrGrantUncertain) {
		t.Errorf("got %v", err)
	}
	if n := srv.TokenRequests(); n != 0 {
		t.Fatalf("%d token requests", n)
	}
	srv.SetConfigurationMember("jwks_uri", srv.JWKSURL)
	client = newClient(t, srv, webApp)
	if _, err := client.Refresh(t.Context(), stored, nil); err != nil {
		t.Error(err)
	}
}

// While the keys can't be had, a session goes on: the refresh token is used up,
// and its answer in hand. Everything but the signature is checked.
func TestRefreshWithoutKeys(t *testing.T) {
	down := smartauthtest.Fault{Status: 503}
	for name, test := range map[string]struct {
		order  func(t *testing.T, srv *smartauthtest.Server)
		change func(claims map[string]any)
		good   bool
		cold   bool // the client has no keys of before
	}{
		"no keys at all":               {order: func(_ *testing.T, srv *smartauthtest.Server) { srv.Fail(smartauthtest.EndpointJWKS, down) }, good: true, cold: true},
		"no keys at all, they are odd": {order: func(_ *testing.T, srv *smartauthtest.Server) { serveKeys(srv, "<html>") }, good: true, cold: true},
		"no keys at all, they hang": {order: func(_ *testing.T, srv *smartauthtest.Server) {
			srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Delay: time.Hour})
		}, good: true, cold: true},
		"a new key": {order: func(t *testing.T, srv *smartauthtest.Server) {
			if err := srv.RotateSigningKey(); err != nil {
				t.Error(err)
			}
			srv.Fail(smartauthtest.EndpointJWKS, down)
		}, good: true},
		"another sub": {change: func(c map[string]any) { c["sub"] = "user-2" }, cold: true},
		"another iss": {change: func(c map[string]any) { c["iss"] = "https://evil.example.test" }, cold: true},
		"another aud": {change: func(c map[string]any) { c["aud"] = "x" }, cold: true},
		"another azp": {change: func(c map[string]any) { c["azp"] = "x" }, cold: true},
		"expired":     {change: func(c map[string]any) { c["exp"] = int64(1) }, cold: true},
		"of tomorrow": {change: func(c map[string]any) { c["iat"] = time.Now().Add(24 * time.Hour).Unix() }, cold: true},
		"a key at hand, and the signature is wrong": {order: func(_ *testing.T, srv *smartauthtest.Server) { srv.Fail(smartauthtest.EndpointJWKS, down) }},
		"keys fetched, and the signature is wrong":  {order: func(*testing.T, *smartauthtest.Server) {}, cold: true},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := testOtherRSAKey()
			synctest.Test(t, func(t *testing.T) {
				var refreshing atomic.Bool
				srv := newWebServer(t, &smartauthtest.Options{
					SigningKey: testRSAKey(), KeepRefreshTokens: true,
					ModifyIDToken: func(claims map[string]any) {
						if refreshing.Load() && test.change != nil {
							test.change(claims)
						}
					},
					ModifyToken: func(members map[string]any) {
						if refreshing.Load() && strings.Contains(name, "signature is wrong") {
							resign(t, members, stranger, jose.RS256, "id-1", nil)
						}
					},
				})
				seen := new(events)
				client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.Observer = seen })
				token := login(t, srv, client)
				if test.cold {
					client = newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.Observer = seen })
				}
				if test.order == nil {
					srv.Fail(smartauthtest.EndpointJWKS, down)
				} else {
					test.order(t, srv)
				}
				refreshing.Store(true)
				began := time.Now()
				for range 2 { // the second one within the pause after a failed fetch
					renewed, err := client.Refresh(t.Context(), token, nil)
					if !test.good {
						if renewed != nil || !errors.Is(err, smartauth.ErrIDToken) || !errors.Is(err, smartauth.ErrGrantUncertain) {
							t.Errorf("got %v, %v; want ErrIDToken and ErrGrantUncertain", renewed, err)
						}
						continue
					}
					if err != nil {
						t.Fatal(err)
					}
					if renewed.Identity() != token.Identity() || renewed.AccessToken() == token.AccessToken() {
						t.Error("want a new access token and the identity of before")
					}
					token = renewed
				}
				if waited := time.Since(began); waited > 10*time.Second {
					t.Errorf("waited %s for keys that are not needed", waited)
				}
				if n := seen.count(smartcred.EventStaleInUse); (n > 0) != test.good {
					t.Errorf("%d stale_in_use events", n)
				}
			})
		})
	}
}

// Without TLS nobody vouches for the signature; and a log-in always needs it.
func TestKeysAreNeeded(t *testing.T) {
	srv := smartauthtest.NewServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	srv.AddClient(smartauthtest.Client{ID: "web-app", Secrets: []string{testSecret}, RedirectURIs: []string{testRedirect}})
	app := func(cfg *smartauth.Config) { webApp(cfg); cfg.AllowInsecureLoopback = true }
	token := login(t, srv, newClient(t, srv, app))
	srv.Fail(smartauthtest.EndpointJWKS, smartauthtest.Fault{Status: 503})
	client := newClient(t, srv, app)
	srv.ResetRequests()
	if renewed, err := client.Refresh(t.Context(), token, nil); renewed != nil || err == nil || errors.Is(err, smartauth.ErrGrantUncertain) {
		t.Errorf("refresh: got %v, %v", renewed, err)
	}
	if token, err := tryLogin(t, srv, client); token != nil || err == nil {
		t.Errorf("log-in: got %v, %v", token, err)
	}
	if n := srv.TokenRequests(); n != 0 {
		t.Errorf("%d token requests", n)
	}
}

func TestRefreshRefused(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	token := login(t, srv, client)
	if _, err := client.Refresh(t.Context(), token, nil); err != nil {
		t.Fatal(err)
	}
	srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Echo: smartauthtest.EchoJSON, Error: "invalid_grant", Times: 1})
	_, err := client.Refresh(t.Context(), token, nil)
	if !errors.Is(err, provider.ErrInvalidGrant) || errors.Is(err, smartauth.ErrGrantUncertain) {
		t.Errorf("got %v, want ErrInvalidGrant", err)
	}
	if strings.Contains(err.Error(), token.RefreshToken()) {
		t.Errorf("the refresh token shows in %v", err)
	}
}

// A user's session lives by its refresh tokens, each used once and the next one
// stored first, and is told from the start what it was.
func TestSessionForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
		client := newClient(t, srv, webApp)
		stored := login(t, srv, client).Answer()
		token, err := smartauth.ParseToken(stored, nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		source := client.SessionSource(token, nil)
		for range 24 * 12 {
			time.Sleep(5 * time.Minute)
			token, err := source.Token(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if token.Context.Patient != "pat-1" || !srv.Active(token.AccessToken()) {
				t.Fatalf("patient %q after %d requests", token.Context.Patient, srv.TokenRequests())
			}
		}
	})
}
