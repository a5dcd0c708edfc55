package smartauthtest_test

import (
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

// A secret is rotated while the server runs: for a while it takes both.
func ExampleServer_SetSecrets() {
	srv := smartauthtest.NewUnstarted(nil)
	defer srv.Close()
	srv.AddClient(smartauthtest.Client{ID: "my-app", Secrets: []string{"old"}})
	srv.SetSecrets("my-app", "old", "new")
	srv.SetSecrets("my-app", "new")
}
