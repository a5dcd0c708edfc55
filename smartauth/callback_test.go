package smartauth_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// In FIPS 140 mode crypto/rand seeds itself from how uneven time passes, which in
// a synctest bubble it does not: the first read must be outside of one.
func init() { _, _ = rand.Read(make([]byte, 1)) }

// The tests' keys: making an RSA key for each test takes long.
var (
	testRSAKey      = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	testOtherRSAKey = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	testECKey       = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// callbackOf is what the browser comes back with when the user agrees.
func callbackOf(t *testing.T, srv *smartauthtest.Server, launch *smartauth.Launch) url.Values {
	t.Helper()
	u, err := srv.Authorize(t.Context(), launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// login goes through the whole flow.
func login(t *testing.T, srv *smartauthtest.Server, client *smartauth.Client) *smartauth.Token {
	t.Helper()
	launch := startLaunch(t, client, nil)
	token, err := client.Exchange(t.Context(), launch, callbackOf(t, srv, launch))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestLoginAndRefreshWithEveryMethod(t *testing.T) {
	quiet := &provider.PrivateKeyJWTOptions{KeySet: &signer.KeySetOptions{Observer: smartcred.Discard}}
	basic := must(provider.NewClientSecretBasic(secretsource.Static([]byte(testSecret)), nil))
	post := must(provider.NewClientSecretPost(secretsource.Static([]byte(testSecret)), nil))
	rs384 := must(provider.NewPrivateKeyJWT(must(signer.FromCryptoSigner(testRSAKey(), &signer.CryptoSignerOptions{KeyID: "k1"})), quiet))
	es384 := must(provider.NewPrivateKeyJWT(must(signer.FromCryptoSigner(testECKey(), &signer.CryptoSignerOptions{KeyID: "k1"})), quiet))
	jwks := func(key any, alg string) jose.JSONWebKeySet {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key, KeyID: "k1", Algorithm: alg, Use: "sig"}}}
	}
	for name, test := range map[string]struct {
		provider   provider.Provider
		registered smartauthtest.Client
		method     string
	}{
		"public":              {provider.Public{}, smartauthtest.Client{}, smartauthtest.AuthNone},
		"client_secret_basic": {basic, smartauthtest.Client{Secrets: []string{testSecret}}, smartauthtest.AuthClientSecretBasic},
		"client_secret_post":  {post, smartauthtest.Client{Secrets: []string{testSecret}}, smartauthtest.AuthClientSecretPost},
		"RS384":               {rs384, smartauthtest.Client{JWKS: jwks(testRSAKey().Public(), "RS384")}, smartauthtest.AuthPrivateKeyJWT},
		"ES384":               {es384, smartauthtest.Client{JWKS: jwks(testECKey().Public(), "ES384")}, smartauthtest.AuthPrivateKeyJWT},
	} {
		t.Run(name, func(t *testing.T) {
			srv := smartauthtest.NewServer(t, &smartauthtest.Options{TLS: true, IssParameter: true, SigningKey: testRSAKey()})
			test.registered.ID, test.registered.RedirectURIs = "web-app", []string{testRedirect}
			srv.AddClient(test.registered)
			client := newClient(t, srv, func(cfg *smartauth.Config) {
				webApp(cfg)
				cfg.Provider = test.provider
			})
			launch := startLaunch(t, client, nil)
			// On its way to the callback it may change processes.
			restored, err := smartauth.RestoreLaunch(launch.Save())
			if err != nil {
				t.Fatal(err)
			}
			token, err := client.Exchange(t.Context(), restored, callbackOf(t, srv, launch))
			if err != nil {
				t.Fatal(err)
			}
			if !srv.Active(token.AccessToken()) || token.Context.Patient != "pat-1" {
				t.Errorf("token %v for patient %q", token, token.Context.Patient)
			}
			if user, want := token.Identity().FHIRUser, srv.URL+"/Practitioner/prac-1"; user != want {
				t.Errorf("fhirUser %q, want %q", user, want)
			}
			renewed, err := client.Refresh(t.Context(), token, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !srv.Active(renewed.AccessToken()) || renewed.RefreshToken() == token.RefreshToken() {
				t.Error("the refresh gave no new tokens")
			}
			if err := client.Revoke(t.Context(), renewed); err != nil || srv.Active(renewed.AccessToken()) {
				t.Errorf("revocation: %v, active %t", err, srv.Active(renewed.AccessToken()))
			}
			for _, r := range append(srv.RequestsTo(smartauthtest.EndpointToken), srv.RequestsTo(smartauthtest.EndpointRevoke)...) {
				if r.AuthMethod != test.method || r.Status != 200 {
					t.Errorf("%s %s request: method %q, status %d, %s", r.Endpoint, r.Form.Get("grant_type"), r.AuthMethod, r.Status, r.Reason)
				}
			}
		})
	}
}

func TestLoginFromEHR(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	id := srv.NewLaunch(smartauthtest.Launch{Patient: "pat-7", Intent: "reconcile"})
	launch := startLaunch(t, client, &smartauth.LaunchOptions{Launch: id, Issuer: srv.URL, Scopes: []string{"launch", "patient/*.rs"}})
	token, err := client.Exchange(t.Context(), launch, callbackOf(t, srv, launch))
	if err != nil {
		t.Fatal(err)
	}
	if token.Context.Patient != "pat-7" || token.Context.Intent != "reconcile" || token.Identity() != nil {
		t.Errorf("context %+v, identity %v", token.Context, token.Identity())
	}
}

func TestCallbackState(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	launch := startLaunch(t, client, nil)
	good := callbackOf(t, srv, launch)
	with := func(name string, values ...string) url.Values {
		out := url.Values{}
		for n, v := range good {
			out[n] = v
		}
		if out[name] = values; values == nil {
			delete(out, name)
		}
		return out
	}
	other := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.ClientID = "other-app" })
	for _, test := range []struct {
		name     string
		client   *smartauth.Client
		launch   *smartauth.Launch
		callback url.Values
	}{
		{"none", client, launch, with("state")},
		{"empty", client, launch, with("state", "")},
		{"wrong", client, launch, with("state", startLaunch(t, client, nil).State())},
		{"cut short", client, launch, with("state", launch.State()[:42])},
		{"twice", client, launch, with("state", launch.State(), launch.State())},
		{"code twice", client, launch, with("code", "a", "b")},
		{"error with a wrong state", client, launch, url.Values{"error": {"access_denied"}, "state": {"x"}}},
		{"nil callback", client, launch, nil},
		{"nil launch", client, nil, good},
		{"zero launch, no state", client, new(smartauth.Launch), with("state")},
		{"another client's launch", other, launch, good},
	} {
		_, err := test.client.Exchange(t.Context(), test.launch, test.callback)
		if !errors.Is(err, smartauth.ErrState) {
			t.Errorf("%s: got %v, want ErrState", test.name, err)
		}
	}
	if n := srv.TokenRequests(); n != 0 {
		t.Fatalf("%d token requests before the state was right", n)
	}
	// None of it ended the launch.
	if _, err := client.Exchange(t.Context(), launch, good); err != nil {
		t.Fatalf("the right callback after wrong ones: %v", err)
	}
	if _, err := client.Exchange(t.Context(), launch, good); !errors.Is(err, smartauth.ErrState) {
		t.Errorf("the same callback again: got %v, want ErrState", err)
	}
	if n := srv.TokenRequests(); n != 1 {
		t.Errorf("%d token requests, want 1", n)
	}
}

