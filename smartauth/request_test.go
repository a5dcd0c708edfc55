package smartauth_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// TestTokenAnswers puts every vector behind a token endpoint.
func TestTokenAnswers(t *testing.T) {
	const dir = "testdata/token_responses"
	var expected struct {
		Documents []struct {
			File, Outcome   string
			HTTPStatus      int    `json:"http_status"`
			ContentType     string `json:"content_type"`
			WWWAuthenticate string `json:"www_authenticate"`
			Error           struct{ Error, Error_Description, Error_URI string }
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &expected); err != nil {
		t.Fatal(err)
	}
	if len(expected.Documents) < 50 {
		t.Fatalf("%d vectors", len(expected.Documents))
	}
	for _, doc := range expected.Documents {
		t.Run(doc.File, func(t *testing.T) {
			body, err := os.ReadFile(filepath.Join(dir, doc.File))
			if err != nil {
				t.Fatal(err)
			}
			srv := newServer(t, nil)
			srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", doc.ContentType)
				w.WriteHeader(doc.HTTPStatus)
				_, _ = w.Write(body)
			})})
			client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Scopes = []string{"system/*.rs"} })
			token, err := client.Token(t.Context())
			var oauth *provider.TokenError
			var server *smartauth.ServerError
			switch doc.Outcome {
			case "success":
				if err != nil {
					t.Errorf("err = %v", err)
				}
			case "oauth_error":
				if !errors.As(err, &oauth) {
					t.Fatalf("err = %v, want a TokenError", err)
				}
				if oauth.Code != doc.Error.Error || oauth.Status != doc.HTTPStatus || oauth.URI != doc.Error.Error_URI {
					t.Errorf("err = %+v", oauth)
				}
				if strings.ContainsAny(oauth.Error(), "\r\n\x1b") {
					t.Errorf("control characters in %q", oauth.Error())
				}
			case "http_error", "invalid_response":
				if !errors.As(err, &server) || server.Status != doc.HTTPStatus {
					t.Errorf("err = %v, want a ServerError with status %d", err, doc.HTTPStatus)
				}
			case "policy":
				if (token == nil) == (err == nil) {
					t.Errorf("token %v, err %v", token, err)
				}
			default:
				t.Fatalf("outcome %q", doc.Outcome)
			}
			if token != nil && err != nil {
				t.Error("both a token and an error")
			}
		})
	}
}

