package smartauth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestNewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().Round(0)
		for name, test := range map[string]struct {
			expiry, want time.Time
			expiresIn    time.Duration
			stated       bool
		}{
			"as given":    {now.Add(90*time.Second + time.Millisecond), now.Add(90*time.Second + time.Millisecond), 90 * time.Second, true},
			"not given":   {time.Time{}, now.Add(smartauth.DefaultLifetime), 0, false},
			"passed":      {now.Add(-time.Hour), now.Add(-time.Hour), 0, true},
			"for ever":    {now.AddDate(200, 0, 0), now.Add(smartauth.MaxLifetime), smartauth.MaxLifetime, true},
			"the present": {now, now, 0, true},
		} {
			token, err := smartauth.NewToken("the token", test.expiry)
			if err != nil {
				t.Fatal(err)
			}
			expiresIn, stated := token.ExpiresIn()
			if token.AccessToken() != "the token" || !token.Expiry.Equal(test.want) || !token.Received.Equal(now) || expiresIn != test.expiresIn || stated != test.stated {
				t.Errorf("%s: got %s, received %s, expires in %s (%t)", name, token.Expiry, token.Received, expiresIn, stated)
			}
			req := must(http.NewRequest(http.MethodGet, "https://ehr.example.test", nil))
			if token.SetAuthHeader(req); req.Header.Get("Authorization") != "Bearer the token" {
				t.Errorf("%s: the header is not the token's", name)
			}
			if restored, err := smartauth.RestoreToken(token.Save()); err != nil || !restored.Expiry.Equal(token.Expiry) || restored.AccessToken() != "the token" {
				t.Errorf("%s: restored: %v", name, err)
			}
		}
	})
	for _, bad := range []string{"", "line\nbreak", "tab\t", "ümlaut", "\x7f"} {
		if token, err := smartauth.NewToken(bad, time.Time{}); token != nil || err == nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: got %v, %v", bad, token, err)
		}
	}
}

func TestHookTokens(t *testing.T) {
	for name, test := range map[string]struct {
		token *smartauth.Token
		good  bool
	}{
		"new":  {must(smartauth.NewToken("from-elsewhere", time.Now().Add(time.Hour))), true},
		"zero": {new(smartauth.Token), false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer(t, nil)
			client := newClient(t, srv, func(cfg *smartauth.Config) {
				cfg.PreTokenRequest = func(context.Context, smartauth.TokenRequest) (*smartauth.Token, error) { return test.token, nil }
			})
			token, err := client.Token(t.Context())
			if test.good && (err != nil || token.AccessToken() != "from-elsewhere") || !test.good && (err == nil || token != nil) {
				t.Errorf("got %v, %v", token, err)
			}
			if n := srv.TokenRequests(); n != 0 {
				t.Errorf("%d token requests", n)
			}
		})
	}
}

// What is restored after a restart is what there was: times, scopes, context, and
// who the user is.
func TestTokenSurvivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := newWebServer(t, &smartauthtest.Options{
			SigningKey:    testRSAKey(),
			ModifyIDToken: func(claims map[string]any) { claims["name"] = "Ada <&> Löve" },
			ModifyToken:   func(members map[string]any) { delete(members, "scope"); members["__vendor"] = "<é>" },
		})
		token := login(t, srv, newClient(t, srv, webApp))
		saved := token.Save()
		time.Sleep(4 * time.Minute)
		restored, err := smartauth.RestoreToken(saved)
		if err != nil {
			t.Fatal(err)
		}
		if !restored.Received.Equal(token.Received) || !restored.Expiry.Equal(token.Expiry) {
			t.Errorf("received %s, expiry %s; want %s, %s", restored.Received, restored.Expiry, token.Received, token.Expiry)
		}
		if !bytes.Equal(restored.Answer(), token.Answer()) || restored.RefreshToken() == "" {
			t.Error("the answer is not the same")
		}
		if diff := cmp.Diff(token.Scopes, restored.Scopes); diff != "" {
			t.Errorf("scopes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(token.Context, restored.Context); diff != "" {
			t.Errorf("context (-want +got):\n%s", diff)
		}
		was, is := token.Identity(), restored.Identity()
		if is == nil || is.Server != srv.URL || is.Issuer != was.Issuer || is.Subject != was.Subject || is.FHIRUser != was.FHIRUser ||
			!is.IssuedAt.Equal(was.IssuedAt) || !is.Expiry.Equal(was.Expiry) || !bytes.Equal(is.Claims(), was.Claims()) {
			t.Errorf("identity %+v, want %+v", is, was)
		}
		if !bytes.Equal(restored.Save(), saved) {
			t.Error("saved again it is something else")
		}
		// It has a minute to live, not five, and is renewed in time.
		source := newClient(t, srv, webApp).SessionSource(restored, nil)
		for range 10 {
			got, err := source.Token(t.Context())
			if err != nil || !srv.Active(got.AccessToken()) {
				t.Fatalf("got %v, %v", got, err)
			}
			time.Sleep(30 * time.Second)
		}
	})
}

