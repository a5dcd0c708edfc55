package provider_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/secretsource"
)

// A provider chosen from what a configuration has.
func ExampleNew() {
	p, err := provider.New(provider.Config{
		Method: provider.MethodClientSecretBasic,
		Secret: secretsource.Static([]byte("example")), // a real one stays in its store: see secretsource.Open
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = p.Authenticate(context.Background(), provider.Request{ClientID: "my-app", URL: "https://ehr.example.com/token"},
		func(_ context.Context, cred provider.Credential) error {
			header, form := http.Header{}, url.Values{"grant_type": {"client_credentials"}}
			cred.Apply(header, form) // smartauth does this, and posts the form
			fmt.Println(cred, form.Encode())
			return nil
		})
	fmt.Println(err)
	// Output:
	// client_secret_basic [redacted] grant_type=client_credentials
	// <nil>
}

// gatewayKey is a provider of one's own: an API gateway wants a header more.
type gatewayKey struct{ key func() string }

func (g gatewayKey) Authenticate(ctx context.Context, req provider.Request, send func(context.Context, provider.Credential) error) error {
	key := g.key()
	return send(ctx, provider.NewCredential(provider.CredentialOptions{
		Method:    "gateway_key",
		Header:    http.Header{"X-Api-Key": {key}},
		Params:    url.Values{"client_id": {req.ClientID}},
		Sensitive: [][]byte{[]byte(key)},
	}))
}

func ExampleNewCredential() {
	var p provider.Provider = gatewayKey{key: func() string { return "looked up somewhere" }}
	err := p.Authenticate(context.Background(), provider.Request{ClientID: "my-app"}, func(_ context.Context, cred provider.Credential) error {
		fmt.Println(cred)
		return nil
	})
	fmt.Println(err)
	// Output:
	// gateway_key [redacted]
	// <nil>
}