// codeRequest sends an authorization code, a grant that can be used up.
func codeRequest(t *testing.T, client *smartauth.Client, srv *smartauthtest.Server) error {
	t.Helper()
	launch, err := client.StartLaunch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	callback, err := srv.Authorize(t.Context(), launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Exchange(t.Context(), launch, callback.Query())
	return err
}

// TestGrantUncertain: whatever leaves open whether the server used a code up
// says so, and what does not is no such error.
func TestGrantUncertain(t *testing.T) {
	tests := map[string]struct {
		fault     smartauthtest.Fault
		uncertain bool
	}{
		"cut before the answer":       {smartauthtest.Fault{Drop: true, Stage: smartauthtest.Done}, true},
		"time-out":                    {smartauthtest.Fault{Delay: time.Hour}, true},
		"cut in the answer":           {smartauthtest.Fault{Truncate: 10}, true},
		"500 with an OAuth error":     {smartauthtest.Fault{Status: 500, Error: "server_error"}, true},
		"500 invalid_client":          {smartauthtest.Fault{Status: 500, Error: "invalid_client"}, true},
		"502 HTML":                    {smartauthtest.Fault{Status: 502, Body: "<html>"}, true},
		"200 HTML":                    {smartauthtest.Fault{Status: 200, Body: "<html>"}, true},
		"redirect":                    {smartauthtest.Fault{Redirect: "https://evil.example.test/"}, true},
		"401 invalid_client":          {smartauthtest.Fault{Status: 401, Error: "invalid_client"}, false},
		"400 invalid_grant":           {smartauthtest.Fault{Status: 400, Error: "invalid_grant"}, false},
		"200 with an OAuth error":     {smartauthtest.Fault{Status: 200, Error: "invalid_grant"}, false},
		"429":                         {smartauthtest.Fault{Status: 429, Body: "slow down"}, false},
		"403 of something in between": {smartauthtest.Fault{Status: 403, Body: "<html>"}, true},
		"408 of something in between": {smartauthtest.Fault{Status: 408, Stage: smartauthtest.Done, Body: "<html>"}, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := newServer(t, nil)
				srv.AddClient(smartauthtest.Client{ID: testClient, Secrets: []string{testSecret}, RedirectURIs: []string{"https://app.example.test/callback"}})
				client := newClient(t, srv, func(cfg *smartauth.Config) {
					cfg.Scopes = []string{"launch/patient", "patient/*.rs"}
					cfg.RedirectURL = "https://app.example.test/callback"
				})
				srv.Fail(smartauthtest.EndpointToken, test.fault)
				err := codeRequest(t, client, srv)
				if err == nil {
					t.Fatal("no error")
				}
				if got := errors.Is(err, smartauth.ErrGrantUncertain); got != test.uncertain {
					t.Errorf("err = %v; uncertain: want %t", err, test.uncertain)
				}
				if n := srv.TokenRequests(); n != 1 {
					t.Errorf("the code was sent %d times", n)
				}
			})
		})
	}
	t.Run("client_credentials uses nothing up", func(t *testing.T) {
		srv := newServer(t, nil)
		srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Drop: true})
		_, err := newClient(t, srv, nil).Token(t.Context())
		if err == nil || errors.Is(err, smartauth.ErrGrantUncertain) {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		real := httptest.NewServer(nil)
		real.Close() // the port is free again: connections are refused
		srv := newServer(t, nil)
		srv.AddClient(smartauthtest.Client{ID: testClient, Secrets: []string{testSecret}, RedirectURIs: []string{"https://app.example.test/callback"}})
		client := newClient(t, srv, func(cfg *smartauth.Config) {
			cfg.Scopes = []string{"launch/patient", "patient/*.rs"}
			cfg.RedirectURL = "https://app.example.test/callback"
			cfg.TokenEndpoint, cfg.AllowInsecureLoopback = real.URL+"/token", true
			cfg.AuthorizationEndpoint = srv.AuthorizeURL
			cfg.HTTPClient = &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host == strings.TrimPrefix(real.URL, "http://") {
					return http.DefaultTransport.RoundTrip(req)
				}
				return srv.Transport().RoundTrip(req)
			})}
		})
		err := codeRequest(t, client, srv)
		var server *smartauth.ServerError
		if !errors.As(err, &server) || errors.Is(err, smartauth.ErrGrantUncertain) {
			t.Errorf("err = %v: nothing was sent, so the code is good still", err)
		}
	})
}

// TestServerTextIsSearchedForCredentials: a server that repeats what it got,
// in every place an error takes text from.
func TestServerTextIsSearchedForCredentials(t *testing.T) {
	for name, fault := range map[string]smartauthtest.Fault{
		"description": {Status: 401, Error: "invalid_client", Echo: smartauthtest.EchoJSON},
		"headers":     {Status: 401, Error: "invalid_client", Echo: smartauthtest.EchoHeaders},
		"page":        {Status: 500, Echo: smartauthtest.EchoHTML},
		"code":        {Status: 400, Body: fmt.Sprintf(`{"error":"bad_%s"}`, testSecret)},
		"location":    {Redirect: "https://" + testSecret + ":bad-port/"},
		"no HTTP at all": {Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", testSecret)
			w.Header().Set("Retry-After", testSecret)
			w.WriteHeader(418)
		})},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, nil)
			srv.Fail(smartauthtest.EndpointToken, fault)
			seen := new(events)
			client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Observer = seen })
			_, err := client.Token(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", err), fmt.Sprint(seen.all)} {
				if strings.Contains(text, testSecret) || strings.Contains(text, testSecret[:12]) {
					t.Errorf("the secret is in %q", text)
				}
			}
		})
	}
}

