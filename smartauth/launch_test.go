package smartauth_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const testRedirect = "https://app.example.test/callback"

var webScopes = []string{"openid", "fhirUser", "launch/patient", "offline_access", "patient/*.rs"}

// webApp makes a Config that of an app with users.
func webApp(cfg *smartauth.Config) {
	cfg.ClientID, cfg.RedirectURL, cfg.Scopes = "web-app", testRedirect, webScopes
}

// newWebServer is newServer with the client of webApp.
func newWebServer(t *testing.T, opts *smartauthtest.Options) *smartauthtest.Server {
	srv := newServer(t, opts)
	srv.AddClient(smartauthtest.Client{ID: "web-app", Secrets: []string{testSecret}, RedirectURIs: []string{testRedirect}})
	return srv
}

func startLaunch(t *testing.T, client *smartauth.Client, opts *smartauth.LaunchOptions) *smartauth.Launch {
	t.Helper()
	launch, err := client.StartLaunch(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	return launch
}

func TestStartLaunchParameters(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	launch := startLaunch(t, client, &smartauth.LaunchOptions{Params: url.Values{"prompt": {"login"}}})

	u, err := url.Parse(launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	got := u.Query()
	if diff := cmp.Diff(launch.Form(), got); diff != "" {
		t.Errorf("form and URL differ (-form +URL):\n%s", diff)
	}
	if got.Get("state") != launch.State() {
		t.Error("State is not the state that is sent")
	}
	seen := map[string]bool{}
	for _, name := range []string{"state", "nonce", "code_challenge"} {
		value := got.Get(name)
		if len(value) != 43 || seen[value] {
			t.Errorf("%s is %q, want 256 random bits of its own", name, value)
		}
		seen[value] = true
		got.Del(name)
	}
	want := url.Values{
		"response_type": {"code"}, "client_id": {"web-app"}, "redirect_uri": {testRedirect},
		"scope": {strings.Join(webScopes, " ")}, "aud": {srv.URL}, "code_challenge_method": {"S256"}, "prompt": {"login"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("parameters (-want +got):\n%s", diff)
	}
	if endpoint := launch.Endpoint(); endpoint != srv.AuthorizeURL {
		t.Errorf("endpoint %q, want %q", endpoint, srv.AuthorizeURL)
	}
	if again := startLaunch(t, client, nil); again.State() == launch.State() || again.Form().Get("nonce") == launch.Form().Get("nonce") {
		t.Error("two launches have the same state or nonce")
	}
	if plain := startLaunch(t, client, &smartauth.LaunchOptions{Scopes: []string{"patient/*.rs"}}); plain.Form().Has("nonce") {
		t.Error("a nonce is sent without openid")
	}
}

func TestStartLaunchFromEHR(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	id := srv.NewLaunch(smartauthtest.Launch{})
	scopes := []string{"launch", "patient/*.rs"}

	form := startLaunch(t, client, &smartauth.LaunchOptions{Launch: id, Issuer: srv.URL, Scopes: scopes}).Form()
	if form.Get("launch") != id || form.Get("aud") != srv.URL {
		t.Errorf("launch %q, aud %q; want %q, %q", form.Get("launch"), form.Get("aud"), id, srv.URL)
	}
	form = startLaunch(t, client, &smartauth.LaunchOptions{Launch: id, Issuer: srv.URL + "/", Scopes: scopes}).Form()
	if form.Get("aud") != srv.URL+"/" {
		t.Errorf("aud %q is not the iss that the EHR sent", form.Get("aud"))
	}

	for _, test := range []struct {
		name string
		opts smartauth.LaunchOptions
		want error
	}{
		{"other server", smartauth.LaunchOptions{Launch: id, Issuer: "https://evil.example.test/r4", Scopes: scopes}, smartauth.ErrIssuerMismatch},
		{"longer path", smartauth.LaunchOptions{Launch: id, Issuer: srv.URL + "/x", Scopes: scopes}, smartauth.ErrIssuerMismatch},
		{"user info", smartauth.LaunchOptions{Launch: id, Issuer: strings.Replace(srv.URL, "://", "://x@", 1), Scopes: scopes}, smartauth.ErrIssuerMismatch},
		{"launch without iss", smartauth.LaunchOptions{Launch: id, Scopes: scopes}, smartauth.ErrIssuerMismatch},
		{"iss alone", smartauth.LaunchOptions{Issuer: "https://evil.example.test"}, smartauth.ErrIssuerMismatch},
		{"without the scope launch", smartauth.LaunchOptions{Launch: id, Issuer: srv.URL}, smartcred.ErrInvalidConfig},
	} {
		t.Run(test.name, func(t *testing.T) {
			launch, err := client.StartLaunch(t.Context(), &test.opts)
			if launch != nil || !errors.Is(err, test.want) {
				t.Errorf("got %v, %v; want %v", launch, err, test.want)
			}
		})
	}
}

func TestStartLaunchRefuses(t *testing.T) {
	srv := newWebServer(t, nil)
	for _, test := range []struct {
		name   string
		change func(*smartauth.Config)
		opts   smartauth.LaunchOptions
		option string
	}{
		{"no redirect URL", func(cfg *smartauth.Config) { cfg.RedirectURL = "" }, smartauth.LaunchOptions{}, "redirect_url"},
		{"no scopes", nil, smartauth.LaunchOptions{Scopes: []string{}}, "scopes"},
		{"two scopes in one", nil, smartauth.LaunchOptions{Scopes: []string{"openid fhirUser"}}, "scopes"},
		{"reserved state", nil, smartauth.LaunchOptions{Params: url.Values{"state": {"x"}}}, "params"},
		{"reserved redirect_uri", nil, smartauth.LaunchOptions{Params: url.Values{"redirect_uri": {"x"}}}, "params"},
		{"request object", nil, smartauth.LaunchOptions{Params: url.Values{"request": {"x"}}}, "params"},
		{"request object elsewhere", nil, smartauth.LaunchOptions{Params: url.Values{"request_uri": {"x"}}}, "params"},
		{"an answer in the fragment", nil, smartauth.LaunchOptions{Params: url.Values{"response_mode": {"fragment"}}}, "params"},
		{"an age that is not looked at", nil, smartauth.LaunchOptions{Params: url.Values{"max_age": {"60"}}}, "params"},
		{"a secret", nil, smartauth.LaunchOptions{Params: url.Values{"client_secret": {"x"}}}, "params"},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := newClient(t, srv, func(cfg *smartauth.Config) {
				webApp(cfg)
				if test.change != nil {
					test.change(cfg)
				}
			})
			_, err := client.StartLaunch(t.Context(), &test.opts)
			var problem *smartcred.ConfigError
			if !errors.As(err, &problem) || problem.Option != test.option {
				t.Errorf("got %v, want a ConfigError of %s", err, test.option)
			}
		})
	}
}

func TestStartLaunchEndpoint(t *testing.T) {
	for _, test := range []struct {
		name     string
		stated   bool
		endpoint string
		query    url.Values // kept
		want     error
	}{
		{name: "kept query", endpoint: "https://ehr.example.test/authorize?tenant=a%2Fb&x=1&x=2", query: url.Values{"tenant": {"a/b"}, "x": {"1", "2"}}},
		{name: "stated", stated: true, endpoint: "https://login.example.test/authorize?tenant=7", query: url.Values{"tenant": {"7"}}},
		{name: "ours not twice", endpoint: "https://ehr.example.test/authorize?aud=x&keep=1&st%61te=y&response_type=token", query: url.Values{"keep": {"1"}}},
		{name: "only ours", endpoint: "https://ehr.example.test/authorize?aud=x"},
		{name: "empty query", endpoint: "https://ehr.example.test/authorize?"},
		{name: "none", endpoint: "", want: smartauth.ErrNotSupported},
		{name: "http", endpoint: "http://ehr.example.test/authorize", want: smartauth.ErrEndpointNotAllowed},
		{name: "script", endpoint: "javascript:alert(1)", want: smartauth.ErrNotSupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			srv := newWebServer(t, nil)
			client := newClient(t, srv, func(cfg *smartauth.Config) {
				webApp(cfg)
				if test.stated {
					cfg.AuthorizationEndpoint, cfg.TokenEndpoint = test.endpoint, srv.TokenURL
				}
			})
			if !test.stated {
				srv.SetConfigurationMember("authorization_endpoint", test.endpoint)
			}
			launch, err := client.StartLaunch(t.Context(), nil)
			if test.want != nil {
				if !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			u, err := url.Parse(launch.URL())
			if err != nil {
				t.Fatal(err)
			}
			got := u.Query()
			for name, values := range launch.Form() {
				if diff := cmp.Diff(values, got[name]); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
				got.Del(name)
			}
			if len(got)+len(test.query) > 0 && !cmp.Equal(test.query, got) {
				t.Errorf("query %v, want %v", got, test.query)
			}
			if endpoint, _ := url.Parse(launch.Endpoint()); len(endpoint.Query())+len(test.query) > 0 && !cmp.Equal(test.query, endpoint.Query()) {
				t.Errorf("endpoint's query %v, want %v", endpoint.Query(), test.query)
			}
			if n := srv.Count(smartauthtest.EndpointConfiguration); test.stated && n != 0 {
				t.Errorf("%d discovery requests, although the endpoint is stated", n)
			}
		})
	}
}

func TestWriteForm(t *testing.T) {
	srv := newWebServer(t, nil)
	client := newClient(t, srv, webApp)
	const hostile = `"><script>alert(1)</script>'&`
	launch := startLaunch(t, client, &smartauth.LaunchOptions{Params: url.Values{"login_hint": {hostile}, hostile: {"x"}, "submit": {"y"}}})
	rec := httptest.NewRecorder()
	if err := launch.WriteForm(rec); err != nil {
		t.Fatal(err)
	}
	page := rec.Body.String()
	if strings.Count(page, "<script>") != 1 {
		t.Errorf("the page has not exactly one script:\n%s", page)
	}
	got := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(page, -1) {
		got.Add(html.UnescapeString(m[1]), html.UnescapeString(m[2]))
	}
	if diff := cmp.Diff(launch.Form(), got); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if !strings.Contains(page, `action="`+srv.AuthorizeURL+`"`) {
		t.Error("the form does not go to the authorization endpoint")
	}
	if csp := rec.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'sha256-") {
		t.Errorf("Content-Security-Policy %q", csp)
	}
	if err := new(smartauth.Launch).WriteForm(httptest.NewRecorder()); err == nil {
		t.Error("a Launch without an endpoint writes a form")
	}
}