func TestRestoreTokenRefuses(t *testing.T) {
	srv := newWebServer(t, &smartauthtest.Options{SigningKey: testRSAKey()})
	token := login(t, srv, newClient(t, srv, webApp))
	saved := string(token.Save())
	replace := func(old, new string) string {
		out := strings.Replace(saved, old, new, 1)
		if out == saved {
			t.Fatalf("%q is not in a saved token", old)
		}
		return out
	}
	answer := base64.StdEncoding.EncodeToString(token.Answer())
	claims := base64.StdEncoding.EncodeToString(token.Identity().Claims())
	for name, text := range map[string]string{
		"empty":          "",
		"null":           "null",
		"cut short":      saved[:len(saved)-1],
		"added to":       saved + "{}",
		"other version":  replace(`"version":1`, `"version":2`),
		"unknown member": replace(`{`, `{"x":1,`),
		"member twice":   replace(`{`, `{"version":1,`),
		"member missing": replace(`"version":1,`, ``),
		"other case":     replace(`"answer"`, `"Answer"`),
		"wrong type":     replace(`"version":1`, `"version":"1"`),
		"no answer":      replace(answer, ""),
		"an error":       replace(answer, base64.StdEncoding.EncodeToString([]byte(`{"error":"x"}`))),
		"no claims":      replace(claims, ""),
		"nobody":         replace(claims, base64.StdEncoding.EncodeToString([]byte(`{"iss":"x"}`))),
		"no server":      replace(`"server":"`+srv.URL+`"`, `"server":""`),
		"the answer":     string(token.Answer()),
		"a launch":       string(startLaunch(t, newClient(t, srv, webApp), nil).Save()),
	} {
		t.Run(name, func(t *testing.T) {
			restored, err := smartauth.RestoreToken([]byte(text))
			if restored != nil || err == nil {
				t.Fatalf("got %v, %v", restored, err)
			}
			if strings.Contains(fmt.Sprintf("%+v", err), token.AccessToken()) {
				t.Errorf("the access token shows in %v", err)
			}
		})
	}
	for _, none := range []*smartauth.Token{nil, {}} {
		if saved := none.Save(); saved != nil {
			t.Errorf("nothing is saved as %s", saved)
		}
	}
	if errors.Is(func() error { _, err := smartauth.RestoreToken(nil); return err }(), smartauth.ErrState) {
		t.Error("a token is no launch")
	}
}

func FuzzRestoreToken(f *testing.F) {
	token := must(smartauth.ParseToken([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":300,"refresh_token":"r"}`), []string{"x"}, time.Unix(1767225600, 5)))
	f.Add(token.Save())
	f.Add(must(smartauth.NewToken("a", time.Unix(1767225600, 0))).Save())
	claims := base64.StdEncoding.EncodeToString([]byte(`{"iss":"https://i","sub":"s","fhirUser":"Patient/1","exp":1767225600,"iat":1767225600}`))
	f.Add([]byte(strings.Replace(string(token.Save()), `"identity":null`, `"identity":{"server":"https://s","claims":"`+claims+`"}`, 1)))
	f.Fuzz(func(t *testing.T, saved []byte) {
		restored, err := smartauth.RestoreToken(saved)
		if err != nil {
			if restored != nil {
				t.Error("a token and an error")
			}
			return
		}
		if restored.AccessToken() == "" || restored.Expiry.IsZero() {
			t.Errorf("restored %v", restored)
		}
		again, err := smartauth.RestoreToken(restored.Save())
		if err != nil || !bytes.Equal(again.Save(), restored.Save()) || !again.Expiry.Equal(restored.Expiry) {
			t.Errorf("what Save returned is not restored: %v", err)
		}
	})
}