func TestExchangeOnceForManyCallers(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	launch := startLaunch(t, client, nil)
	callback := callbackOf(t, srv, launch)
	var wg sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		wg.Go(func() { _, errs[i] = client.Exchange(t.Context(), launch, callback) })
	}
	wg.Wait()
	good := 0
	for _, err := range errs {
		if err == nil {
			good++
		} else if !errors.Is(err, smartauth.ErrState) {
			t.Error(err)
		}
	}
	if good != 1 || srv.TokenRequests() != 1 {
		t.Errorf("%d log-ins, %d token requests; want one each", good, srv.TokenRequests())
	}
}

func TestCallbackError(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	launch := startLaunch(t, client, nil)
	code := "SplxlOBeZQQYbYS6WxSbIA"
	_, err := client.Exchange(t.Context(), launch, url.Values{
		"state": {launch.State()}, "code": {code}, "error": {"invalid_scope"},
		"error_description": {"no\r\nsuch scope for \x1b[31m" + launch.State() + " " + url.QueryEscape(code) + strings.Repeat("x", 400)},
		"error_uri":         {"https://ehr.example.test/why"},
	})
	var callback *smartauth.CallbackError
	if !errors.As(err, &callback) || !errors.Is(err, provider.ErrInvalidScope) || errors.Is(err, provider.ErrInvalidClient) {
		t.Fatalf("got %v", err)
	}
	if callback.Code != "invalid_scope" || callback.URI != "https://ehr.example.test/why" || len(callback.Description) > 256 {
		t.Errorf("got %+v", callback)
	}
	if text := err.Error(); strings.Contains(text, launch.State()) || strings.Contains(text, code) || strings.ContainsAny(text, "\r\n\x1b") {
		t.Errorf("the error shows what it must not: %q", text)
	}
	if _, err := client.Exchange(t.Context(), launch, url.Values{"state": {launch.State()}, "code": {code}}); !errors.Is(err, smartauth.ErrState) {
		t.Errorf("a code after the error: got %v, want ErrState", err)
	}

	for name, callback := range map[string]url.Values{
		"neither code nor error": {},
		"empty code":             {"code": {""}},
		"empty error":            {"error": {""}, "code": {code}},
	} {
		launch := startLaunch(t, client, nil)
		callback.Set("state", launch.State())
		if _, err := client.Exchange(t.Context(), launch, callback); !errors.Is(err, provider.ErrInvalidRequest) {
			t.Errorf("%s: got %v, want ErrInvalidRequest", name, err)
		}
	}
	if n := srv.TokenRequests(); n != 0 {
		t.Errorf("%d token requests", n)
	}
}