func TestLaunchPrintsNothing(t *testing.T) {
	srv := newWebServer(t, nil)
	launch := startLaunch(t, newClient(t, srv, webApp), nil)
	var saved map[string]any
	if err := json.Unmarshal(launch.Save(), &saved); err != nil {
		t.Fatal(err)
	}
	holder := struct {
		name   string
		launch smartauth.Launch
		ptr    *smartauth.Launch
	}{"holder", *launch, launch}
	asJSON, err := json.Marshal(map[string]any{"value": *launch, "pointer": launch})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("launch", "pointer", launch, "value", *launch, "holder", holder)
	printed := []string{string(asJSON), log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, launch), fmt.Sprintf(verb, *launch), fmt.Sprintf(verb, holder), fmt.Sprintf(verb, &holder))
	}
	for _, name := range []string{"state", "code_verifier", "nonce"} {
		value := saved[name].(string)
		for _, text := range printed {
			if strings.Contains(text, value) || strings.Contains(text, fmt.Sprintf("%x", value)) {
				t.Errorf("%s shows in %q", name, text)
			}
		}
	}
}

func TestRestoreLaunchRefuses(t *testing.T) {
	srv := newWebServer(t, nil)
	saved := string(startLaunch(t, newClient(t, srv, webApp), nil).Save())
	if restored, err := smartauth.RestoreLaunch([]byte(saved)); err != nil || string(restored.Save()) != saved {
		t.Fatalf("the launch as it was saved: %v", err)
	}
	replace := func(old, new string) string {
		out := strings.Replace(saved, old, new, 1)
		if out == saved {
			t.Fatalf("%q is not in a saved launch", old)
		}
		return out
	}
	for name, text := range map[string]string{
		"empty":           "",
		"null":            "null",
		"array":           "[" + saved + "]",
		"cut short":       saved[:len(saved)-1],
		"added to":        saved + "{}",
		"other version":   replace(`"version":2`, `"version":1`),
		"unknown member":  replace(`{`, `{"x":1,`),
		"member twice":    replace(`{`, `{"version":2,`),
		"other case":      replace(`"nonce"`, `"Nonce"`),
		"null member":     replace(`"iss_required":false`, `"iss_required":null`),
		"wrong type":      replace(`"version":2`, `"version":"2"`),
		"short state":     replace(`"state":"`, `"state":"x`),
		"no nonce":        replace(`"openid",`, ``),
		"no time":         regexp.MustCompile(`"started":"[^"]*"`).ReplaceAllString(saved, `"started":"0001-01-01T00:00:00Z"`),
		"no server":       replace(srv.URL, ""),
		"no origin":       replace(`"token_origin":"https://ehr.example.test:443"`, `"token_origin":""`),
		"malformed scope": replace(`"openid"`, `"openid x"`),
	} {
		t.Run(name, func(t *testing.T) {
			launch, err := smartauth.RestoreLaunch([]byte(text))
			if launch != nil || !errors.Is(err, smartauth.ErrState) {
				t.Errorf("got %v, %v; want ErrState", launch, err)
			}
		})
	}
}

