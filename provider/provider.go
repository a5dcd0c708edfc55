package provider

import "context"

// A Provider proves a client's identity to token endpoints. It serves any
// number of clients and servers; what it learns is kept per (ClientID, Server).
//
// A custom Provider can be one line: return send(ctx, credential), with a
// credential of [NewCredential].
//
// Implementations MUST be safe for concurrent use and honour ctx.
type Provider interface {
	// Authenticate calls send with a credential, which makes one request with
	// it. Only after send fails with an error that the provider's policy counts
	// as a refusal (by default [ErrInvalidClient] with a 4xx status) may it call
	// send again with another, at most req.MaxSends times in all; any other
	// error ends it and is returned. It never calls send concurrently, nor
	// after it returned.
	Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error
}

// A Request says for whom and to whom a client authenticates.
type Request struct {
	// ClientID is the client_id registered at the server.
	ClientID string
	// Server names the server entry, by its FHIR base URL. A credential belongs
	// to one.
	Server string
	// URL is the token endpoint, exactly as token requests are posted to it. It
	// is the same for introspection and revocation: an assertion's audience
	// names the authorization server, RFC 7523 section 3.
	URL string
	// Issuer is the authorization server's configured issuer; empty if none is
	// configured. It never comes out of a discovery document.
	Issuer string
	// Algorithms are the signing algorithms the server says that it takes;
	// empty if it does not say. They choose among keys and refuse none.
	Algorithms []string
	// GrantType is the grant_type; empty for requests that are not token
	// requests (introspection, revocation).
	GrantType string
	// MaxSends limits the calls of send; 0 is the provider's own limit (three,
	// two for a code or refresh token).
	MaxSends int
}
