package provider

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/signer"
)

// assertionType is RFC 7523 section 2.2's client_assertion_type.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Values of [PrivateKeyJWTOptions].Audience that are no literal audience.
const (
	AudienceTokenEndpoint = "token_endpoint" // the URL that the request is posted to
	AudienceIssuer        = "issuer"         // the configured issuer, never a discovered one
)

// PrivateKeyJWTOptions configure [NewPrivateKeyJWT]. The zero value and nil are
// what SMART App Launch asks for.
type PrivateKeyJWTOptions struct {
	// JKU is the URL of the client's JWK Set as it was registered, for the jku
	// header member; empty: none.
	JKU string
	// Audience is the assertion's aud: [AudienceTokenEndpoint] (the default),
	// [AudienceIssuer], or any other text as it is.
	Audience string
	// AudienceScheme replaces the scheme of an aud that is a URL, for servers
	// behind a proxy that ends TLS: "http" or "https". Only the claim changes:
	// requests go to the real URL.
	AudienceScheme string
	// Lifetime is the time to exp; 0: 4 minutes. Over 5 minutes is an error.
	Lifetime time.Duration
	// Header holds further header members, x5c for example.
	Header map[string]any
	// KeySet configures the [signer.KeySet] that a signer is wrapped in; nil: the
	// defaults. It does not apply to a signer that is one already.
	KeySet *signer.KeySetOptions
	// Rotation says what happens when a server refuses a key; nil: the defaults.
	Rotation *RotationOptions
	// Observer is told of the events of KeySet and Rotation, where these have
	// none of their own; nil: slog's default logger.
	Observer smartcred.Observer
}

// PrivateKeyJWT authenticates with a JWT signed by a private key: RFC 7523 as
// SMART App Launch's client-confidential-asymmetric profiles it. Each send gets
// a new assertion. When a server refuses the current key, the next one is tried:
// see package rotation. It is safe for concurrent use.
type PrivateKeyJWT struct {
	keys    *signer.KeySet
	opts    PrivateKeyJWTOptions
	rotator *rotator[signer.Candidate]
}

var (
	_ Rotator   = (*PrivateKeyJWT)(nil)
	_ io.Closer = (*PrivateKeyJWT)(nil)
)

// NewPrivateKeyJWT returns a provider that signs with the keys of s. Hand it the
// [*signer.KeySet] that serves your JWK Set, so that both agree; any other
// signer is wrapped in one.
func NewPrivateKeyJWT(s signer.Signer, opts *PrivateKeyJWTOptions) (*PrivateKeyJWT, error) {
	if s == nil {
		return nil, &smartcred.ConfigError{Option: "signer", Problem: "no signer given"}
	}
	p := new(PrivateKeyJWT)
	if opts != nil {
		p.opts = *opts
		p.opts.Header = maps.Clone(opts.Header)
	}
	switch p.opts.AudienceScheme {
	case "", "http", "https":
	default:
		return nil, &smartcred.ConfigError{Option: "audience_scheme", Problem: fmt.Sprintf("%q is neither http nor https", p.opts.AudienceScheme)}
	}
	if p.opts.Audience == "" {
		p.opts.Audience = AudienceTokenEndpoint
	}
	var err error
	if p.rotator, err = newRotator[signer.Candidate](MethodPrivateKeyJWT, p.opts.Rotation, p.opts.Observer); err != nil {
		return nil, err
	}
	p.rotator.hopeless = explainedBySkew
	keys, ok := s.(*signer.KeySet)
	revoked := *p.rotator.revoked.Load()
	switch {
	case !ok:
		if keys, err = newKeySet(s, p.opts, p.rotator.opts.Previous == PreviousNever, revoked); err != nil {
			return nil, fmt.Errorf("provider: new private_key_jwt: %w", err)
		}
	case len(revoked) > 0:
		return nil, &smartcred.ConfigError{Option: "revoked", Problem: "a key set has its own list: use KeySetOptions.Revoked or KeySet.SetRevoked"}
	}
	p.keys = keys
	// With stand-ins for what a request brings, so that a wrong option is said now.
	if err := p.assertion("client", "https://localhost").Check(); err != nil {
		return nil, fmt.Errorf("provider: new private_key_jwt: %w", err)
	}
	return p, nil
}

