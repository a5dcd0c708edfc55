package rotationtest_test

import (
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// exchange logs a user in and exchanges the code. during, if set, is called when
// the browser is back.
func (b *bed) exchange(t *testing.T, during func()) (*smartauth.Token, error) {
	t.Helper()
	launch, err := b.client.StartLaunch(t.Context(), &smartauth.LaunchOptions{Scopes: []string{"launch/patient", "patient/*.rs", "offline_access"}})
	if err != nil {
		t.Fatal(err)
	}
	back, err := b.srv.Authorize(t.Context(), launch.URL())
	if err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during()
	}
	return b.client.Exchange(t.Context(), launch, back.Query())
}

// A grant is a way to ask for a token. prepare returns the request, which is made
// once the answer to it is ordered.
type grant struct {
	prepare   func(t *testing.T, b *bed) func(during func()) error
	singleUse bool
}

var grants = map[string]grant{
	"client_credentials": {func(t *testing.T, b *bed) func(func()) error {
		return func(during func()) error { during(); return b.login(t) }
	}, false},
	"authorization_code": {func(t *testing.T, b *bed) func(func()) error {
		return func(during func()) error {
			_, err := b.exchange(t, during)
			return err
		}
	}, true},
	"refresh_token": {func(t *testing.T, b *bed) func(func()) error {
		token, err := b.exchange(t, nil)
		if err != nil {
			t.Fatal(err)
		}
		return func(during func()) error {
			during()
			_, err := b.client.Refresh(t.Context(), token, nil)
			return err
		}
	}, true},
}

// What counts as a refusal: invalid_client with a 4xx. Other answers only where
// the configuration says so, and for client_credentials only.
func TestAnswersThatAreRefusals(t *testing.T) {
	all := provider.Refusals
	for _, answer := range []struct {
		name  string
		fault smartauthtest.Fault
		also  provider.Refusal // that makes it a refusal
		plain bool             // it is one without
		never bool
	}{
		{name: "invalid_client, 401", fault: smartauthtest.Fault{Status: 401, Error: "invalid_client"}, plain: true},
		{name: "invalid_client, 400", fault: smartauthtest.Fault{Status: 400, Error: "invalid_client"}, plain: true},
		{name: "invalid_client, 403", fault: smartauthtest.Fault{Status: 403, Error: "invalid_client"}, plain: true},
		{name: "invalid_grant", fault: smartauthtest.Fault{Status: 400, Error: "invalid_grant"}, also: provider.RefusalInvalidGrant},
		{name: "bare 401", fault: smartauthtest.Fault{Status: 401, Body: "<html>"}, also: provider.RefusalBare401},
		{name: "invalid_client, 503", fault: smartauthtest.Fault{Status: 503, Error: "invalid_client"}, also: provider.RefusalServerError},
		{name: "invalid_client, 429", fault: smartauthtest.Fault{Status: 429, Error: "invalid_client"}, never: true},
		{name: "invalid_grant, 500", fault: smartauthtest.Fault{Status: 500, Error: "invalid_grant"}, never: true},
		{name: "unauthorized_client", fault: smartauthtest.Fault{Status: 401, Error: "unauthorized_client"}, never: true},
		{name: "bare 503", fault: smartauthtest.Fault{Status: 503, Body: "<html>"}, never: true},
		{name: "cut", fault: smartauthtest.Fault{Drop: true}, never: true},
		{name: "no answer in time", fault: smartauthtest.Fault{Delay: time.Minute, Drop: true}, never: true},
	} {
		answer.fault.Times = 1
		for grantType, g := range grants {
			for name, also := range map[string][]provider.Refusal{"": nil, ", named": {answer.also}, ", all named": all} {
				if name == ", named" && answer.also == "" {
					continue
				}
				t.Run(answer.name+", "+grantType+name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						source := newSecrets("one", "zero")
						b, _ := newSecretBed(t, source, provider.RotationOptions{AlsoRefusal: also}, "one", "zero")
						call := g.prepare(t, b)
						b.sent()
						err := call(func() { b.srv.Fail(smartauthtest.EndpointToken, answer.fault) })
						if refusal := answer.plain || len(also) > 0 && !answer.never && !g.singleUse; refusal {
							if err != nil {
								t.Errorf("got %v, want the next credential to be tried", err)
							}
							if sent := b.sent(); sent != "one! zero" && sent != "one! one" { // what had worked is sent once more first
								t.Errorf("token requests with %q", sent)
							}
							return
						}
						if err == nil {
							t.Error("got a token, want the error")
						}
						b.wantSent(t, "one!")
					})
				})
			}
		}
	}
}