func TestCallbackIss(t *testing.T) {
	const evil = "https://evil.example.test"
	stated := func(cfg *smartauth.Config) { cfg.Issuer = evil }
	noDiscovery := func(cfg *smartauth.Config) {
		cfg.AuthorizationEndpoint, cfg.TokenEndpoint = "https://ehr.example.test/auth/authorize", "https://ehr.example.test/auth/token"
	}
	for _, test := range []struct {
		name       string
		advertised bool
		noIssuer   bool
		iss        []string // nil: not sent; "self": the server's
		change     func(*smartauth.Config)
		good       bool
	}{
		{name: "advertised and sent", advertised: true, iss: []string{"self"}, good: true},
		{name: "advertised, not sent", advertised: true},
		{name: "advertised, empty", advertised: true, iss: []string{""}},
		{name: "advertised, another", advertised: true, iss: []string{evil}},
		{name: "not advertised, not sent", good: true},
		{name: "not advertised, sent", iss: []string{"self"}, good: true},
		{name: "not advertised, another", iss: []string{evil}},
		{name: "not advertised, empty", iss: []string{""}},
		{name: "twice", iss: []string{"self", "self"}},
		{name: "no issuer known", noIssuer: true, iss: []string{"self"}},
		{name: "another stated", iss: []string{"self"}, change: stated},
		{name: "stated endpoints, discovered issuer", iss: []string{"self"}, change: noDiscovery, good: true},
		{name: "stated endpoints, another", iss: []string{evil}, change: noDiscovery},
		{name: "stated endpoints, not sent", change: noDiscovery, good: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := newWebServer(t, nil)
			srv.SetConfigurationMember("authorization_response_iss_parameter_supported", test.advertised)
			if test.noIssuer {
				srv.SetConfigurationMember("issuer", nil)
			}
			client := newClient(t, srv, func(cfg *smartauth.Config) {
				webApp(cfg)
				cfg.Scopes = []string{"patient/*.rs"}
				if test.change != nil {
					test.change(cfg)
				}
			})
			launch := startLaunch(t, client, nil)
			callback := callbackOf(t, srv, launch)
			callback.Del("iss")
			for _, iss := range test.iss {
				if iss == "self" {
					iss = srv.Issuer
				}
				callback.Add("iss", iss)
			}
			_, err := client.Exchange(t.Context(), launch, callback)
			switch {
			case test.good && err != nil:
				t.Error(err)
			case !test.good && !errors.Is(err, smartauth.ErrIssuerMismatch) && !errors.Is(err, smartauth.ErrState):
				t.Errorf("got %v, want ErrIssuerMismatch", err)
			case !test.good && srv.TokenRequests() != 0:
				t.Error("the code was sent nevertheless")
			}
		})
	}
}