func newKeySet(s signer.Signer, opts PrivateKeyJWTOptions, withoutPrevious bool, revoked []string) (*signer.KeySet, error) {
	var o signer.KeySetOptions
	if opts.KeySet != nil {
		o = *opts.KeySet
	}
	if o.Observer == nil {
		o.Observer = opts.Observer
	}
	o.Revoked = slices.Concat(o.Revoked, revoked)
	o.WithoutPrevious = o.WithoutPrevious || withoutPrevious
	return signer.NewKeySet(s, &o)
}

// Authenticate implements [Provider].
func (p *PrivateKeyJWT) Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error {
	audience, err := p.audience(req)
	if err != nil {
		return err
	}
	candidates := &keyCandidates{PrivateKeyJWT: p, algorithms: req.Algorithms}
	return p.rotator.do(ctx, req, candidates, func(ctx context.Context, c signer.Candidate) error {
		jwt, jti, err := p.assertion(req.ClientID, audience).Sign(ctx, p.keys, c.Key)
		if err != nil {
			return asNotSent(err)
		}
		return send(ctx, NewCredential(CredentialOptions{
			Method: MethodPrivateKeyJWT, Version: c.Key.Version, KeyID: c.Key.ID, JTI: jti, Identity: c.Thumbprint,
			Params:    url.Values{"client_assertion_type": {assertionType}, "client_assertion": {jwt}},
			Sensitive: [][]byte{[]byte(jwt)},
		}))
	})
}

// Assertion returns what would be signed for req now, and by which key, without
// signing it: [signer.Assertion.Preview] shows its header and claims.
func (p *PrivateKeyJWT) Assertion(ctx context.Context, req Request) (signer.Assertion, signer.Key, error) {
	audience, err := p.audience(req)
	if err != nil {
		return signer.Assertion{}, signer.Key{}, err
	}
	key, err := p.keys.Signing(ctx, req.Algorithms)
	if err != nil {
		return signer.Assertion{}, signer.Key{}, &CredentialError{Op: "choose signing key", Err: err}
	}
	return p.assertion(req.ClientID, audience), key, nil
}

// Status implements [Rotator].
func (p *PrivateKeyJWT) Status(ctx context.Context, clientID, server string) Status {
	return Status{
		Status:   p.rotator.engine.Status(ctx, rotation.Scope{ClientID: clientID, Server: server}),
		Degraded: p.keys.Stale(),
	}
}

// Reset implements [Rotator].
func (p *PrivateKeyJWT) Reset(ctx context.Context, clientID, server string) {
	p.rotator.engine.Reset(ctx, rotation.Scope{ClientID: clientID, Server: server})
}

// SetRevoked implements [Rotator], by [signer.KeySet.SetRevoked].
func (p *PrivateKeyJWT) SetRevoked(ctx context.Context, revoked []string) {
	p.keys.SetRevoked(ctx, revoked)
}

// KeySet returns the keys that p signs with, for serving them.
func (p *PrivateKeyJWT) KeySet() *signer.KeySet { return p.keys }

// Close closes the key set, and with it the signer if it is an [io.Closer].
func (p *PrivateKeyJWT) Close() error { return p.keys.Close() }

func (p *PrivateKeyJWT) assertion(clientID, audience string) signer.Assertion {
	return signer.Assertion{
		ClientID: clientID, Audience: audience,
		Lifetime: p.opts.Lifetime, JKU: p.opts.JKU, Header: p.opts.Header,
	}
}

func (p *PrivateKeyJWT) audience(req Request) (string, error) {
	audience := p.opts.Audience
	switch audience {
	case AudienceTokenEndpoint:
		audience = req.URL
	case AudienceIssuer:
		if req.Issuer == "" {
			return "", &smartcred.ConfigError{Option: "audience", Problem: "is issuer, and no issuer is configured"}
		}
		audience = req.Issuer
	}
	if p.opts.AudienceScheme == "" {
		return audience, nil
	}
	u, err := url.Parse(audience)
	if err != nil || u.Host == "" {
		return "", &smartcred.ConfigError{Option: "audience_scheme", Problem: "is set, and the audience is no URL"}
	}
	u.Scheme = p.opts.AudienceScheme
	return u.String(), nil
}
