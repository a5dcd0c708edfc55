package provider

import (
	"context"
	"net/url"
)

// Public is the provider of a public client: client_id in the body and no
// proof. The zero value is ready for use.
type Public struct{}

var _ Provider = Public{}

// Authenticate implements [Provider] with one send.
func (Public) Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error {
	return send(ctx, NewCredential(CredentialOptions{
		Method: MethodNone,
		Params: url.Values{"client_id": {req.ClientID}},
	}))
}
