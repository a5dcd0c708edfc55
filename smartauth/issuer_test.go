package smartauth_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

const otherIssuer = "https://login.example.test/realm"

// An issuerHost is another host's answers to requests for its configuration.
type issuerHost struct {
	requests int
	status   int
	body     string
	location string
}

func (h *issuerHost) client(srv *smartauthtest.Server) *http.Client {
	own := smartauthtest.HandlerTransport(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		h.requests++
		if req.URL.Path != "/realm/.well-known/openid-configuration" {
			http.NotFound(w, req)
			return
		}
		if h.location != "" {
			w.Header().Set("Location", h.location)
		}
		w.WriteHeader(h.status)
		fmt.Fprint(w, h.body)
	}))
	return &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "login.example.test" {
			return own.RoundTrip(req)
		}
		return srv.Transport().RoundTrip(req)
	})}
}

// newIssuerServer returns a server that names otherIssuer as its own, and signs
// as that.
func newIssuerServer(t *testing.T) (*smartauthtest.Server, *issuerHost) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey(), ModifyIDToken: func(claims map[string]any) { claims["iss"] = otherIssuer }})
	srv.SetConfigurationMember("issuer", otherIssuer)
	return srv, &issuerHost{status: 200, body: fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, otherIssuer, srv.JWKSURL)}
}