func TestCorrelationID(t *testing.T) {
	srv := newServer(t, nil)
	srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 401, Error: "invalid_client", Header: http.Header{"X-Request-Id": {"req-42"}}})
	_, err := newClient(t, srv, nil).Token(t.Context())
	var oauth *provider.TokenError
	if !errors.As(err, &oauth) || oauth.CorrelationID != "req-42" {
		t.Errorf("err = %v, want request id req-42 in it", err)
	}
}

func TestClockSkewIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, skew := range []time.Duration{-2 * time.Minute, -20 * time.Second, 0, 20 * time.Second, 2 * time.Minute} {
			srv := newServer(t, &smartauthtest.Options{Clock: func() time.Time { return time.Now().Add(skew) }})
			srv.SetSecrets(testClient, "another")
			seen := new(events)
			client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Observer = seen })
			_, err := client.Token(t.Context())
			notable := skew.Abs() > 30*time.Second
			if got := strings.Contains(fmt.Sprint(err), "clock"); got != notable {
				t.Errorf("skew %s: err = %v", skew, err)
			}
			if got := seen.count(smartcred.EventClockSkew) == 1; got != notable {
				t.Errorf("skew %s: event: %t", skew, got)
			}
			var oauth *provider.TokenError
			if !errors.As(err, &oauth) || (oauth.Skew-skew).Abs() > time.Second {
				t.Errorf("skew %s: err = %+v", skew, oauth)
			}
		}
	})
}

// TestTLS: names and dates of certificates are checked, and nothing is sent.
func TestTLS(t *testing.T) {
	srv := smartauthtest.NewServer(t, &smartauthtest.Options{TLS: true})
	srv.AddClient(smartauthtest.Client{ID: testClient, Secrets: []string{testSecret}})
	trusted := srv.Client().Transport.(*http.Transport).TLSClientConfig

	for name, change := range map[string]func(*http.Transport){
		"unknown authority": func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = nil },
		"wrong host":        func(tr *http.Transport) { tr.TLSClientConfig.ServerName = "another.example.test" },
		"expired": func(tr *http.Transport) {
			tr.TLSClientConfig.Time = func() time.Time { return time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := http.DefaultTransport.(*http.Transport).Clone()
			tr.TLSClientConfig = trusted.Clone()
			change(tr)
			defer tr.CloseIdleConnections()
			client := newClient(t, srv, func(cfg *smartauth.Config) {
				cfg.HTTPClient = &http.Client{Transport: tr}
				cfg.TokenEndpoint = srv.TokenURL
			})
			_, err := client.Token(t.Context())
			var server *smartauth.ServerError
			if !errors.As(err, &server) || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("err = %v, want a certificate error", err)
			}
		})
	}
	if n := srv.TokenRequests(); n != 0 {
		t.Errorf("%d requests reached the server", n)
	}
}

