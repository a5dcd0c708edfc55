package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/smartcred/smartcred/provider"
	"github.com/smartcred/smartcred/signer"
	"github.com/smartcred/smartcred/smartauth"
)

func (a *app) assertion() *cobra.Command {
	var live bool
	cmd := &cobra.Command{
		Use:   "assertion",
		Short: "Print the client assertion that would be sent",
		Long: `Assertion prints the header and the claims of the JWT that a token request
would carry, without signing it. Where token_endpoint is stated it does so
without a network. With --live it signs, and prints the JWT alone: that is a
credential until it expires.`,
		Example: `  smartcred assertion --config smartcred.yaml
  smartcred assertion --signer file:key.pem --client-id my-app \
      --token-endpoint https://auth.example.com/token`,
	}
	cmd.Flags().BoolVar(&live, "live", false, "sign, and print the JWT instead")
	a.withConfiguration(cmd, needEndpoint|needClient|needAssertion, func(ctx context.Context, o *session) error {
		req, err := o.tokenRequest(ctx)
		if err != nil {
			return err
		}
		jwt := o.provider.(*provider.PrivateKeyJWT) // needAssertion
		assertion, key, err := jwt.Assertion(ctx, req)
		if err != nil {
			return err
		}
		if live {
			signed, _, err := assertion.Sign(ctx, o.keys, key)
			if err != nil {
				return &provider.CredentialError{Op: "sign assertion", Err: err}
			}
			return a.print([]byte(signed + "\n"))
		}
		header, claims, err := assertion.Preview(key)
		if err != nil {
			return err
		}
		return a.printJSON(struct {
			Header map[string]any `json:"header"`
			Claims signer.Claims  `json:"claims"`
		}{header, claims})
	})
	return cmd
}

// tokenRequest is what a token request would tell a provider: discovered, unless
// the token endpoint is stated.
func (o *session) tokenRequest(ctx context.Context) (provider.Request, error) {
	// A server that nobody named goes by its token endpoint.
	o.baseURL = cmp.Or(o.baseURL, o.tokenEndpoint)
	client, asked, err := o.askingClient()
	if err != nil {
		return provider.Request{}, err
	}
	defer client.Close()
	return asked.request(ctx, client)
}

var errAsked = errors.New("the request was kept, and not made")

// asking is a provider that keeps what it was asked for and sends nothing.
type asking struct{ req provider.Request }

// askingClient returns a client that goes as far as the token endpoint's name.
func (o *session) askingClient() (*smartauth.Client, *asking, error) {
	if len(o.scopes) == 0 {
		o.scopes = []string{"system/*.rs"} // for nobody: nothing is sent
	}
	asked := new(asking)
	client, err := o.client(asked)
	return client, asked, err
}

func (a *asking) request(ctx context.Context, client *smartauth.Client) (provider.Request, error) {
	if _, err := client.Token(ctx); !errors.Is(err, errAsked) {
		return provider.Request{}, err
	}
	return a.req, nil
}

func (a *asking) Authenticate(_ context.Context, req provider.Request, _ func(context.Context, provider.Credential) error) error {
	a.req = req
	return errAsked
}