// After anything but a complete refusal nobody knows whether a code or refresh
// token was used up: it is not sent again.
func TestGrantIsNotSentAgain(t *testing.T) {
	for name, fault := range map[string]smartauthtest.Fault{
		"cut before":              {Drop: true},
		"cut after":               {Stage: smartauthtest.Done, Drop: true},
		"cut within":              {Stage: smartauthtest.Done, Truncate: 10},
		"time-out":                {Stage: smartauthtest.Done, Delay: time.Minute},
		"5xx":                     {Status: http.StatusBadGateway, Body: "<html>"},
		"5xx with invalid_client": {Status: http.StatusInternalServerError, Error: "invalid_client"},
	} {
		for grantType, g := range grants {
			if !g.singleUse {
				continue
			}
			t.Run(name+", "+grantType, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, p := newSecretBed(t, newSecrets("one", "zero"), provider.RotationOptions{AlsoRefusal: provider.Refusals}, "one", "zero")
					call := g.prepare(t, b)
					b.srv.ResetRequests()
					err := call(func() { b.srv.Fail(smartauthtest.EndpointToken, fault) })
					if !errors.Is(err, smartauth.ErrGrantUncertain) {
						t.Errorf("got %v, want ErrGrantUncertain", err)
					}
					if n := b.srv.TokenRequests(); n != 1 {
						t.Errorf("%d token requests, want 1", n)
					}
					if status := p.Status(t.Context(), clientID, b.srv.URL); !status.BackoffUntil.IsZero() {
						t.Errorf("back-off until %s", status.BackoffUntil)
					}
				})
			})
		}
	}
}

// A refused code is sent once more, with a new assertion of another key, and
// never a third time.
func TestRefusedGrantIsSentTwiceAtMost(t *testing.T) {
	for grantType, g := range grants {
		t.Run(grantType, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path, names := newKeyFiles(t, "next", "current", "previous")
				b, p := newKeyBed(t, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, provider.RotationOptions{})
				maps.Copy(b.names, names)
				call := g.prepare(t, b)
				b.sent()
				before := b.srv.TokenRequests()
				err := call(func() { b.serverTakes(t, p, "next") })
				requests := b.srv.RequestsTo(smartauthtest.EndpointToken)[before:]
				most := 3
				if g.singleUse {
					most = 2
					var refused *provider.RefusedError
					if !errors.As(err, &refused) || !errors.Is(err, provider.ErrInvalidClient) || len(refused.Attempts) != 2 {
						t.Errorf("got %v, want the refusals", err)
					}
				} else if err != nil {
					t.Error(err)
				}
				if len(requests) != most {
					t.Errorf("%d token requests (%s), want %d", len(requests), b.sent(), most)
				}
				seen := map[any]bool{}
				for _, r := range requests {
					if r.AssertionClaims["jti"] == nil || seen[r.AssertionClaims["jti"]] {
						t.Errorf("jti %v again", r.AssertionClaims["jti"])
					}
					seen[r.AssertionClaims["jti"]] = true
				}
			})
		})
	}
}

