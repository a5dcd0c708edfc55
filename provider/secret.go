package provider

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/smartcred/smartcred"
	"github.com/smartcred/smartcred/rotation"
	"github.com/smartcred/smartcred/secretsource"
)

// A SecretEncoding says how HTTP Basic carries client id and secret. Servers
// differ: RFC 6749 asks for form encoding, and many decode none.
type SecretEncoding string

const (
	// EncodingRFC6749 form-encodes both before base64: RFC 6749 section 2.3.1
	// and appendix B. The default.
	EncodingRFC6749 SecretEncoding = "rfc6749"
	// EncodingRaw base64-encodes both as they are: RFC 7617. The client id must
	// not have a colon.
	EncodingRaw SecretEncoding = "raw"
)

// SecretOptions configure [NewClientSecretBasic] and [NewClientSecretPost]. The
// zero value and nil are the defaults.
type SecretOptions struct {
	// Encoding is for Basic only; empty: [EncodingRFC6749].
	Encoding SecretEncoding
	// Cache is how long looked-up secrets are kept; nil: the defaults. It does
	// not apply to a source that is a [*secretsource.Cache] already.
	Cache *secretsource.CacheOptions
	// Rotation says what happens when a server refuses a secret; nil: the defaults.
	Rotation *RotationOptions
	// Observer is told of the events of Cache and Rotation, where these have none
	// of their own; nil: slog's default logger.
	Observer smartcred.Observer
}

// ClientSecretBasic authenticates with a client secret in the Authorization
// header: RFC 6749 section 2.3.1. When a server refuses the current secret, the
// next one is tried: see package rotation. It is safe for concurrent use.
type ClientSecretBasic struct {
	secrets  *secrets
	encoding SecretEncoding
}

// ClientSecretPost authenticates with a client secret in the request's body:
// RFC 6749 section 2.3.1. When a server refuses the current secret, the next one
// is tried: see package rotation. It is safe for concurrent use.
type ClientSecretPost struct {
	secrets *secrets
}

var (
	_ Rotator   = (*ClientSecretBasic)(nil)
	_ Rotator   = (*ClientSecretPost)(nil)
	_ io.Closer = (*ClientSecretBasic)(nil)
	_ io.Closer = (*ClientSecretPost)(nil)
)

// NewClientSecretBasic returns a provider that looks the secret up in source.
// A source that is no [*secretsource.Cache] is wrapped in one.
func NewClientSecretBasic(source secretsource.Source, opts *SecretOptions) (*ClientSecretBasic, error) {
	var o SecretOptions
	if opts != nil {
		o = *opts
	}
	switch o.Encoding {
	case "":
		o.Encoding = EncodingRFC6749
	case EncodingRFC6749, EncodingRaw:
	default:
		return nil, &smartcred.ConfigError{Option: "secret_encoding", Problem: fmt.Sprintf("unknown encoding %q: use rfc6749 or raw", o.Encoding)}
	}
	s, err := newSecrets(MethodClientSecretBasic, source, o)
	if err != nil {
		return nil, err
	}
	return &ClientSecretBasic{secrets: s, encoding: o.Encoding}, nil
}

// NewClientSecretPost returns a provider that looks the secret up in source.
// A source that is no [*secretsource.Cache] is wrapped in one.
func NewClientSecretPost(source secretsource.Source, opts *SecretOptions) (*ClientSecretPost, error) {
	var o SecretOptions
	if opts != nil {
		o = *opts
	}
	s, err := newSecrets(MethodClientSecretPost, source, o)
	if err != nil {
		return nil, err
	}
	return &ClientSecretPost{secrets: s}, nil
}

// Authenticate implements [Provider].
func (p *ClientSecretBasic) Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error {
	return p.secrets.authenticate(ctx, req, send, func(secret secretsource.Secret) (CredentialOptions, error) {
		value := secret.Reveal()
		header, err := basicHeader(req.ClientID, string(value), p.encoding)
		return CredentialOptions{
			Method:    MethodClientSecretBasic,
			Header:    http.Header{"Authorization": {header}},
			Sensitive: [][]byte{value, []byte(strings.TrimPrefix(header, "Basic "))},
		}, err
	})
}

// Authenticate implements [Provider].
func (p *ClientSecretPost) Authenticate(ctx context.Context, req Request, send func(context.Context, Credential) error) error {
	return p.secrets.authenticate(ctx, req, send, func(secret secretsource.Secret) (CredentialOptions, error) {
		value := secret.Reveal()
		return CredentialOptions{
			Method:    MethodClientSecretPost,
			Params:    url.Values{"client_id": {req.ClientID}, "client_secret": {string(value)}},
			Sensitive: [][]byte{value},
		}, nil
	})
}

// Check implements [Checker].
func (p *ClientSecretBasic) Check(ctx context.Context, identity string) error {
	return p.secrets.check(ctx, identity)
}

// Check implements [Checker].
func (p *ClientSecretPost) Check(ctx context.Context, identity string) error {
	return p.secrets.check(ctx, identity)
}

// Status implements [Rotator].
func (p *ClientSecretBasic) Status(ctx context.Context, clientID, server string) Status {
	return p.secrets.status(ctx, rotation.Scope{ClientID: clientID, Server: server})
}

// Status implements [Rotator].
func (p *ClientSecretPost) Status(ctx context.Context, clientID, server string) Status {
	return p.secrets.status(ctx, rotation.Scope{ClientID: clientID, Server: server})
}

// Reset implements [Rotator].
func (p *ClientSecretBasic) Reset(ctx context.Context, clientID, server string) {
	p.secrets.rotator.engine.Reset(ctx, rotation.Scope{ClientID: clientID, Server: server})
}

// Reset implements [Rotator].
func (p *ClientSecretPost) Reset(ctx context.Context, clientID, server string) {
	p.secrets.rotator.engine.Reset(ctx, rotation.Scope{ClientID: clientID, Server: server})
}

// SetRevoked implements [Rotator].
func (p *ClientSecretBasic) SetRevoked(_ context.Context, revoked []string) {
	p.secrets.rotator.setRevoked(revoked)
}

// SetRevoked implements [Rotator].
func (p *ClientSecretPost) SetRevoked(_ context.Context, revoked []string) {
	p.secrets.rotator.setRevoked(revoked)
}

// Close ends look-ups in flight and closes the source if it is an [io.Closer].
func (p *ClientSecretBasic) Close() error { return p.secrets.cache.Close() }

// Close ends look-ups in flight and closes the source if it is an [io.Closer].
func (p *ClientSecretPost) Close() error { return p.secrets.cache.Close() }

var errColon = errors.New("client id has a colon, which the raw encoding of HTTP Basic can't carry: use secret_encoding rfc6749 or client_secret_post")

func basicHeader(id, secret string, encoding SecretEncoding) (string, error) {
	if encoding == EncodingRaw {
		if strings.Contains(id, ":") {
			return "", &smartcred.ConfigError{Option: "secret_encoding", Problem: "provider: build Basic header", Err: errColon}
		}
	} else {
		id, secret = formEncode(id), formEncode(secret)
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+secret)), nil
}

// formEncode is application/x-www-form-urlencoded as the WHATWG defines it,
// where net/url differs on two characters.
func formEncode(s string) string { return whatwg.Replace(url.QueryEscape(s)) }

var whatwg = strings.NewReplacer("~", "%7E", "%2A", "*")
