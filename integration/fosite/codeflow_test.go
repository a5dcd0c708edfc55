package fosite_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/smartcred/smartcred/smartauth"
)

func TestAuthorizationCode(t *testing.T) {
	servers(t, func(t *testing.T, s *server) {
		for _, l := range logins {
			t.Run(l.name, func(t *testing.T) {
				before := len(s.tokenRequests())
				id := "web app: " + l.name
				client := newClient(t, s, id, l.register(t, s, id), userScopes)
				token := logIn(t, s, client, get)
				checkUserToken(t, s, token)
				source := client.SessionSource(token, nil)
				readPatient(t, &http.Client{Transport: client.Transport(source)}, s)

				renewed, err := client.Refresh(t.Context(), token, nil)
				if err != nil {
					t.Fatal(err)
				}
				checkUserToken(t, s, renewed)
				if renewed.RefreshToken() == token.RefreshToken() || renewed.AccessToken() == token.AccessToken() {
					t.Error("fosite rotates both tokens: one of them is the old one")
				}
				if renewed.IDToken() == token.IDToken() {
					t.Error("the id token is the old one")
				}
				readPatient(t, &http.Client{Transport: client.Transport(client.SessionSource(renewed, nil))}, s)

				requests := s.tokenRequests()[before:]
				var grants []string
				for _, r := range requests {
					grants = append(grants, r.form.Get("grant_type"))
					checkProof(t, l.method, r)
				}
				if diff := cmp.Diff([]string{"authorization_code", "refresh_token"}, grants); diff != "" {
					t.Errorf("grants (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestAuthorizationRequestByPost(t *testing.T) {
	s := newServer(t, true)
	client := newClient(t, s, "app", logins[0].register(t, s, "app"), userScopes)
	checkUserToken(t, s, logIn(t, s, client, post))
}

// checkUserToken checks what the server says about user and launch.
func checkUserToken(t *testing.T, s *server, token *smartauth.Token) {
	t.Helper()
	if missing := token.MissingScopes(userScopes); len(missing) > 0 {
		t.Errorf("scopes that were not granted: %v", missing)
	}
	if token.RefreshToken() == "" {
		t.Error("no refresh token")
	}
	if c := token.Context; c.Patient != patientID || c.NeedPatientBanner == nil || !*c.NeedPatientBanner {
		t.Errorf("launch context %+v", c)
	}
	identity := token.Identity()
	if identity == nil {
		t.Fatal("no identity")
	}
	got := []string{identity.Issuer, identity.Subject, identity.FHIRUser}
	want := []string{s.URL, userSubject, s.fhirBase() + "/" + fhirUser}
	if !slices.Equal(got, want) {
		t.Errorf("identity %q, want %q", got, want)
	}
}

// logIn goes through the authorization code flow, with send as the browser.
func logIn(t *testing.T, s *server, client *smartauth.Client, send func(*http.Client, *smartauth.Launch) (*http.Response, error)) *smartauth.Token {
	t.Helper()
	launch, err := client.StartLaunch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.Exchange(t.Context(), launch, callback(t, s, launch, send))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// callback sends the browser to the authorization server and returns the
// parameters with which it comes back.
func callback(t *testing.T, s *server, launch *smartauth.Launch, send func(*http.Client, *smartauth.Launch) (*http.Response, error)) url.Values {
	t.Helper()
	browser := &http.Client{
		Transport:     s.Client().Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := send(browser, launch)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	location := resp.Header.Get("Location")
	back, query, _ := strings.Cut(location, "?")
	if back != redirectURL {
		t.Fatalf("the authorization server answered %s and sent the browser to %q", resp.Status, back)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

func get(browser *http.Client, launch *smartauth.Launch) (*http.Response, error) {
	return browser.Get(launch.URL())
}

func post(browser *http.Client, launch *smartauth.Launch) (*http.Response, error) {
	return browser.PostForm(launch.Endpoint(), launch.Form())
}
