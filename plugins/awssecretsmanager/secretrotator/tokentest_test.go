package secretrotator_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/plugins/awssecretsmanager/secretrotator"
	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
	"github.com/smartcred/smartcred/smartauth"
	"github.com/smartcred/smartcred/smartauth/smartauthtest"
)

func TestTokenTest(t *testing.T) {
	const good, bad = "good", "bad"
	tests := []struct {
		name    string
		request secretrotator.TestRequest
		method  provider.Method
		grants  []string // of the client
		secret  string
		fault   *smartauthtest.Fault
		want    error // nil: it passes; errAny: an error that is no refusal
	}{
		{name: "taken", secret: good},
		{name: "taken in the body", method: provider.MethodClientSecretPost, secret: good},
		{name: "refused", secret: bad, want: secretrotator.ErrRefused},
		{name: "another grant's client", grants: []string{"authorization_code"}, secret: good, want: errAny},
		{name: "unauthorized_client", request: secretrotator.TestUnauthorizedClient, grants: []string{"authorization_code"}, secret: good},
		{name: "unauthorized_client, refused", request: secretrotator.TestUnauthorizedClient, grants: []string{"authorization_code"}, secret: bad, want: secretrotator.ErrRefused},
		{name: "introspection", request: secretrotator.TestIntrospection, grants: []string{"authorization_code"}, secret: good},
		{name: "introspection, refused", request: secretrotator.TestIntrospection, grants: []string{"authorization_code"}, secret: bad, want: secretrotator.ErrRefused},
		{name: "the server is in trouble", secret: good, fault: &smartauthtest.Fault{Status: 503}, want: errAny},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			srv := smartauthtest.NewServer(t, nil)
			srv.AddClient(smartauthtest.Client{ID: clientID, Secrets: []string{good}, Scopes: []string{scope}, GrantTypes: test.grants, RedirectURIs: []string{"https://app.example.org/cb"}})
			if test.fault != nil {
				srv.Fail(smartauthtest.EndpointToken, *test.fault)
			}
			probe, err := secretrotator.NewTokenTest(smartauth.Config{
				BaseURL: srv.URL, ClientID: clientID, Scopes: []string{scope}, AllowInsecureLoopback: true, Observer: smartcred.Discard,
			}, &secretrotator.TokenTestOptions{Request: test.request, Method: test.method})
			if err != nil {
				t.Fatal(err)
			}
			err = probe.Test(t.Context(), secretrotator.Change{Current: secretsource.New([]byte("old"), ""), Pending: secretsource.New([]byte(test.secret), "")})
			switch {
			case test.want == nil && err != nil, test.want != nil && err == nil, (test.want == secretrotator.ErrRefused) != errors.Is(err, secretrotator.ErrRefused):
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

var errAny = errors.New("any")

func TestNewTokenTestSaysAllThatIsWrong(t *testing.T) {
	_, err := secretrotator.NewTokenTest(smartauth.Config{}, &secretrotator.TokenTestOptions{Request: "x", Method: "y"})
	for _, option := range []string{"test", "auth_method", "scopes"} {
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), option+": ") {
			t.Errorf("%s is not in %v", option, err)
		}
	}
	_, err = secretrotator.NewTokenTest(smartauth.Config{}, nil)
	for _, option := range []string{"base_url", "client_id", "scopes"} {
		if !errors.Is(err, smartcred.ErrInvalidConfig) || !strings.Contains(err.Error(), option+": ") {
			t.Errorf("%s is not in %v", option, err)
		}
	}
}