func FuzzRestoreLaunch(f *testing.F) {
	srv := smartauthtest.NewUnstarted(nil)
	f.Cleanup(srv.Close)
	client, err := smartauth.NewClient(smartauth.Config{
		BaseURL: srv.URL, ClientID: "web-app", RedirectURL: testRedirect, Provider: postSecret{},
		AuthorizationEndpoint: srv.AuthorizeURL, TokenEndpoint: srv.TokenURL, Issuer: srv.Issuer,
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, scopes := range [][]string{webScopes, {"patient/*.rs"}} {
		launch, err := client.StartLaunch(f.Context(), &smartauth.LaunchOptions{Scopes: scopes})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(launch.Save())
	}
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":2,"server":"","client_id":"","state":"","code_verifier":"","nonce":"","redirect_uri":"","scopes":[],"issuer":"","iss_required":false,"token_origin":"","started":"2026-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, saved []byte) {
		launch, err := smartauth.RestoreLaunch(saved)
		if err != nil {
			if !errors.Is(err, smartauth.ErrState) {
				t.Errorf("error %v is not ErrState", err)
			}
			return
		}
		if len(launch.State()) != 43 || launch.URL() != "" || launch.Endpoint() != "" {
			t.Errorf("restored state %q, URL %q", launch.State(), launch.URL())
		}
		again, err := smartauth.RestoreLaunch(launch.Save())
		if err != nil || string(again.Save()) != string(launch.Save()) {
			t.Errorf("what Save returned is not restored: %v", err)
		}
	})
}
