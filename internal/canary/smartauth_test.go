package canary

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
)

func newClient(t *testing.T, w *watch, s *echoServer, p provider.Provider, change func(*smartauth.Config)) *smartauth.Client {
	t.Helper()
	cfg := smartauth.Config{
		BaseURL: s.base(), ClientID: "app", Scopes: []string{"launch/patient", "system/*.rs"}, Provider: p,
		RedirectURL: "https://app.example.test/callback", AllowInsecureLoopback: true, Timeout: 5 * time.Second, Observer: w.observer(),
	}
	if change != nil {
		change(&cfg)
	}
	client, err := smartauth.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// heldToken is a token that was got before.
func heldToken(t *testing.T) *smartauth.Token {
	t.Helper()
	token, err := smartauth.ParseToken(fmt.Appendf(nil,
		`{"access_token":%q,"refresh_token":%q,"token_type":"Bearer","expires_in":3600,"scope":"system/*.rs"}`, accessToken, refreshToken),
		nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// calls are the requests that carry something secret to the authorization server.
var calls = map[string]func(ctx context.Context, w *watch, c *smartauth.Client, held *smartauth.Token) error{
	"client_credentials": func(ctx context.Context, _ *watch, c *smartauth.Client, _ *smartauth.Token) error {
		_, err := c.Token(ctx)
		return err
	},
	"code": func(ctx context.Context, w *watch, c *smartauth.Client, _ *smartauth.Token) error {
		launch, err := c.StartLaunch(ctx, nil)
		if err != nil {
			return err
		}
		_, err = c.Exchange(ctx, launch, url.Values{"state": {w.secret("state", launch.State())}, "code": {authCode}})
		w.value("used launch", launch)
		return err
	},
	"refresh": func(ctx context.Context, _ *watch, c *smartauth.Client, held *smartauth.Token) error {
		_, err := c.Refresh(ctx, held, nil)
		return err
	},
	"introspection": func(ctx context.Context, _ *watch, c *smartauth.Client, _ *smartauth.Token) error {
		_, err := c.Introspect(ctx, accessToken, nil)
		return err
	},
	"introspection by bearer": func(ctx context.Context, _ *watch, c *smartauth.Client, held *smartauth.Token) error {
		_, err := c.Introspect(ctx, refreshToken, &smartauth.IntrospectOptions{Bearer: held})
		return err
	},
	"revocation": func(ctx context.Context, _ *watch, c *smartauth.Client, held *smartauth.Token) error {
		return c.Revoke(ctx, held)
	},
}

// mayWork are the places in answers that some calls take for a success.
func mayWork(call, place string) bool {
	return call == "revocation" || place == "token type"
}

func testEcho(t *testing.T) {
	w := newCommonWatch(t)
	server := newEchoServer(t, w)
	key := newSigner(t, w)
	held := heldToken(t)
	for placeName, place := range places {
		for codingName, coding := range codings {
			// Every coding in the places whose text is shown; elsewhere two do.
			shown := placeName == "description" || placeName == "headers" || placeName == "code"
			if !shown && codingName != "raw" && codingName != "form" {
				continue
			}
			server.set(place, coding)
			for method, p := range newProviders(t, w, key) {
				for call, do := range calls {
					if shown && codingName != "raw" && call != "client_credentials" && method != "jwt" {
						continue
					}
					name := strings.Join([]string{call, method, placeName, codingName}, ", ")
					client := newClient(t, w, server, p, nil)
					before := server.requests()
					err := do(t.Context(), w, client, held)
					if err == nil && !mayWork(call, placeName) {
						t.Errorf("%s: no error", name)
					}
					// A back-off of the provider's holds up the later calls.
					if server.requests() == before && method != "none" && call == "introspection by bearer" {
						t.Errorf("%s: no request with a credential", name)
					}
					w.err(name, err)
					client.Close()
				}
				if rotator, ok := p.(provider.Rotator); ok {
					w.print("status", rotator.Status(t.Context(), "app", server.base()))
					rotator.Reset(t.Context(), "app", server.base())
				}
				if closer, ok := p.(io.Closer); ok && method != "jwt" {
					closer.Close()
				}
			}
		}
	}
}

// testFHIR: the FHIR server repeats the access token.
func testFHIR(t *testing.T) {
	w := newCommonWatch(t)
	server := newEchoServer(t, w)
	held := heldToken(t)
	for placeName, place := range places {
		for codingName, coding := range codings {
			server.set(place, coding)
			client := newClient(t, w, server, provider.Public{}, nil)
			source := client.SessionSource(held, nil)
			hc := &http.Client{Transport: client.Transport(source), Timeout: 5 * time.Second}
			resp, err := hc.Get(server.base() + "/Patient/1")
			name := strings.Join([]string{"FHIR", placeName, codingName}, ", ")
			if err != nil {
				w.err(name, err)
			} else {
				_, err := io.ReadAll(resp.Body)
				w.err(name+", body", err)
				resp.Body.Close()
			}
			if server.requests() == 0 {
				t.Errorf("%s: no request with the token", name)
			}
			client.Close()
		}
	}
}