func TestLaunchExpires(t *testing.T) {
	for name, test := range map[string]struct {
		timeout, wait time.Duration
		good          bool
	}{
		"in time":         {0, 5 * time.Minute, true},
		"too late":        {0, 5*time.Minute + time.Second, false},
		"own limit":       {time.Hour, 59 * time.Minute, true},
		"after own limit": {10 * time.Second, 11 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newWebServer(t, &smartauthtest.Options{CodeLifetime: 24 * time.Hour, SigningKey: testRSAKey()})
				client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.LaunchTimeout = test.timeout })
				launch := startLaunch(t, client, nil)
				callback := callbackOf(t, srv, launch)
				restored, err := smartauth.RestoreLaunch(launch.Save())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(test.wait)
				for _, l := range []*smartauth.Launch{launch, restored} {
					_, err := client.Exchange(t.Context(), l, callback)
					switch {
					case test.good && err != nil:
						t.Error(err)
					case !test.good && !errors.Is(err, smartauth.ErrLaunchExpired):
						t.Errorf("got %v, want ErrLaunchExpired", err)
					}
					if test.good {
						break // the code is used up
					}
				}
			})
		})
	}
}

// What the server repeats of the code and the verifier does not show.
func TestExchangeShowsNoSecret(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	client := newClient(t, srv, webApp)
	for _, echo := range []smartauthtest.Echo{smartauthtest.EchoJSON, smartauthtest.EchoHTML, smartauthtest.EchoHeaders} {
		launch := startLaunch(t, client, nil)
		callback := callbackOf(t, srv, launch)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Echo: echo, Times: 1})
		_, err := client.Exchange(t.Context(), launch, callback)
		if err == nil {
			t.Fatal("no error")
		}
		sent := srv.RequestsTo(smartauthtest.EndpointToken)
		form := sent[len(sent)-1].Form
		for _, name := range []string{"code", "code_verifier", "client_secret"} {
			if value := form.Get(name); value == "" || strings.Contains(err.Error(), value) {
				t.Errorf("echo %d: %s shows in %v", echo, name, err)
			}
		}
	}
}

func TestExchangeAfterClose(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	launch := startLaunch(t, client, nil)
	callback := callbackOf(t, srv, launch)
	client.Close()
	if _, err := client.Exchange(t.Context(), launch, callback); !errors.Is(err, smartcred.ErrClosed) || srv.TokenRequests() != 0 {
		t.Errorf("got %v after %d token requests, want ErrClosed after none", err, srv.TokenRequests())
	}
	if _, err := client.StartLaunch(t.Context(), nil); !errors.Is(err, smartcred.ErrClosed) {
		t.Errorf("a launch after Close: got %v, want ErrClosed", err)
	}
}

func FuzzCallback(f *testing.F) {
	srv := smartauthtest.NewUnstarted(&smartauthtest.Options{MaxRequests: -1})
	f.Cleanup(srv.Close)
	srv.AddClient(smartauthtest.Client{ID: "web-app", Secrets: []string{testSecret}, RedirectURIs: []string{testRedirect}})
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: srv.URL, ClientID: "web-app", RedirectURL: testRedirect, Scopes: []string{"patient/*.rs"},
		Provider: postSecret{}, HTTPClient: srv.Client(),
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		"state=STATE&code=x", "state=STATE&state=STATE", "state=STATE&error=access_denied&error_description=STATE",
		"state=STATE&iss=" + url.QueryEscape(srv.Issuer) + "&code=x", "state=&code=", "code=x", "%zz", "state=STATE&error=%00&error_uri=%e2%82%ac",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		launch, err := client.StartLaunch(context.WithoutCancel(t.Context()), nil)
		if err != nil {
			t.Fatal(err)
		}
		callback, _ := url.ParseQuery(strings.ReplaceAll(query, "STATE", launch.State()))
		before := srv.TokenRequests()
		token, err := client.Exchange(t.Context(), launch, callback)
		if err == nil || token != nil {
			t.Fatalf("a callback of nobody's making logs in: %q", query)
		}
		if strings.Contains(err.Error(), launch.State()) {
			t.Errorf("the state shows in %v", err)
		}
		right := len(callback["state"]) == 1 && callback.Get("state") == launch.State()
		if !right && !errors.Is(err, smartauth.ErrState) {
			t.Errorf("wrong state: got %v", err)
		}
		if sent := srv.TokenRequests() - before; sent > 0 && (!right || callback.Has("error") || callback.Get("code") == "") {
			t.Errorf("%q was sent to the token endpoint", query)
		}
	})
}
