package fositetest

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/ory/fosite"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/smartauth"
)

// The scopes that clients may be granted.
var (
	SystemScopes = []string{"system/Patient.rs"}
	UserScopes   = []string{"openid", "fhirUser", "launch/patient", "patient/Patient.rs", "offline_access"}
)

// Registration is a client of this id that authenticates by method.
func Registration(id string, method provider.Method) *fosite.DefaultOpenIDConnectClient {
	return &fosite.DefaultOpenIDConnectClient{
		DefaultClient: &fosite.DefaultClient{
			ID:            id,
			RedirectURIs:  []string{RedirectURL},
			GrantTypes:    []string{"client_credentials", "authorization_code", "refresh_token"},
			ResponseTypes: []string{"code"},
			Scopes:        append(append([]string(nil), SystemScopes...), UserScopes...),
			Public:        method == provider.MethodNone,
		},
		TokenEndpointAuthMethod: string(method),
	}
}

// LogIn goes through the authorization code flow, with send as the browser.
func LogIn(t *testing.T, s *Server, client *smartauth.Client, send func(*http.Client, *smartauth.Launch) (*http.Response, error)) *smartauth.Token {
	t.Helper()
	launch, err := client.StartLaunch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := client.Exchange(t.Context(), launch, Callback(t, s, launch, send))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Callback sends the browser to the authorization server and returns the
// parameters with which it comes back.
func Callback(t *testing.T, s *Server, launch *smartauth.Launch, send func(*http.Client, *smartauth.Launch) (*http.Response, error)) url.Values {
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
	if back != RedirectURL {
		t.Fatalf("the authorization server answered %s and sent the browser to %q", resp.Status, back)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// Get sends the browser with the request in the URL.
func Get(browser *http.Client, launch *smartauth.Launch) (*http.Response, error) {
	return browser.Get(launch.URL())
}

// Post sends the browser with the request in a form.
func Post(browser *http.Client, launch *smartauth.Launch) (*http.Response, error) {
	return browser.PostForm(launch.Endpoint(), launch.Form())
}