// Anyone can send a browser to the callback: refused codes hold nobody up. What
// backends learn by themselves holds codes up too.
func TestRefusedCodesAndTheBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, p := newSecretBed(t, newSecrets("one", "zero"), provider.RotationOptions{}, "one")
		b.mustLogin(t)
		b.sent()
		for range 3 {
			var refused *provider.RefusedError
			if _, err := b.exchange(t, func() { b.srv.SetSecrets(clientID, "two") }); !errors.As(err, &refused) || !refused.Until.IsZero() {
				t.Errorf("got %v, want refusals that hold nothing up", err)
			}
			if n := len(strings.Fields(b.sent())); n == 0 || n > 2 {
				t.Errorf("%d requests for a code, want 1 or 2", n)
			}
		}
		if status := p.Status(t.Context(), clientID, b.srv.URL); !status.BackoffUntil.IsZero() || status.InForce.Refusals != 0 {
			t.Errorf("status %+v", status)
		}
		b.events.take(smartcred.EventAllRefused)
		if err := b.login(t); !errors.Is(err, provider.ErrInvalidClient) {
			t.Errorf("got %v, want the refusals", err)
		}
		if b.sent() == "" {
			t.Error("the backend's own request was not made")
		}
		b.events.one(t, smartcred.EventAllRefused)
		if _, err := b.exchange(t, nil); !errors.Is(err, provider.ErrInvalidClient) {
			t.Errorf("got %v, want the back-off's error", err)
		}
		b.wantSent(t, "")
	})
	// A code that passes with the second credential teaches what the first met.
	synctest.Test(t, func(t *testing.T) {
		b, p := newSecretBed(t, newSecrets("one", "zero"), provider.RotationOptions{}, "zero")
		for range 2 {
			if _, err := b.exchange(t, nil); err != nil {
				t.Fatal(err)
			}
		}
		b.wantSent(t, "one! zero zero")
		if status := p.Status(t.Context(), clientID, b.srv.URL); status.InForce.Version != "v-zero" || len(status.Known) != 2 || status.Known[1].Refusals != 1 {
			t.Errorf("status %+v", status)
		}
	})
}

// Where the clocks differ by more than a minute any assertion is refused: another
// key would not help, another secret may.
func TestSkewExplainsARefusal(t *testing.T) {
	for _, test := range []struct {
		skew  time.Duration
		tried bool // previous
	}{{10 * time.Minute, false}, {-10 * time.Minute, false}, {61 * time.Second, false}, {45 * time.Second, true}, {0, true}} {
		t.Run("key, "+test.skew.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path, names := newKeyFiles(t, "current", "previous")
				clock := func() time.Time { return time.Now().Add(test.skew) }
				b, p := newKeyBedAt(t, clock, fileSigner(t, path, smartcred.Discard), signer.KeySetOptions{}, provider.RotationOptions{})
				maps.Copy(b.names, names)
				b.serverTakes(t, p, "previous")
				err := b.login(t)
				if test.tried {
					if err != nil {
						t.Error(err)
					}
					b.wantSent(t, "current! previous")
				} else {
					var oauth *provider.TokenError
					if !errors.As(err, &oauth) || !strings.Contains(err.Error(), "clock") {
						t.Errorf("got %v, want a refusal that names the clocks", err)
					}
					b.wantSent(t, "current!")
				}
				skewed := b.events.take(smartcred.EventClockSkew)
				if want := test.skew.Abs() > 30*time.Second; len(skewed) > 0 != want {
					t.Errorf("events %+v", skewed)
				} else if want && (skewed[0].JTI == "" || (skewed[0].Skew-test.skew).Abs() > time.Second) {
					t.Errorf("event %+v", skewed[0])
				}
			})
		})
	}
	t.Run("secret", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBed(t, &smartauthtest.Options{Clock: func() time.Time { return time.Now().Add(10 * time.Minute) }})
			b.srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{"zero"}})
			b.connect(t, secretProvider(t, newSecrets("one", "zero"), provider.RotationOptions{}, b.events))
			b.mustLogin(t)
			b.wantSent(t, "one! zero")
		})
	})
}
