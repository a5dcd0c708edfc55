package smartauthtest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

// A backend service's token request, by hand. In a test, NewServer(t, nil)
// closes the server by itself.
func ExampleStart() {
	srv, err := smartauthtest.Start(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()
	srv.AddClient(smartauthtest.Client{ID: "my-app", Secrets: []string{"s3cret"}, Scopes: []string{"system/Patient.rs"}})

	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}}
	req, err := http.NewRequest(http.MethodPost, srv.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth("my-app", "s3cret")
	resp, err := srv.Client().Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	var token struct {
		Scope string
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(resp.StatusCode, token.Scope)
	// Output: 200 system/Patient.rs
}

// An outage to order, and what the server saw of it.
func ExampleServer_Fail() {
	srv := smartauthtest.NewUnstarted(nil)
	defer srv.Close()
	srv.Fail(smartauthtest.EndpointConfiguration, smartauthtest.Fault{Status: http.StatusServiceUnavailable, Times: 1})

	for range 2 {
		resp, err := srv.Client().Get(srv.ConfigurationURL)
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
	}
	for _, r := range srv.Requests() {
		fmt.Println(r.Endpoint, r.Status, r.Fault)
	}
	// Output:
	// configuration 503 true
	// configuration 200 false
}

// A browser launch: Authorize plays the browser and the user who agrees.
func ExampleServer_Authorize() {
	srv := smartauthtest.NewUnstarted(nil)
	defer srv.Close()
	srv.AddClient(smartauthtest.Client{ID: "my-app", RedirectURIs: []string{"https://app.example.org/callback"}})

	callback, err := srv.Authorize(context.Background(), srv.AuthorizeURL+"?"+url.Values{
		"response_type": {"code"}, "client_id": {"my-app"}, "redirect_uri": {"https://app.example.org/callback"},
		"scope": {"launch/patient patient/*.rs"}, "aud": {srv.URL}, "state": {"bL1yW3mQ0pTz7rXc9vNf2A"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}.Encode())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(callback.Host, callback.Query().Get("state"), callback.Query().Has("code"))
	// Output: app.example.org bL1yW3mQ0pTz7rXc9vNf2A true
}

// What was wrong with a request: here a client that must authenticate did not.
func ExampleServer_Requests() {
	srv := smartauthtest.NewUnstarted(nil)
	defer srv.Close()
	srv.AddClient(smartauthtest.Client{ID: "my-app", Secrets: []string{"s3cret"}})

	resp, err := srv.Client().PostForm(srv.TokenURL, url.Values{"grant_type": {"client_credentials"}, "client_id": {"my-app"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	for _, r := range srv.Requests() {
		fmt.Println(r.Endpoint, r.Status, r.Error, "-", r.Reason)
	}
	// Output: token 401 invalid_client - the client must authenticate
}