// TestIssuerOfAnotherServer: a server that names another's issuer gets nobody
// logged in as a user of that one.
func TestIssuerOfAnotherServer(t *testing.T) {
	for name, order := range map[string]func(srv *smartauthtest.Server, other *issuerHost){
		"its keys are others": func(_ *smartauthtest.Server, other *issuerHost) {
			other.body = fmt.Sprintf(`{"issuer":%q,"jwks_uri":"https://login.example.test/keys"}`, otherIssuer)
		},
		"it has no keys": func(_ *smartauthtest.Server, other *issuerHost) {
			other.body = fmt.Sprintf(`{"issuer":%q}`, otherIssuer)
		},
		"it calls itself otherwise": func(srv *smartauthtest.Server, other *issuerHost) {
			other.body = fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q}`, otherIssuer+"/", srv.JWKSURL)
		},
		"it says so twice": func(_ *smartauthtest.Server, other *issuerHost) {
			other.body = strings.Replace(other.body, "{", `{"issuer":"x",`, 1)
		},
		"not found": func(_ *smartauthtest.Server, other *issuerHost) { other.status = 404 },
		"HTML":      func(_ *smartauthtest.Server, other *issuerHost) { other.body = "<html>" },
		"too much":  func(_ *smartauthtest.Server, other *issuerHost) { other.body += strings.Repeat(" ", 1<<20) },
		"redirect to the server": func(srv *smartauthtest.Server, other *issuerHost) {
			other.status, other.location = 307, srv.Issuer+"/.well-known/openid-configuration"
		},
		"http": func(srv *smartauthtest.Server, _ *issuerHost) {
			srv.SetConfigurationMember("issuer", strings.Replace(otherIssuer, "https", "http", 1))
		},
		"with a query": func(srv *smartauthtest.Server, _ *issuerHost) {
			srv.SetConfigurationMember("issuer", otherIssuer+"?x=/realm")
		},
	} {
		t.Run(name, func(t *testing.T) {
			srv, other := newIssuerServer(t)
			order(srv, other)
			client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv) })
			launch, err := client.StartLaunch(t.Context(), nil)
			if launch != nil || !errors.Is(err, smartauth.ErrIssuerMismatch) {
				t.Fatalf("got %v, %v; want ErrIssuerMismatch", launch, err)
			}
			if !strings.Contains(err.Error(), "issuer in the configuration") && name != "http" {
				t.Errorf("%v does not say what to do", err)
			}
			// Nor in a process that gets the callback only.
			stated := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv); cfg.Issuer = otherIssuer })
			launch = startLaunch(t, stated, nil)
			if token, err := client.Exchange(t.Context(), launch, callbackOf(t, srv, launch)); token != nil || !errors.Is(err, smartauth.ErrIssuerMismatch) {
				t.Errorf("got %v, %v; want ErrIssuerMismatch", token, err)
			}
			if n := srv.TokenRequests(); n != 0 {
				t.Errorf("%d token requests", n)
			}
			if other.requests > 1 {
				t.Errorf("the issuer was asked %d times", other.requests)
			}
		})
	}
}

func TestIssuerOnAnotherOrigin(t *testing.T) {
	srv, other := newIssuerServer(t)
	client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv) })
	for range 3 {
		if id := login(t, srv, client).Identity(); id.Issuer != otherIssuer || id.Server != srv.URL {
			t.Errorf("issuer %q, server %q", id.Issuer, id.Server)
		}
	}
	if other.requests != 1 {
		t.Errorf("the issuer was asked %d times, want once", other.requests)
	}
	// Without users and without iss nobody needs to know.
	other.requests = 0
	login(t, srv, newClient(t, srv, func(cfg *smartauth.Config) {
		webApp(cfg)
		cfg.HTTPClient, cfg.Scopes = other.client(srv), []string{"patient/*.rs"}
	}))
	if other.requests != 0 {
		t.Errorf("the issuer was asked %d times for nothing", other.requests)
	}
}

func TestIssuerStated(t *testing.T) {
	srv, other := newIssuerServer(t)
	other.status = 404
	client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv); cfg.Issuer = otherIssuer })
	if id := login(t, srv, client).Identity(); id.Issuer != otherIssuer || other.requests != 0 {
		t.Errorf("issuer %q, asked %d times", id.Issuer, other.requests)
	}
	client = newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv); cfg.Issuer = srv.Issuer })
	if token, err := tryLogin(t, srv, client); token != nil || !errors.Is(err, smartauth.ErrIssuerMismatch) {
		t.Errorf("got %v, %v; want ErrIssuerMismatch", token, err)
	}
}

func TestIssuerOfManyLaunches(t *testing.T) {
	srv, other := newIssuerServer(t)
	client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv) })
	if _, err := client.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := client.StartLaunch(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if other.requests != 1 {
		t.Errorf("the issuer was asked %d times, want once", other.requests)
	}
}

// An issuer that can't be asked now is an outage, and not asked again at once.
func TestIssuerDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, other := newIssuerServer(t)
		client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.HTTPClient = other.client(srv) })
		other.status = 503
		for range 5 {
			_, err := client.StartLaunch(t.Context(), nil)
			var server *smartauth.ServerError
			if !errors.As(err, &server) || server.Status != 503 || errors.Is(err, smartauth.ErrIssuerMismatch) {
				t.Errorf("got %v, want a ServerError", err)
			}
		}
		if other.requests != 1 {
			t.Errorf("asked %d times, want once", other.requests)
		}
		other.status = 200
		time.Sleep(6 * time.Second)
		login(t, srv, client)
		// A new document with the same issuer and keys asks again, and does without.
		other.status = 503
		srv.SetConfigurationMember("management_endpoint", srv.URL+"/manage")
		time.Sleep(2 * time.Hour)
		login(t, srv, client)
		login(t, srv, client)
		if other.requests != 3 {
			t.Errorf("asked %d times, want 3", other.requests)
		}
	})
}

// The first issuer stays: another one is refused, and an event, once.
func TestIssuerMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
		seen := new(events)
		client := newClient(t, srv, func(cfg *smartauth.Config) { webApp(cfg); cfg.Observer, cfg.Provider = seen, provider.Public{} })
		srv.AddClient(smartauthtest.Client{ID: "web-app", RedirectURIs: []string{testRedirect}})
		token := login(t, srv, client)
		srv.SetConfigurationMember("issuer", srv.Issuer+"/other")
		time.Sleep(2 * time.Hour)
		srv.ResetRequests()
		for range 2 {
			if launch, err := client.StartLaunch(t.Context(), nil); launch != nil || !errors.Is(err, smartauth.ErrIssuerMismatch) {
				t.Errorf("launch: got %v, %v; want ErrIssuerMismatch", launch, err)
			}
		}
		if renewed, err := client.Refresh(t.Context(), token, nil); renewed != nil || !errors.Is(err, smartauth.ErrIssuerMismatch) {
			t.Errorf("refresh: got %v, %v; want ErrIssuerMismatch", renewed, err)
		}
		if n := seen.count(smartcred.EventEndpointChanged); n != 1 || srv.TokenRequests() != 0 {
			t.Errorf("%d endpoint_changed events, want 1; %d token requests", n, srv.TokenRequests())
		}
	})
}