func TestConfigSaysAllThatIsWrong(t *testing.T) {
	_, err := smartauth.NewClient(smartauth.Config{
		BaseURL: "http://ehr.example.test/fhir", TokenEndpoint: "https://user:hunter2@x.test/token",
		Scopes: []string{"a b"}, IDTokenAlgorithms: []string{"HS256"},
		TokenParams: map[string][]string{"client_id": {"x"}},
		HTTPClient:  &http.Client{Transport: &http.Transport{TLSClientConfig: oldTLS()}},
		Timeout:     -1,
		RedirectURL: "http://app.example.test/callback", AllowedAuthHosts: []string{"https://auth.example.test/"}, UserAgent: "a\r\nb",
	})
	if !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Fatalf("err = %v", err)
	}
	for _, option := range []string{"base_url", "token_endpoint", "client_id", "provider", "scopes", "id_token_algorithms", "token_params", "http_client", "timeout", "redirect_url", "allowed_auth_hosts", "user_agent"} {
		if !strings.Contains(err.Error(), option+": ") {
			t.Errorf("%s is not in: %v", option, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a password is in: %v", err)
	}
}

func TestURLPolicy(t *testing.T) {
	for raw, want := range map[string]map[bool]bool{ // by AllowInsecureLoopback
		"https://ehr.example.test/r4":       {false: true, true: true},
		"http://ehr.example.test/r4":        {false: false, true: false},
		"http://127.0.0.1:8080/r4":          {false: false, true: true},
		"http://127.9.9.9/r4":               {false: false, true: true},
		"http://[::1]:8080/r4":              {false: false, true: true},
		"http://localhost/r4":               {false: false, true: true},
		"http://127.0.0.1.evil.test/r4":     {false: false, true: false},
		"http://localhost.evil.test/r4":     {false: false, true: false},
		"http://[::ffff:127.0.0.1]/r4":      {false: false, true: true},
		"ftp://127.0.0.1/r4":                {false: false, true: false},
		"ehr.example.test/r4":               {false: false, true: false},
		"https:///r4":                       {false: false, true: false},
		"https://:443/r4":                   {false: false, true: false},
		"https://user@ehr.example.test/r4":  {false: false, true: false},
		"https://ehr.example.test/r4?a=b":   {false: false, true: false},
		"https://ehr.example.test/r4#there": {false: false, true: false},
	} {
		for loopback, ok := range want {
			_, err := smartauth.NewClient(smartauth.Config{
				BaseURL: raw, ClientID: "x", Provider: provider.Public{}, AllowInsecureLoopback: loopback,
			})
			if (err == nil) != ok {
				t.Errorf("%s (loopback %t): err = %v", raw, loopback, err)
			}
		}
	}
}

func TestTransportThatTakesAnyCertificate(t *testing.T) {
	_, err := smartauth.NewClient(smartauth.Config{
		BaseURL: "https://ehr.example.test/r4", ClientID: "x", Provider: provider.Public{},
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}},
	})
	if !errors.Is(err, smartcred.ErrInvalidConfig) {
		t.Errorf("err = %v", err)
	}
}

// TestTokenParamsAreNotRepeated: some servers want a credential of their own
// making among the parameters.
func TestTokenParamsAreNotRepeated(t *testing.T) {
	const token = "client-token-of-the-servers-own"
	srv := newServer(t, nil)
	srv.Fail(smartauthtest.EndpointToken, smartauthtest.Fault{Status: 400, Error: "invalid_request", Description: "bad client_token " + token})
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.TokenParams = map[string][]string{"client_token": {token}} })
	if _, err := client.Token(t.Context()); err == nil || strings.Contains(err.Error(), token) {
		t.Errorf("err = %v", err)
	}
}

func TestNoScopes(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Scopes = nil })
	if _, err := client.Token(t.Context()); !errors.Is(err, smartcred.ErrInvalidConfig) || srv.TokenRequests() != 0 {
		t.Errorf("err = %v after %d requests", err, srv.TokenRequests())
	}
}

func TestProviderThatSendsNothing(t *testing.T) {
	srv := newServer(t, nil)
	client := newClient(t, srv, func(cfg *smartauth.Config) { cfg.Provider = silent{} })
	if token, err := client.Token(t.Context()); err == nil || token != nil {
		t.Errorf("token %v, err %v", token, err)
	}
}

type silent struct{}

func (silent) Authenticate(context.Context, provider.Request, func(context.Context, provider.Credential) error) error {
	return nil
}

func TestRequestTellsTheProvider(t *testing.T) {
	srv := newServer(t, nil)
	var got provider.Request
	client := newClient(t, srv, func(cfg *smartauth.Config) {
		cfg.Provider = recording{&got}
		cfg.Issuer = "https://issuer.example.test"
	})
	mustToken(t, client)
	want := provider.Request{
		ClientID: testClient, Server: srv.URL, URL: srv.TokenURL, Issuer: "https://issuer.example.test",
		Algorithms: []string{"RS384", "ES384"}, GrantType: "client_credentials",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
}

type recording struct{ got *provider.Request }

func (r recording) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	*r.got = req
	return postSecret{}.Authenticate(ctx, req, send)
}
