package smartauth

import (
	"context"
	"fmt"

	"github.com/smartcred/smartcred/provider"
)

// Revoke makes the server forget token (RFC 7009): its refresh token if it has
// one, with which most servers end all access tokens of the grant, else its
// access token. The client authenticates as for a token request. A token that
// the server does not know counts as revoked. A token source that serves token
// goes on doing so: see [TokenSource.Drop].
//
// Errors are those of [Client.Introspect]. After one, the token may still be good.
func (c *Client) Revoke(ctx context.Context, token *Token) error {
	r := &sideRequest{
		op: "revocation", name: "revocation_endpoint", token: token.RefreshToken(), hint: "refresh_token",
		endpoint: func(doc *Configuration) string { return doc.RevocationEndpoint },
	}
	if r.token == "" {
		r.token, r.hint = token.AccessToken(), "access_token"
	}
	if r.token == "" {
		return fmt.Errorf("smartauth: revocation: there is no token: %w", provider.ErrInvalidRequest)
	}
	return c.sendSide(ctx, r, func(*answer) error { return nil })
}
